import type { Msg } from "nats";
import { createInbox, nuid } from "nats";
import { KvError } from "../protocol/errors.ts";
import type { ConsumerInfo, JetStream, StreamInfo } from "./jetstream.ts";
import { headersOf } from "./message-headers.ts";
import { deliveryOf, type Delivery } from "./stored-message.ts";

export interface ScanOptions {
  stream: string;
  /** Full subjects, wildcards allowed, none covering another; everything that the stream holds without any. */
  filters: readonly string[];
  /** All messages that are stored, or all behind a sequence. */
  deliver: "all" | { after: number };
  /** Leave the payloads on the server. */
  headersOnly?: boolean;
  /**
   * Have every key that was there when the scan began. A key that is overwritten before it was read can have moved behind
   * the end by then. Who follows the changes gets it from there; others need the scan to go on until nothing has moved.
   */
  complete?: boolean;
}

export interface ScannedMessage {
  message: Msg;
  delivery: Delivery;
}

/** Messages asked for at a time. */
const BATCH = 512;
/** The same without payloads. More would be a little faster, and hold up other answers on the connection. */
const BATCH_OF_HEADERS = 1024;
const BATCH_BYTES = 4 * 1024 * 1024;
/** Statuses that end a pull. */
const NOTHING_LEFT = 404;
const TIMED_OUT = 408;
/** A consumer that a killed gateway leaves behind slows writes down, so it lives on only this long (nanoseconds). */
const INACTIVE = 10 * 1_000_000_000;
/** Each round reads what was written during the one before, so they shrink; this is for writers faster than a reader. */
const MAX_ROUNDS = 16;
/** More than there can be under way. */
const MAX_PULLS = 8;
/** Milliseconds between two looks at messages that are under way. */
const PAUSE = 5;
/** How long the pull may wait by which a reading finds out that nothing is left (nanoseconds). */
const LAST_CALL = 50 * 1_000_000;
/** Silence for this long, in milliseconds, while messages are due means that the consumer is gone. */
const SILENCE = 10_000;

/** A reading that has begun. */
export interface Scan {
  /** Messages to read, as of its beginning. */
  pending: number;
  /** The sequence up to which it reads, or a little further. */
  end: number;
  /** The messages in batches. */
  batches: AsyncGenerator<ScannedMessage[], void, void>;
  /** Gives up a reading of which nothing was read yet; else the generator's end does that. */
  close(): Promise<void>;
}

/**
 * Reads what a stream holds now, in order of sequence, batch by batch: the next batch is asked for only as fast as
 * the caller takes them. It ends at the stream's end as it was when the scan began, or a little later.
 *
 * @throws KvError `store_unavailable` when NATS goes away meanwhile
 */
export async function* scan(
  js: JetStream,
  options: ScanOptions,
): AsyncGenerator<ScannedMessage[], void, void> {
  const { batches } = await openScan(js, options, await js.streamInfo(options.stream));
  yield* batches;
}

/**
 * Begins such a reading.
 *
 * @param info what the stream said of itself right before
 */
export async function openScan(
  js: JetStream,
  options: ScanOptions,
  info: StreamInfo,
): Promise<Scan> {
  const { stream, filters, deliver } = options;
  const name = `jetbucket-scan-${nuid.next()}`;
  const { num_pending: pending } = await js.call<ConsumerInfo>(
    `CONSUMER.CREATE.${stream}.${name}`,
    {
      stream_name: stream,
      config: {
        name,
        ...deliverPolicy(deliver),
        ack_policy: "none",
        ...(filters.length === 1 ? { filter_subject: filters[0] } : {}),
        ...(filters.length > 1 ? { filter_subjects: filters } : {}),
        ...(options.headersOnly === true ? { headers_only: true } : {}),
        mem_storage: true,
        num_replicas: 1,
        max_waiting: MAX_PULLS,
        inactive_threshold: INACTIVE,
      },
    },
  );
  return {
    pending,
    end: info.state.last_seq,
    batches: readBatches(js, options, info, { name, pending }),
    close: () => drop(js, stream, name),
  };
}

/**
 * The policy "last_per_subject" is not used: where a stream keeps several messages of a subject, JetStream (seen with 2.15.1) loses
 * some of the last ones while others write, and where it keeps one, it is the same as "all".
 */
