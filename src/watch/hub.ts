import { SYSTEM_PREFIX } from "../protocol/bucket-names.ts";
import { closeCodes } from "../protocol/close-codes.ts";
import { KvError } from "../protocol/errors.ts";
import type { ResetReason } from "../protocol/messages.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import type { FeedLease } from "../store/feeds.ts";
import { Channel } from "./channel.ts";
import { HubResources, type HubOptions } from "./hub-resources.ts";
import type { WatchHandle, WatchOptions, WatchSocket } from "./watch.ts";

export type { HubOptions } from "./hub-resources.ts";

/** A bucket that can be watched. */
export interface Prepared {
  /**
   * Begins a watch. Frames, or the watch's end, can come before this returns.
   *
   * @param socket the same object for all watches of a multiplexed socket
   */
  attach(options: WatchOptions, socket: WatchSocket): WatchHandle;
}

/** Where a channel gets its bucket. */
interface Source {
  open(): Promise<Bucket>;
  follow(channel: Channel): Promise<FeedLease>;
}

/** Figures of a hub: what is counted, since it began; the rest as it is now. */
export interface HubStats {
  /** Watches that are open. */
  watches: number;
  /** Changes that were handed to sockets, each counted once per watch. */
  deliveries: number;
  /** Frames that newer ones of the same keys replaced before they were sent. */
  conflations: number;
  /** Watches that had to start over, by reason. */
  resets: Readonly<Record<ResetReason, number>>;
  /** Frames that wait for slow sockets, in bytes. */
  outboxBytes: number;
  /** Times that more waited for a watch than may. */
  overflows: number;
  /** Recent changes that are kept, in bytes. */
  ringBytes: number;
  /**
   * The buckets that are followed: how many changes the server had still to send at the last one's arrival, and how old that was,
   * in milliseconds.
   */
  feeds: { bucket: string; lagEvents: number; lagMs: number }[];
}

/**
 * Brings changes of buckets to any number of watchers, through one feed per bucket.
 *
 * @example
 * const hub = new Hub(buckets);
 * const prepared = await hub.prepare("settings");
 * const watch = prepared.attach({ patterns: [everyKey], include: "snapshot", values: true }, socket);
 * watch.close();
 */
export class Hub {
  readonly #buckets: Buckets;
  readonly #resources: HubResources;
  readonly #channels = new Map<string, Promise<Channel>>();
  /** The same channels, as soon as they begin to open. */
  readonly #current = new Map<string, Channel>();
  readonly #idle = new Map<Channel, NodeJS.Timeout>();
  readonly #offDeleted: () => void;
  #closed = false;

  constructor(buckets: Buckets, options: HubOptions = {}) {
    this.#buckets = buckets;
    this.#resources = new HubResources(options);
    this.#offDeleted = buckets.onDeleted((name) => {
      void this.#channels.get(name)?.then(
        (channel) => channel.feed.bucketDeleted(),
        () => undefined,
      );
    });
  }

  /**
   * Makes ready to watch a bucket: after this resolves, {@link Prepared.attach} cannot fail for want of the bucket.
   * Split in two so that a watch can be refused before its socket is upgraded.
   *
   * @throws KvError `bucket_not_found`, `store_unavailable`, `shutting_down`
   */
  prepare(name: string): Promise<Prepared> {
    return this.#prepare(name, {
      open: () => this.#buckets.open(name),
      follow: (channel) => this.#buckets.follow(name, channel),
    });
  }

  /**
   * The same for a bucket of the gateway's own.
   *
   * @param name as it is stored, beginning with `SYS_`
   */
  prepareSystem(name: string): Promise<Prepared> {
    return this.#prepare(name, {
      open: () => this.#buckets.openSystem(name),
      follow: (channel) => this.#buckets.followSystem(name, channel),
    });
  }

  async #prepare(name: string, source: Source): Promise<Prepared> {
    if (this.#closed)
      throw new KvError("shutting_down", "this gateway is shutting down", { retryAfter: 1 });
    const { epoch } = await source.open();
    let opening = this.#channels.get(name);
    if (opening === undefined) {
      opening = this.#openChannel(name, source);
      this.#channels.set(name, opening);
    }
    const channel = await opening;
    // The bucket was deleted and created again, and the news of it has not come yet.
    if (channel.bucket.epoch !== epoch) await channel.feed.bucketDeleted();
    if (channel.feed.hasEnded) return this.#prepare(name, source);
    if (channel.size === 0) this.#rest(channel);
    const present = await channel.present();
    if (channel.hasEnded) return this.#prepare(name, source);
    return {
      attach: (options, socket) => {
        clearTimeout(this.#idle.get(channel));
        this.#idle.delete(channel);
        return channel.join(options, socket, present);
      },
    };
  }

  stats(): HubStats {
    const { counters, outboxes, rings } = this.#resources;
    const stats: HubStats = {
      watches: 0,
      ...counters,
      resets: { ...counters.resets },
      outboxBytes: outboxes.bytes,
      ringBytes: rings.bytes,
      feeds: [],
    };
    for (const channel of this.#current.values()) {
      stats.watches += channel.size;
      // The gateway's own buckets are nobody's business.
      if (!channel.hasStarted || channel.bucketName.startsWith(SYSTEM_PREFIX)) continue;
      const { events, ms } = channel.feed.lag;
      stats.feeds.push({ bucket: channel.bucketName, lagEvents: events, lagMs: ms });
    }
    return stats;
  }

  /** Ends every watch with 1001: clients go to another gateway at once. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#offDeleted();
    for (const timer of this.#idle.values()) clearTimeout(timer);
    for (const opening of [...this.#channels.values()]) {
      const channel = await opening.catch(() => undefined);
      channel?.close(closeCodes.goingAway, "this gateway is shutting down: connect again");
    }
    this.#channels.clear();
    this.#current.clear();
    this.#resources.stalls.close();
  }

  async #openChannel(name: string, source: Source): Promise<Channel> {
    const channel: Channel = new Channel(
      name,
      this.#resources,
      () => this.#rest(channel),
      () => this.#drop(channel),
    );
    this.#current.set(name, channel);
    try {
      channel.start(await source.follow(channel));
    } catch (error) {
      this.#drop(channel);
      channel.close(closeCodes.overloaded, "the bucket cannot be followed");
      throw error;
    }
    return channel;
  }

  /** Closes a channel that nobody watches, after a while. */
  #rest(channel: Channel): void {
    const { bucketName } = channel;
    if (this.#closed || this.#current.get(bucketName) !== channel) return;
    clearTimeout(this.#idle.get(channel));
    const timer = setTimeout(() => {
      this.#drop(channel);
      channel.close(closeCodes.goingAway, "the watch went idle: connect again");
    }, this.#resources.linger);
    this.#idle.set(channel, timer.unref());
  }

  #drop(channel: Channel): void {
    clearTimeout(this.#idle.get(channel));
    this.#idle.delete(channel);
    // Under the name may be a later channel by now: the bucket was created again and is watched again.
    const { bucketName } = channel;
    if (this.#current.get(bucketName) === channel) {
      this.#current.delete(bucketName);
      this.#channels.delete(bucketName);
    }
  }
}
