/**
 * A feed brings every change of one bucket, in order, once, and the changes of a transaction together. It is the one consumer
 * that a gateway has on a bucket, however many watch it.
 *
 *     starting ──> current ──> stale ──> current        (connection lost, consumer lost, a gap)
 *                     └──────────┴─────> ended          (bucket deleted or created again, or closed)
 *
 * After a loss it goes on behind the last change it has seen. When something was removed from the stream meanwhile (an
 * expired key's marker, for instance) it cannot be read any more, so the feed compares the keys it knew with those that are
 * there and reports the ones that went as deletes.
 */
import { createInbox, nuid, type Msg, type Subscription } from "nats";
import { KvError } from "../protocol/errors.ts";
import { decodeKey, encodeKey } from "../protocol/keys.ts";
import type { Bucket } from "./bucket.ts";
import {
  codes,
  JetStreamError,
  type ConsumerInfo,
  type JetStream,
  type StreamInfo,
} from "./jetstream.ts";
import type { IndexBudget } from "./index-budget.ts";
import { bucketNotFound, kvErrorOf } from "./errors.ts";
import { KeyIndex } from "./key-index.ts";
import { EventBuilder, type Change, type FeedEvent } from "./feed-event.ts";
import { headersOf } from "./message-headers.ts";
import { batchPartOf, CARRIER, deliveryOf, entryOfDelivery } from "./stored-message.ts";

export type { Change, FeedEvent } from "./feed-event.ts";

/** Why a feed ended: the bucket is gone, or its changes cannot be followed without a gap. */
export type FeedEnd = "bucket_gone" | "discontinued";

export interface FeedListener {
  onEvent(event: FeedEvent): void;
  /** Changes may be late from now on. */
  onStale(reason: string): void;
  /** All changes up to the present have been delivered again. */
  onCurrent(): void;
  /** The feed is over; not called after close(). */
  onEnd(why: FeedEnd): void;
}

const SECOND = 1_000_000_000;
const HEARTBEAT = 5;
/** Silence after which a consumer is taken for lost, in milliseconds. */
const SILENCE = HEARTBEAT * 2_000 + 1_000;
/** Its gateway gone, a consumer would slow every write down: the server drops it after this time. */
const INACTIVE = 10 * SECOND;
/** How long to wait for a change before asking the server whether it will come, in milliseconds. */
const PATIENCE = 20;
/** Silence after which it is asked whether the rest of a transaction will come at all, in milliseconds. */
const BATCH_PATIENCE = 250;
/** How long to wait for a feed that has lost its consumer to be current again, in milliseconds. */
const RECOVERY = 4_000;
/** Changes between two looks at the memory that the index takes. */
const BUDGET_INTERVAL = 256;
const RETRY_MIN = 100;
const RETRY_MAX = 2_000;

interface FeedConsumer {
  name: string;
  subscription: Subscription;
  /** Tells when somebody deletes the consumer, which itself just falls silent then. */
  obituary: Subscription;
  /** Consumer sequence of the next message. */
  expected: number;
  /** Messages that it had to deliver when it was created. */
  pending: number;
}

export class Feed {
  #bucket: Bucket;
  readonly #js: JetStream;
  readonly #listeners = new Set<FeedListener>();
  readonly #budget: IndexBudget;
  readonly #offConnection: () => void;
  readonly #watchdog: NodeJS.Timeout;
  #index = new KeyIndex();
  #indexState: "filling" | "complete" | "given up" = "filling";
  #indexReady: Promise<void> | undefined;
  #taken = 0;
  /** Sequence up to which whole events have been delivered. */
  #position = 0;
  readonly #events = new EventBuilder((event) => this.#emit(event));
  #batchTimer: NodeJS.Timeout | undefined;
  #lag = { events: 0, ms: 0 };
  #consumer: FeedConsumer | undefined;
  readonly #waiting = new Set<{ sequence: number; resolve: () => void }>();
  readonly #recovered = new Set<() => void>();
  #lastHeard = Date.now();
  #recovering = false;
  /** Ends the pause between two attempts to recover. */
  #retry: (() => void) | undefined;
  #ended = false;