function deliverPolicy(deliver: ScanOptions["deliver"]): object {
  if (deliver === "all") return { deliver_policy: "all" };
  return { deliver_policy: "by_start_sequence", opt_start_seq: deliver.after + 1 };
}

async function* readBatches(
  js: JetStream,
  options: ScanOptions,
  info: StreamInfo,
  { name, pending }: { name: string; pending: number },
): AsyncGenerator<ScannedMessage[], void, void> {
  if (pending === 0) {
    await drop(js, options.stream, name);
    return;
  }
  let end = info.state.last_seq;
  let rounds = options.complete === true ? MAX_ROUNDS : 1;
  const batches = new BatchReader(js, info, name, batchLimits(js, options));
  try {
    for (;;) {
      const batch = await batches.next();
      const last = batch.at(-1)?.delivery;
      // An empty batch: what was pending has been removed meanwhile.
      if (last === undefined) return;
      let done = false;
      if (last.streamSequence >= end) {
        rounds -= 1;
        if (rounds > 0) end = batches.end = (await js.streamInfo(options.stream)).state.last_seq;
        done = rounds === 0 || last.streamSequence >= end;
      }
      yield batch;
      if (done) return;
    }
  } finally {
    batches.close();
    await drop(js, options.stream, name);
  }
}

interface BatchLimits {
  batch: number;
  max_bytes?: number;
}

/** How much to ask for at a time. */
function batchLimits(js: JetStream, { headersOnly }: ScanOptions): BatchLimits {
  if (headersOnly === true) return { batch: BATCH_OF_HEADERS };
  // A batch must have room for the largest message there can be.
  return { batch: BATCH, max_bytes: Math.max(BATCH_BYTES, 2 * js.connection.maxPayload) };
}

async function drop(js: JetStream, stream: string, consumer: string): Promise<void> {
  try {
    await js.call(`CONSUMER.DELETE.${stream}.${consumer}`);
  } catch {
    // It is gone with its stream, or will be by its inactive threshold.
  }
}

/** What a consumer says of itself. */
interface Progress {
  /** Number of the last message that it has sent. */
  delivered: { consumer_seq: number };
}

/** Pulls messages from a consumer: while some are worked on, the next are under way. */
class BatchReader {
  readonly #js: JetStream;
  /** What the stream said of itself right before the reading. */
  readonly #info: StreamInfo;
  /** Stream and name of the consumer. */
  readonly #consumer: string;
  readonly #limits: BatchLimits;
  readonly #inbox = createInbox();
  /** Pulls so far; each is answered under a subject of its own. */
  #pulls = 0;
  /** Messages that were asked for and have not come. The server serves pulls in turns, so only their sum is known. */
  #due = 0;
  readonly #subscription;
  readonly #offLine: () => void;
  #arrived: ScannedMessage[] = [];
  #received = 0;
  /** The sequence that is waited for: who writes meanwhile must not keep the reader waiting for a full batch. */
  end: number;
  #hasEnd = false;
  #hasAll = false;
  /** Subject and callback of the pull that waits for what is still to come. */
  #lastCall: { reply: string; onEnd: () => void } | undefined;
  #isChecking = false;
  #failure: KvError | undefined;
  #wake: (() => void) | undefined;

