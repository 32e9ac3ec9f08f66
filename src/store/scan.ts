import type { Msg } from "nats";
import { createInbox, nuid } from "nats";
import { KvError } from "../protocol/errors.ts";
import type { ConsumerInfo, JetStream, StreamInfo } from "./jetstream.ts";
import { deliveryOf, type Delivery } from "./stored-message.ts";

export interface ScanOptions {
  stream: string;
  /** Full subjects, wildcards allowed, none covering another. */
  filters: string[];
  /** The last message of every subject, or all that are stored. */
  deliver: "last" | "all";
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

/** Messages asked for at a time. The next batch is under way while one is worked on. */
const BATCH = 512;
const BATCH_BYTES = 4 * 1024 * 1024;
/** The same where their number alone limits what a batch may weigh. */
const UNWEIGHED_BATCH = 64;
/** A consumer that a killed gateway leaves behind slows writes down, so it lives on only this long (nanoseconds). */
const INACTIVE = 10 * 1_000_000_000;
/** Each round reads what was written during the one before, so they shrink; this is for writers faster than a reader. */
const MAX_ROUNDS = 16;
/** Silence for this long, in milliseconds, while messages are due means that the consumer is gone. */
const SILENCE = 10_000;

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
  const info = await js.streamInfo(options.stream);
  let end = info.state.last_seq;
  let rounds = options.complete === true ? MAX_ROUNDS : 1;
  const name = `jetbucket-scan-${nuid.next()}`;
  const consumer = await js.call<ConsumerInfo>(`CONSUMER.CREATE.${options.stream}.${name}`, {
    stream_name: options.stream,
    config: {
      name,
      deliver_policy: options.deliver === "last" ? "last_per_subject" : "all",
      ack_policy: "none",
      ...(options.filters.length === 1
        ? { filter_subject: options.filters[0] }
        : { filter_subjects: options.filters }),
      ...(options.headersOnly === true ? { headers_only: true } : {}),
      mem_storage: true,
      num_replicas: 1,
      max_waiting: 2,
      inactive_threshold: INACTIVE,
    },
  });
  if (consumer.num_pending === 0) {
    await drop(js, options.stream, name);
    return;
  }
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
      if (!done) batches.prefetch();
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
  if (options.deliver === "last" && config.max_msgs_per_subject !== 1) {
    if (options.headersOnly === true) return { batch: BATCH };
    const average = state.bytes / Math.max(state.messages, 1);
    const fitting = Math.floor(BATCH_BYTES / Math.max(average, 1));
    return { batch: Math.min(Math.max(fitting, 1), UNWEIGHED_BATCH) };
  }
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

/** Pulls batches from a consumer, at most one ahead. */
class BatchReader {
  readonly #js: JetStream;
  readonly #subject: string;
  readonly #inbox = createInbox();
  /** Where the batch that is under way is sent: each has its own subject. */
  #reply = "";
  #pulls = 0;
  readonly #subscription;
  readonly #offLine: () => void;
  readonly #limits: BatchLimits;
  #batch: ScannedMessage[] = [];
  #ready: ScannedMessage[] | undefined;
  #requested = false;
  #failure: KvError | undefined;
  #wake: (() => void) | undefined;

  constructor(js: JetStream, stream: string, consumer: string, limits: BatchLimits) {
    this.#js = js;
    this.#subject = `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
    this.#limits = limits;
    this.#subscription = js.connection.nats.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.#onMessage(message);
      },
    });
    this.#offLine = js.connection.onChange(() =>
      this.#fail("the connection to NATS was lost while reading"),
    );
  }

  prefetch(): void {
    if (this.#requested) return;
    this.#requested = true;
    this.#reply = `${this.#inbox}.${this.#pulls++}`;
    this.#js.connection.nats.publish(
      this.#subject,
      JSON.stringify({ ...this.#limits, no_wait: true }),
      { reply: this.#reply },
    );
  }

  async next(): Promise<ScannedMessage[]> {
    this.prefetch();
    let timer: NodeJS.Timeout | undefined;
    while (this.#ready === undefined && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(() => this.#fail("NATS did not answer in time"), SILENCE);
      });
      clearTimeout(timer);
    }
    if (this.#failure !== undefined) throw this.#failure;
    const batch = this.#ready ?? [];
    this.#ready = undefined;
    this.#requested = false;
    return batch;
  }

  close(): void {
    this.#offLine();
    this.#subscription.unsubscribe();
  }

  #onMessage(message: Msg): void {
    // Only a status comes without an acknowledgement subject.
    if (message.reply === undefined || message.reply === "") {
      this.#onStatus(message);
      return;
    }
    const delivery = deliveryOf(message.reply);
    this.#batch.push({ message, delivery });
    if (this.#batch.length === this.#limits.batch || delivery.pending === 0) this.#complete();
  }

  #onStatus({ subject, headers }: Msg): void {
    // Only the word that a batch, this one or an earlier one, has come to its end, when it was complete before.
    if (subject !== this.#reply || this.#ready !== undefined || !this.#requested) return;
    // Nothing more is there (404), or no room for the next one in this batch (409, which says how much is left).
    if (headers?.code === 404 || headers?.has("Nats-Pending-Messages") === true) this.#complete();
    else this.#fail("the bucket changed while it was read");
  }

  #complete(): void {
    // Not yet taken, it goes on: writes that come right behind the last pending message belong to this batch, too.
    this.#ready = this.#ready === undefined ? this.#batch : [...this.#ready, ...this.#batch];
    this.#batch = [];
    this.#wake?.();
  }

  #fail(message: string): void {
    this.#failure ??= new KvError("store_unavailable", message, { retryAfter: 1 });
    this.#wake?.();
  }
}