  private constructor(js: JetStream, bucket: Bucket, budget: IndexBudget) {
    this.#js = js;
    this.#bucket = bucket;
    this.#budget = budget;
    budget.add(this.#index);
    this.#offConnection = js.connection.onChange((up) => {
      if (up) this.#retry?.();
      else this.#lose("the connection to NATS was lost");
    });
    this.#watchdog = setInterval(() => {
      if (Date.now() - this.#lastHeard > SILENCE) this.#lose("JetStream has gone silent");
    }, 1_000);
  }

  /**
   * Begins at the bucket's present: every change after this call resolves is delivered.
   *
   * @throws KvError `bucket_not_found`, `store_unavailable`
   */
  static async start(js: JetStream, bucket: Bucket, budget: IndexBudget): Promise<Feed> {
    const feed = new Feed(js, bucket, budget);
    try {
      const info = await js.streamInfo(bucket.stream);
      feed.#position = info.state.last_seq;
      await feed.#subscribe();
    } catch (error) {
      feed.close();
      throw error;
    }
    feed.#indexReady = feed.#fillIndex();
    return feed;
  }

  get bucket(): Bucket {
    return this.#bucket;
  }

  /** Takes note of changed settings. When values live longer or shorter now, the index has to be made anew. */
  update(bucket: Bucket): void {
    if (this.#ended || bucket.epoch !== this.#bucket.epoch) return;
    const isSameAge = bucket.context.maxAge === this.#bucket.context.maxAge;
    this.#bucket = bucket;
    if (isSameAge || this.#indexState === "given up") return;
    this.#budget.remove(this.#index);
    this.#index = new KeyIndex();
    this.#budget.add(this.#index);
    this.#indexState = "filling";
    this.#indexReady = this.#fillIndex();
  }

  /** Adds somebody to tell. Returns a function that takes it away again. */
  listen(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether the feed is over, for whatever reason. */
  get hasEnded(): boolean {
    return this.#ended;
  }

  /**
   * All live keys as they are now: every write that was acknowledged before the call is in it. Undefined when the keys do not
   * fit into the memory that is set aside for them.
   *
   * @throws KvError `store_unavailable`
   */
  async keys(): Promise<KeyIndex | undefined> {
    await this.#indexReady;
    if (!this.#isComplete()) return undefined;
    const { created, state } = await this.#js.streamInfo(this.bucket.stream);
    if (created !== this.bucket.epoch) {
      this.#end("bucket_gone");
      return undefined;
    }
    await this.reach(state.last_seq);
    // Meanwhile it may have been given up, or begun anew.
    return this.#isComplete() ? this.#index : undefined;
  }

  #isComplete(): boolean {
    return this.#indexState === "complete";
  }

  /** Whether changes arrive as they happen; false from a loss until it has been made good. */
  get isCurrent(): boolean {
    return !this.#recovering;
  }

  /** Revision up to which everything was delivered. A transaction counts as soon as all of it was. */
  get position(): number {
    return this.#position;
  }

  /** How late the feed is: changes that the server had still to send at the last one's arrival, and that one's age. */
  get lag(): { events: number; ms: number } {
    return this.#lag;
  }

  /**
   * Waits until everything up to a sequence was delivered, or nothing that is stored is left up to it. A feed that is lost is
   * waited for a little while.
   *
   * @param patience milliseconds to wait for a feed that is lost; default 4000
   * @throws KvError `store_unavailable`
   */
  async reach(sequence: number, patience = RECOVERY): Promise<void> {
    const deadline = Date.now() + patience;
    while (this.#position < sequence) {
      await this.#whenCurrent(deadline);
      const consumer = this.#consumer;
      if (consumer === undefined) throw notFollowed();
      try {
        await this.#reached(sequence, consumer);
      } catch (error) {
        // Lost meanwhile, it goes on with another consumer.
        if (this.#consumer === consumer) throw error;
      }
    }
  }

  /** Waits until changes arrive again, or until a time. */
  async #whenCurrent(deadline: number): Promise<void> {
    while (this.#recovering && !this.#ended) {
      const rest = deadline - Date.now();
      if (rest <= 0) throw notFollowed();
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          this.#recovered.delete(done);
          resolve();
        };
        const timer = setTimeout(done, rest);
        this.#recovered.add(done);
      });
    }
  }

  /** Ends the feed and takes its consumer off the server. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#budget.remove(this.#index);
    clearInterval(this.#watchdog);
    for (const done of [...this.#recovered]) done();
    this.#offConnection();
    this.#unsubscribe();
  }

  /**
   * Makes sure that the bucket is still the one that is followed. What was read under its name may else be another one's, which
   * was created meanwhile: then the feed ends.
   *
   * @throws KvError `bucket_not_found`, `store_unavailable`
   */
  async verify(): Promise<void> {
    const { stream, name, epoch } = this.bucket;
    let created: string | undefined;
    try {
      ({ created } = await this.#js.streamInfo(stream));
    } catch (error) {
      if (!(error instanceof JetStreamError && error.code === codes.streamNotFound))
        throw kvErrorOf(error, name);
    }
    if (created === epoch) return;
    this.#end("bucket_gone");
    throw bucketNotFound(name);
  }

  /**
   * Takes note that a bucket of this name was deleted, so that nobody waits for the silence. It may have been an earlier
   * one: the news of it can come after this one was created.
   */
  async bucketDeleted(): Promise<void> {
    try {
      await this.verify();
    } catch {
      // Either it has ended, or NATS did not answer: then it is asked until it does.
      this.#lose("the bucket may be gone");
    }
  }

  async #subscribe(): Promise<FeedConsumer> {
    const { stream, subjectPrefix } = this.bucket;
    const name = `jetbucket-feed-${nuid.next()}`;
    const inbox = createInbox();
    const { nats } = this.#js.connection;
    const subscription = nats.subscribe(inbox, {
      callback: (error, message) => {
        if (error === null && this.#consumer?.name === name) this.#onMessage(message);
      },
    });
    const obituary = nats.subscribe(`$JS.EVENT.ADVISORY.CONSUMER.DELETED.${stream}.${name}`, {
      callback: () => {
        if (this.#consumer?.name === name) this.#lose("the consumer was deleted");
      },
    });
    const consumer: FeedConsumer = { name, subscription, obituary, expected: 1, pending: 0 };
    this.#consumer = consumer;
    this.#lastHeard = Date.now();
    try {
      const created = await this.#js.call<ConsumerInfo>(`CONSUMER.CREATE.${stream}.${name}`, {
        stream_name: stream,
        config: {
          name,
          deliver_subject: inbox,
          deliver_policy: "by_start_sequence",
          opt_start_seq: this.#position + 1,
          filter_subject: `${subjectPrefix}>`,
          ack_policy: "none",
          max_deliver: 1,
          flow_control: true,
          idle_heartbeat: HEARTBEAT * SECOND,
          inactive_threshold: INACTIVE,
          mem_storage: true,
          num_replicas: 1,
        },
      });
      consumer.pending = created.num_pending;
    } catch (error) {
      this.#unsubscribe();
      throw error;
    }
    return consumer;
  }

  #unsubscribe(): void {
    const consumer = this.#consumer;
    if (consumer === undefined) return;
    this.#consumer = undefined;
    // The next one begins behind the last whole event.
    this.#events.reset();
    consumer.subscription.unsubscribe();
    consumer.obituary.unsubscribe();
    if (!this.#js.connection.isUp) return;
    // If this fails, the server drops the consumer by its inactive threshold.
    this.#js.call(`CONSUMER.DELETE.${this.bucket.stream}.${consumer.name}`).catch(() => undefined);
  }

  #onMessage(message: Msg): void {
    this.#lastHeard = Date.now();
    const consumer = this.#consumer!;
    const { reply } = message;
    if (!reply?.startsWith("$JS.ACK.")) {
      const headers = headersOf(message);
      if (headers?.code !== 100) return;
      // Idle heartbeat or flow control; a stalled consumer names the subject to answer in a header.
      const stalled = headers.get("Nats-Consumer-Stalled");
      if (reply !== undefined && reply !== "") message.respond();
      else if (stalled !== "") this.#js.connection.nats.publish(stalled);
      const last = headers.get("Nats-Last-Consumer");
      if (last !== "" && Number(last) >= consumer.expected) this.#lose("changes are missing");
      return;
    }
    const delivery = deliveryOf(reply);
    if (delivery.consumerSequence !== consumer.expected) {
      this.#lose("changes are missing");
      return;
    }
    consumer.expected += 1;
    const { streamSequence, timestamp, pending } = delivery;
    this.#lag = { events: pending, ms: Math.max(0, this.#lastHeard - timestamp) };
    const { subjectPrefix, context } = this.bucket;
    const suffix = message.subject.slice(subjectPrefix.length);
    const headers = headersOf(message);
    const change =
      suffix === CARRIER
        ? undefined
        : { ...entryOfDelivery(message, delivery, context, headers), suffix };
    this.#events.add(streamSequence, change, batchPartOf(headers));
    if (this.#events.waitsBehind !== undefined) this.#expectRest();
  }

  #emit(event: FeedEvent): void {
    this.#position = Math.max(this.#position, event.revision);
    if (event.changes.length > 0) this.#deliver(event);
    for (const waiting of this.#waiting) if (waiting.sequence <= this.#position) waiting.resolve();
  }

  #deliver(event: FeedEvent): void {
    for (const change of event.changes) {
      if (this.#indexState !== "given up") this.#take(change);
    }
    for (const listener of this.#listeners) listener.onEvent(event);
  }

  /** A transaction's end may have been removed from the stream: then what is there of it is all that will ever come. */
  #expectRest(): void {
    if (this.#batchTimer !== undefined) return;
    const behind = this.#events.waitsBehind;
    this.#batchTimer = setTimeout(() => {
      void this.#hasAll(this.#consumer)
        .catch(() => false)
        .then((hasAll) => {
          this.#batchTimer = undefined;
          const now = this.#events.waitsBehind;
          if (now === undefined || this.#ended) return;
          if (hasAll && now === behind) this.#events.flush();
          else this.#expectRest();
        });
    }, BATCH_PATIENCE);
  }

  #take({ key, revision, operation, expiresAt }: Change): void {
    if (operation === "delete") this.#index.delete(key, revision);
    else this.#index.put(key, revision, expiresAt === undefined ? 0 : Date.parse(expiresAt));
    if (++this.#taken % BUDGET_INTERVAL === 0) this.#keepWithinBudget();
  }

  #keepWithinBudget(): void {
    if (!this.#budget.isSpent) return;
    this.#indexState = "given up";
    this.#budget.remove(this.#index);
    this.#index.clear();
  }

  /** Reads which keys are there. Until that is done, a loss cannot be made good. */
  async #fillIndex(): Promise<void> {
    const index = this.#index;
    try {
      await this.#readKeys(index);
    } catch {
      // When the bucket is gone or NATS is away, the feed notices by itself, and must begin anew. Else it is tried again.
      const again = setTimeout(() => {
        if (this.#ended || this.#indexState !== "filling" || this.#index !== index) return;
        this.#indexReady = this.#fillIndex();
      }, RETRY_MAX);
      again.unref();
      return;
    }
    if (this.#indexState !== "filling" || this.#index !== index) return;
    index.settle();
    this.#indexState = "complete";
  }

  async #readKeys(index: KeyIndex): Promise<void> {
    for await (const batch of this.bucket.keyStates()) {
      for (const { suffix, revision, isDeleted, expiry } of batch) {
        const key = decodeKey(suffix);
        if (isDeleted) index.delete(key, revision);
        else index.put(key, revision, expiry);
      }
      if (index !== this.#index) continue;
      this.#keepWithinBudget();
      if (this.#indexState === "given up") return;
    }
  }

  #lose(reason: string): void {
    if (this.#ended) return;
    this.#unsubscribe();
    if (this.#recovering) return;
    this.#recovering = true;
    for (const listener of this.#listeners) listener.onStale(reason);
    void this.#recover();
  }

  async #recover(): Promise<void> {
    for (let delay = RETRY_MIN; !this.#ended; delay = Math.min(delay * 2, RETRY_MAX)) {
      try {
        if (this.#js.connection.isUp && (await this.#resume())) return;
      } catch (error) {
        if (error instanceof JetStreamError && error.code === codes.streamNotFound) {
          this.#end("bucket_gone");
          return;
        }
      }
      if (await this.#pause(delay * (0.5 + Math.random() / 2))) delay = RETRY_MIN;
    }
  }

  /** Waits for some milliseconds, or until the connection is up again: whether that was it. */
  #pause(milliseconds: number): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (isUp: boolean): void => {
        clearTimeout(timer);
        this.#retry = undefined;
        resolve(isUp);
      };
      const timer = setTimeout(() => done(false), milliseconds);
      this.#retry = () => done(true);
    });
  }

  /** Takes the feed up again behind its last change. Resolves with true when it is current, or over. */
  async #resume(): Promise<boolean> {
    const info = await this.#js.streamInfo(this.bucket.stream);
    const end = this.#continuity(info);
    if (end !== undefined) {
      this.#end(end);
      return true;
    }
    if (this.#ended) return true;
    const from = this.#position;
    const consumer = await this.#subscribe();
    const { last_seq: last } = (await this.#js.streamInfo(this.bucket.stream)).state;
    if (this.#isComplete()) {
      await this.#reportMissing(info, consumer);
    } else if (consumer.pending === last - from) {
      // As many messages as sequences: nothing that came meanwhile has been removed.
      await this.#reached(last, consumer);
    } else {
      // Without all keys known nobody can tell which ones went.
      this.#end("discontinued");
      return true;
    }
    // Lost again meanwhile.
    if (this.#consumer !== consumer) return false;
    this.#position = Math.max(this.#position, info.state.last_seq);
    this.#recovering = false;
    for (const done of [...this.#recovered]) done();
    for (const listener of this.#listeners) listener.onCurrent();
    return true;
  }

  #continuity(info: StreamInfo): FeedEnd | undefined {
    if (info.created !== this.bucket.epoch) return "bucket_gone";
    // With revisions taken back nothing fits any more.
    return info.state.last_seq < this.#position ? "discontinued" : undefined;
  }

  /** Reports keys that are gone without a change that would say so. */
  async #reportMissing(info: StreamInfo, consumer: FeedConsumer): Promise<void> {
    const present = new KeyIndex();
    await this.#readKeys(present);
    // A key that is overwritten while the keys are read can be missing there. Its change has come by then.
    const { last_seq: last } = (await this.#js.streamInfo(this.bucket.stream)).state;
    await this.#reached(Math.max(last, info.state.last_seq), consumer);
    const createdAt = new Date().toISOString();
    for (const key of [...this.#index.missingFrom(present, info.state.last_seq)]) {
      const revision = Math.max(this.#position, info.state.last_seq);
      this.#deliver({ changes: [lateDelete(key, revision, createdAt)], revision });
    }
  }

  /** Waits until the consumer has delivered all up to a sequence, or all that is left of it. */
  async #reached(sequence: number, consumer: FeedConsumer): Promise<void> {
    for (let waited = 0; this.#position < sequence; waited += PATIENCE) {
      await this.#arrival(sequence);
      if (this.#position >= sequence) return;
      // The last messages may have been removed: then they never come, and the server says that nothing is left.
      const hasAll = await this.#hasAll(consumer);
      if (this.#consumer !== consumer || waited > SILENCE) throw notFollowed();
      if (!hasAll || this.#events.waitsBehind !== undefined) continue;
      this.#position = Math.max(this.#position, sequence);
      return;
    }
  }

  /** Whether a consumer has delivered all that the stream holds. */
  async #hasAll(consumer: FeedConsumer | undefined): Promise<boolean> {
    interface Progress {
      num_pending: number;
      delivered: { consumer_seq: number };
    }
    if (consumer === undefined) return false;
    try {
      const { num_pending, delivered } = await this.#js.call<Progress>(
        `CONSUMER.INFO.${this.bucket.stream}.${consumer.name}`,
      );
      return num_pending === 0 && delivered.consumer_seq < consumer.expected;
    } catch (error) {
      if (!(error instanceof JetStreamError && error.code === codes.consumerNotFound)) throw error;
      if (this.#consumer === consumer) this.#lose("the consumer is gone");
      throw notFollowed();
    }
  }

  /** Waits for the change of a sequence, or a little while. */
  async #arrival(sequence: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const waiting = { sequence, resolve };
      const timer = setTimeout(() => waiting.resolve(), PATIENCE);
      waiting.resolve = () => {
        clearTimeout(timer);
        this.#waiting.delete(waiting);
        resolve();
      };
      this.#waiting.add(waiting);
    });
  }

  #end(why: FeedEnd): void {
    if (this.#ended) return;
    this.close();
    for (const listener of this.#listeners) listener.onEnd(why);
  }
}

function notFollowed(): KvError {
  return new KvError("store_unavailable", "the bucket cannot be followed now", { retryAfter: 1 });
}

/** The delete of a key that went without a change that would say so. */
function lateDelete(key: string, revision: number, createdAt: string): Change {
  return {
    suffix: encodeKey(key),
    key,
    revision,
    createdAt,
    operation: "delete",
    reason: "delete",
    value: new Uint8Array(0),
    valueType: undefined,
    contentType: undefined,
    expiresAt: undefined,
    firstCreatedAt: undefined,
    description: undefined,
    label: undefined,
    size: 0,
    isLate: true,
  };
}