  constructor(js: JetStream, info: StreamInfo, consumer: string, limits: BatchLimits) {
    this.#js = js;
    this.#info = info;
    this.end = info.state.last_seq;
    this.#consumer = `${info.config.name}.${consumer}`;
    this.#limits = limits;
    this.#subscription = js.connection.nats.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.#onMessage(message);
      },
    });
    this.#offLine = js.connection.onChange(() =>
      this.#fail("the connection to NATS was lost while reading"),
    );
    this.#pull();
  }

  /** The next messages; none when nothing is left. */
  async next(): Promise<ScannedMessage[]> {
    while (!this.#isReady) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(() => this.#fail("NATS did not answer in time"), SILENCE);
      });
      clearTimeout(timer);
    }
    if (this.#failure !== undefined) throw this.#failure;
    const batch = this.#arrived;
    this.#arrived = [];
    this.#hasEnd = false;
    if (!this.#hasAll) this.#pull();
    return batch;
  }

  close(): void {
    this.#offLine();
    this.#subscription.unsubscribe();
  }

  get #isReady(): boolean {
    const { length } = this.#arrived;
    return (
      this.#failure !== undefined ||
      this.#hasAll ||
      this.#hasEnd ||
      length >= this.#limits.batch ||
      // All that was asked for has come: by weight it can be less.
      (this.#due === 0 && length > 0)
    );
  }

  /** Has two batches under way, or one and a part. */
  #pull(): void {
    while (this.#due <= this.#limits.batch) this.#ask({ no_wait: true });
  }

  /** @returns the subject of the answers */
  #ask(terms: { no_wait: true } | { expires: number }): string {
    const reply = `${this.#inbox}.${this.#pulls++}`;
    this.#due += this.#limits.batch;
    this.#js.connection.nats.publish(
      `$JS.API.CONSUMER.MSG.NEXT.${this.#consumer}`,
      JSON.stringify({ ...this.#limits, ...terms }),
      { reply },
    );
    return reply;
  }

  #onMessage(message: Msg): void {
    // Only a status comes without an acknowledgement subject.
    if (message.reply === undefined || message.reply === "") {
      this.#onStatus(message);
    } else {
      const delivery = deliveryOf(message.reply);
      this.#arrived.push({ message, delivery });
      this.#due -= 1;
      this.#received += 1;
      if (delivery.streamSequence >= this.end) this.#hasEnd = true;
      else if (delivery.pending === 0) void this.#checkEnd();
    }
    if (this.#wake !== undefined && this.#isReady) this.#wake();
  }

  /** A pull has come to its end before it had all it asked for. */
  #onStatus(message: Msg): void {
    const headers = headersOf(message);
    const code = headers?.code;
    const left = headers?.get("Nats-Pending-Messages") ?? "";
    if (code !== NOTHING_LEFT && code !== TIMED_OUT && left === "") {
      this.#fail("the bucket changed while it was read");
      return;
    }
    // Without a number the pull was refused.
    this.#due -= left === "" ? this.#limits.batch : Number(left);
    if (message.subject === this.#lastCall?.reply) this.#lastCall.onEnd();
    // Else (409) the next message would have been too much for this pull, or (408 without a number) others get the rest.
    else if (code === NOTHING_LEFT || (code === TIMED_OUT && left !== "")) void this.#checkEnd();
    else if (this.#due === 0 && this.#arrived.length === 0) this.#pull();
  }

  /** Goes on when nothing seems to be left: with what is left after all, or to the end. */
  async #checkEnd(): Promise<void> {
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      this.#hasAll = await this.#isAtEnd();
    } catch {
      this.#fail("the bucket changed while it was read");
    }
    this.#isChecking = false;
    if (!this.#hasAll && this.#failure === undefined) {
      // All pulls are over: how much of its number one still had is not always said.
      this.#due = 0;
      this.#pull();
    }
    if (this.#isReady) this.#wake?.();
  }

  /**
   * Whether nothing is left. JetStream counts what is pending, and while others write the count can be too small (seen with
   * 2.15.1); a pull that does not wait then gets nothing although something is there. One that waits gets it.
   */
  async #isAtEnd(): Promise<boolean> {
    while (this.#failure === undefined) {
      const { delivered } = await this.#js.call<Progress>(`CONSUMER.INFO.${this.#consumer}`);
      if (this.#received >= delivered.consumer_seq) break;
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    const before = this.#received;
    const { config, state } = this.#info;
    const { state: now } = await this.#js.streamInfo(config.name);
    // Where nothing happens the count is right.
    const isStill = now.last_seq === state.last_seq && now.messages === state.messages;
    if (!isStill) await this.#callLast();
    return this.#received === before;
  }

  async #callLast(): Promise<void> {
    if (this.#failure !== undefined) return;
    await new Promise<void>((resolve) => {
      this.#lastCall = { reply: this.#ask({ expires: LAST_CALL }), onEnd: resolve };
    });
    this.#lastCall = undefined;
  }

  #fail(message: string): void {
    this.#failure ??= new KvError("store_unavailable", message, { retryAfter: 1 });
    this.#lastCall?.onEnd();
    this.#wake?.();
  }
}
