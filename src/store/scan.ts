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
  /** The last message of every subject, all that are stored, or all behind a sequence. */
  deliver: "last" | "all" | { after: number };
  /** Leave the payloads on the server. */
  headersOnly?: boolean;
  /**
   * Have every key that was there when the scan began. A key that is overwritten before it was read has moved behind the
   * end by then. Who follows the changes gets it from there; others need the scan to go on until nothing has moved.
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
/** The same where their number alone limits what a batch may weigh. */
const UNWEIGHED_BATCH = 64;
/** Statuses that end a pull. */
const NOTHING_LEFT = 404;
const TIMED_OUT = 408;
/** A consumer that a killed gateway leaves behind slows writes down, so it lives on only this long (nanoseconds). */
const INACTIVE = 10 * 1_000_000_000;
/** Each round reads what was written during the one before, so they shrink; this is for writers faster than a reader. */
const MAX_ROUNDS = 16;
/** More than there can be under way. */
const MAX_PULLS = 8;
/** Milliseconds between two looks at pulls that are under way. */
const PAUSE = 5;
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

function deliverPolicy(deliver: ScanOptions["deliver"]): object {
  if (deliver === "last") return { deliver_policy: "last_per_subject" };
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
  const batches = new BatchReader(js, options.stream, name, batchLimits(js, options, info));
  try {
    for (;;) {
      const batch = await batches.next();
      const last = batch.at(-1)?.delivery;
      // An empty batch: what was pending has been removed meanwhile.
      if (last === undefined) return;
      let done = last.pending === 0;
      if (!done && last.streamSequence >= end) {
        rounds -= 1;
        done = rounds === 0;
        if (!done) end = (await js.streamInfo(options.stream)).state.last_seq;
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

/**
 * How much to ask for at a time. JetStream (seen with 2.15.1) loses the message at which `max_bytes` is reached when a
 * consumer delivers the last of each subject from a stream that keeps more than one, so there only the number can limit.
 */
function batchLimits(
  js: JetStream,
  options: ScanOptions,
  { config, state }: StreamInfo,
): BatchLimits {
  const batch = options.headersOnly === true ? BATCH_OF_HEADERS : BATCH;
  if (options.deliver === "last" && config.max_msgs_per_subject !== 1) {
    if (options.headersOnly === true) return { batch };
    const average = state.bytes / Math.max(state.messages, 1);
    const fitting = Math.floor(BATCH_BYTES / Math.max(average, 1));
    return { batch: Math.min(Math.max(fitting, 1), UNWEIGHED_BATCH) };
  }
  // A batch must have room for the largest message there can be.
  return { batch, max_bytes: Math.max(BATCH_BYTES, 2 * js.connection.maxPayload) };
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
  num_pending: number;
  /** Pulls that it has still to serve. */
  num_waiting: number;
  /** Number of the last message that it has sent. */
  delivered: { consumer_seq: number };
}

/** Pulls messages from a consumer: while some are worked on, the next are under way. */
class BatchReader {
  readonly #js: JetStream;
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
  /** How many there will have been in all, once that is known. */
  #total = Infinity;
  #hasAll = false;
  #isChecking = false;
  #failure: KvError | undefined;
  #wake: (() => void) | undefined;

  constructor(js: JetStream, stream: string, consumer: string, limits: BatchLimits) {
    this.#js = js;
    this.#consumer = `${stream}.${consumer}`;
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
      length >= this.#limits.batch ||
      // All that was asked for has come: by weight it can be less.
      (this.#due === 0 && length > 0)
    );
  }

  /** Has two batches under way, or one and a part. */
  #pull(): void {
    while (this.#due <= this.#limits.batch) {
      this.#due += this.#limits.batch;
      this.#js.connection.nats.publish(
        `$JS.API.CONSUMER.MSG.NEXT.${this.#consumer}`,
        JSON.stringify({ ...this.#limits, no_wait: true }),
        { reply: `${this.#inbox}.${this.#pulls++}` },
      );
    }
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
      // Not taken yet, a batch goes on with writes that come right behind the last pending message.
      this.#hasAll = delivery.pending === 0 || this.#received >= this.#total;
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
    // Else (409) the next message would have been too much for this pull, or (408 without a number) others get the rest.
    if (code === NOTHING_LEFT || (code === TIMED_OUT && left !== "")) void this.#checkEnd();
    else if (this.#due === 0 && this.#arrived.length === 0) this.#pull();
  }

  /**
   * Finds out whether a pull ended because nothing is left. JetStream (seen with 2.15.1) says so as well when just the message
   * that was next has been removed, where a stream keeps several of a subject and the last of each is delivered.
   */
  async #checkEnd(): Promise<void> {
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      while (!this.#hasAll && this.#failure === undefined) {
        const progress = await this.#js.call<Progress>(`CONSUMER.INFO.${this.#consumer}`);
        const { consumer_seq: sent } = progress.delivered;
        if (progress.num_pending === 0) {
          this.#total = sent;
          this.#hasAll = this.#received >= sent;
          break;
        }
        if (progress.num_waiting === 0) {
          // How much of its number a pull still had is not said.
          this.#due = sent - this.#received;
          this.#pull();
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    } catch {
      this.#fail("the bucket changed while it was read");
    }
    this.#isChecking = false;
    if (this.#isReady) this.#wake?.();
  }

  #fail(message: string): void {
    this.#failure ??= new KvError("store_unavailable", message, { retryAfter: 1 });
    this.#wake?.();
  }
}
