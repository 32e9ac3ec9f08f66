/**
 * A feed brings every change of one bucket, in order, once. It is the one consumer that a gateway has on a bucket,
 * however many watch it.
 *
 *     starting ──> current ──> stale ──> current        (connection lost, consumer lost, a gap)
 *                     └──────────┴─────> ended          (bucket deleted or created again, or closed)
 *
 * After a loss it goes on behind the last change it has seen. What was removed from the stream meanwhile (an expired
 * key's marker, for instance) cannot be read any more, so it compares the keys it knew with those that are there and
 * reports the ones that went as deletes.
 */
import { createInbox, nuid, type Msg, type Subscription } from "nats";
import type { Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { encodeKey, everyKey } from "../protocol/keys.ts";
import type { Bucket } from "./bucket.ts";
import { codes, JetStreamError, type JetStream, type StreamInfo } from "./jetstream.ts";
import type { IndexBudget } from "./index-budget.ts";
import { KeyIndex } from "./key-index.ts";
import { CARRIER, deliveryOf, entryOfDelivery, headersOf } from "./stored-message.ts";

/** A change of a key, with the subject suffix under which it is stored. */
export interface Change extends Entry {
  suffix: string;
  /** A delete that was found out only after the fact: its revision says when it was noticed, not when it happened. */
  isLate?: true;
}

/** Why a feed ended: the bucket is gone, or its changes cannot be followed without a gap. */
export type FeedEnd = "bucket_gone" | "discontinued";

export interface FeedListener {
  onChange(change: Change): void;
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
/** Changes between two looks at the memory that the index takes. */
const BUDGET_INTERVAL = 256;
const RETRY_MIN = 100;
const RETRY_MAX = 2_000;

interface FeedConsumer {
  name: string;
  subscription: Subscription;
  /** Consumer sequence of the next message. */
  expected: number;
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
  #position = 0;
  #consumer: FeedConsumer | undefined;
  readonly #waiting = new Set<{ sequence: number; resolve: () => void }>();
  #lastHeard = Date.now();
  #recovering = false;
  #ended = false;

  private constructor(js: JetStream, bucket: Bucket, budget: IndexBudget) {
    this.#js = js;
    this.#bucket = bucket;
    this.#budget = budget;
    budget.add(this.#index);
    this.#offConnection = js.connection.onChange((up) => {
      if (!up) this.#lose("the connection to NATS was lost");
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
    const consumer = this.#consumer;
    if (consumer === undefined) throw notFollowed();
    await this.#reached(state.last_seq, consumer);
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

  /** Revision of the last change delivered. */
  get position(): number {
    return this.#position;
  }

  /** Ends the feed and takes its consumer off the server. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#budget.remove(this.#index);
    clearInterval(this.#watchdog);
    this.#offConnection();
    this.#unsubscribe();
  }

  /**
   * Takes note that a bucket of this name was deleted, so that nobody waits for the silence. It may have been an earlier
   * one: the news of it can come after this one was created.
   */
  async bucketDeleted(): Promise<void> {
    try {
      const { created } = await this.#js.streamInfo(this.bucket.stream);
      if (created === this.bucket.epoch) return;
    } catch (error) {
      if (!(error instanceof JetStreamError && error.code === codes.streamNotFound)) return;
    }
    this.#end("bucket_gone");
  }

  async #subscribe(): Promise<FeedConsumer> {
    const { stream, subjectPrefix } = this.bucket;
    const name = `jetbucket-feed-${nuid.next()}`;
    const inbox = createInbox();
    const subscription = this.#js.connection.nats.subscribe(inbox, {
      callback: (error, message) => {
        if (error === null && this.#consumer?.name === name) this.#onMessage(message);
      },
    });
    const consumer: FeedConsumer = { name, subscription, expected: 1 };
    this.#consumer = consumer;
    this.#lastHeard = Date.now();
    try {
      await this.#js.call(`CONSUMER.CREATE.${stream}.${name}`, {
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
    consumer.subscription.unsubscribe();
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
    this.#position = delivery.streamSequence;
    const { subjectPrefix } = this.bucket;
    const suffix = message.subject.slice(subjectPrefix.length);
    if (suffix === CARRIER) return;
    this.#deliver({ ...entryOfDelivery(message, delivery, this.bucket.context), suffix });
  }

  #deliver(change: Change): void {
    if (this.#indexState !== "given up") this.#take(this.#index, change);
    for (const listener of this.#listeners) listener.onChange(change);
    for (const waiting of this.#waiting) if (waiting.sequence <= this.#position) waiting.resolve();
  }

  #take(index: KeyIndex, entry: Entry): void {
    const { key, revision, operation, expiresAt } = entry;
    if (operation === "delete") index.delete(key, revision);
    else index.put(key, revision, expiresAt === undefined ? 0 : Date.parse(expiresAt));
    if (index !== this.#index || ++this.#taken % BUDGET_INTERVAL !== 0 || !this.#budget.isSpent)
      return;
    this.#indexState = "given up";
    this.#budget.remove(index);
    index.clear();
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
    for await (const batch of this.bucket.read([everyKey], "last", { headersOnly: true })) {
      if (index === this.#index && this.#indexState === "given up") return;
      for (const { entry } of batch) this.#take(index, entry);
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
      await new Promise((resolve) => setTimeout(resolve, delay * (0.5 + Math.random() / 2)));
    }
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
    const consumer = await this.#subscribe();
    await this.#reportMissing(info, consumer);
    // Lost again meanwhile.
    if (this.#consumer !== consumer) return false;
    this.#position = Math.max(this.#position, info.state.last_seq);
    this.#recovering = false;
    for (const listener of this.#listeners) listener.onCurrent();
    return true;
  }

  #continuity(info: StreamInfo): FeedEnd | undefined {
    if (info.created !== this.bucket.epoch) return "bucket_gone";
    // Without all keys known nobody can tell which ones went; with revisions taken back, nothing fits any more.
    if (this.#indexState !== "complete" || info.state.last_seq < this.#position)
      return "discontinued";
    return undefined;
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
      this.#deliver({
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
      });
    }
  }

  /** Waits until the consumer has delivered all up to a sequence, or all that is left of it. */
  async #reached(sequence: number, consumer: FeedConsumer): Promise<void> {
    interface Progress {
      num_pending: number;
      delivered: { consumer_seq: number };
    }
    for (let waited = 0; this.#position < sequence; waited += PATIENCE) {
      await this.#arrival(sequence);
      if (this.#position >= sequence) return;
      // The last messages may have been removed: then they never come, and the server says that nothing is left.
      let progress: Progress;
      try {
        progress = await this.#js.call<Progress>(
          `CONSUMER.INFO.${this.bucket.stream}.${consumer.name}`,
        );
      } catch (error) {
        if (!(error instanceof JetStreamError && error.code === codes.consumerNotFound))
          throw error;
        if (this.#consumer === consumer) this.#lose("the consumer is gone");
        throw notFollowed();
      }
      if (progress.num_pending === 0 && progress.delivered.consumer_seq < consumer.expected) return;
      if (this.#consumer !== consumer || waited > SILENCE) throw notFollowed();
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
