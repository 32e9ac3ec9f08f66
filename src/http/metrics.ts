import { collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";
import { resetReasons } from "../protocol/messages.ts";
import type { WatchStats } from "./watch.ts";

/** Buckets that have figures of their own: those that are furthest behind. A label per bucket must not grow without end. */
const BUCKETS = 50;

/** What is told. */
export interface GatewayStats extends WatchStats {
  /** Records that the audit had no room for. */
  auditDropped: number;
  /** Requests that were refused because there were too many. */
  rateLimited: number;
}

/** Figures of the process, which all gateways in it share. Begun by the first who asks, since they cost something to keep. */
let processMetrics: Registry | undefined;

/**
 * What a gateway tells Prometheus. Nothing is counted for it: all figures are taken from where they are kept anyway, when
 * somebody asks.
 *
 * @example
 * new GatewayMetrics(() => watches.stats()).text(true); // "# HELP jetbucket_sockets …"
 */
export class GatewayMetrics {
  readonly #read: () => GatewayStats;
  readonly #own = new Registry();
  /** Apart, because not everybody may know which buckets there are. */
  readonly #buckets = new Registry();
  readonly #sockets = this.#gauge(
    "jetbucket_sockets",
    "Watch sockets that are open: WebSockets of one bucket, multiplexed ones, streams of server-sent events.",
    ["kind"],
  );
  readonly #watches = this.#gauge("jetbucket_watches", "Watches that are open.");
  readonly #outbox = this.#gauge(
    "jetbucket_outbox_bytes",
    "Frames that wait for clients that do not keep up, in bytes.",
  );
  readonly #ring = this.#gauge(
    "jetbucket_ring_bytes",
    "Recent changes that are kept so that clients can go on where they were, in bytes.",
  );
  readonly #feeds = this.#gauge("jetbucket_feeds", "Buckets that are followed for watches.");
  readonly #lagEvents = this.#gauge(
    "jetbucket_feed_lag_events",
    `Changes of a bucket that JetStream has and the gateway has not got yet; of the ${BUCKETS} buckets that are furthest behind.`,
    ["bucket"],
    this.#buckets,
  );
  readonly #lagSeconds = this.#gauge(
    "jetbucket_feed_lag_seconds",
    `Age of a bucket's last change when the gateway got it; of the ${BUCKETS} buckets that are furthest behind.`,
    ["bucket"],
    this.#buckets,
  );
  readonly #lagEventsMax = this.#gauge(
    "jetbucket_feed_lag_events_max",
    "The same, of the bucket that is furthest behind.",
  );
  readonly #lagSecondsMax = this.#gauge(
    "jetbucket_feed_lag_seconds_max",
    "The same, of the bucket that is furthest behind.",
  );
  readonly #deliveries = this.#counter(
    "jetbucket_deliveries_total",
    "Changes that were handed to sockets, each counted once per watch.",
  );
  readonly #conflations = this.#counter(
    "jetbucket_conflations_total",
    "Changes that a newer one of the same key replaced before a slow client could take them.",
  );
  readonly #overflows = this.#counter(
    "jetbucket_outbox_overflows_total",
    "Times that more waited for a client than may, so that it had to start over or was closed.",
  );
  readonly #auditDropped = this.#counter(
    "jetbucket_audit_dropped_total",
    "Records of the audit that were dropped because too many waited to be stored.",
  );
  readonly #rateLimited = this.#counter(
    "jetbucket_rate_limited_total",
    "Requests that were refused because there were too many of a principal, or from an address.",
  );
  readonly #resets = this.#counter(
    "jetbucket_resets_total",
    "Watches that could not go on where they were and got a new snapshot, by reason.",
    ["reason"],
  );

  /** @param read takes the figures; called once per answer */
  constructor(read: () => GatewayStats) {
    this.#read = read;
  }

  get contentType(): string {
    return this.#own.contentType;
  }

  /**
   * Everything as it is now, in Prometheus's text format.
   *
   * @param namesBuckets whether figures are shown that have a bucket's name as a label
   */
  async text(namesBuckets: boolean): Promise<string> {
    processMetrics ??= ofProcess();
    this.#update(this.#read());
    const registries = [this.#own, ...(namesBuckets ? [this.#buckets] : []), processMetrics];
    return Registry.merge(registries).metrics();
  }

  #update(stats: GatewayStats): void {
    for (const [kind, count] of Object.entries(stats.sockets)) this.#sockets.set({ kind }, count);
    this.#watches.set(stats.watches);
    this.#outbox.set(stats.outboxBytes);
    this.#ring.set(stats.ringBytes);
    this.#feeds.set(stats.feeds.length);
    this.#updateLag(stats.feeds);
    set(this.#deliveries, stats.deliveries);
    set(this.#conflations, stats.conflations);
    set(this.#overflows, stats.overflows);
    set(this.#auditDropped, stats.auditDropped);
    set(this.#rateLimited, stats.rateLimited);
    this.#resets.reset();
    for (const reason of resetReasons) this.#resets.inc({ reason }, stats.resets[reason]);
  }

  #updateLag(feeds: WatchStats["feeds"]): void {
    const worst = [...feeds]
      .sort((a, b) => b.lagEvents - a.lagEvents || b.lagMs - a.lagMs)
      .slice(0, BUCKETS);
    this.#lagEvents.reset();
    this.#lagSeconds.reset();
    for (const { bucket, lagEvents, lagMs } of worst) {
      this.#lagEvents.set({ bucket }, lagEvents);
      this.#lagSeconds.set({ bucket }, lagMs / 1000);
    }
    this.#lagEventsMax.set(Math.max(0, ...feeds.map(({ lagEvents }) => lagEvents)));
    this.#lagSecondsMax.set(Math.max(0, ...feeds.map(({ lagMs }) => lagMs / 1000)));
  }

  #gauge<L extends string = never>(
    name: string,
    help: string,
    labelNames: L[] = [],
    registry: Registry = this.#own,
  ): Gauge<L> {
    return new Gauge({ name, help, labelNames, registers: [registry] });
  }

  #counter<L extends string = never>(name: string, help: string, labelNames: L[] = []): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.#own] });
  }
}

/** Makes a counter what was counted elsewhere. */
function set(counter: Counter<never>, value: number): void {
  counter.reset();
  counter.inc(value);
}

function ofProcess(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}
