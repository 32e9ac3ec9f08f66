import { JetStreamError, type JetStream, type PublishAck } from "./jetstream.ts";
import type { Message } from "./requests.ts";
import { leaveBatch } from "./stored-message.ts";

interface Waiting {
  message: Message;
  since: number;
  resolve: (ack: PublishAck) => void;
  reject: (error: unknown) => void;
}

/**
 * From this many on one batch is faster than single writes. nats-server 2.15 flushes six times for a batch, whatever its size:
 * five for a store of its own where it collects the messages, one for the stream. With the files that it makes and removes for
 * that, a batch costs as much as about a dozen single writes.
 */
const WORTH = 12;
/** The most messages of a batch, and the most bytes. */
const MOST = 1000;
const MOST_BYTES = 4 * 1024 * 1024;
/**
 * Groups under way at a time. The server stores one after the other; with a second one it has work while the gateway answers
 * those of the first. Measured over HTTP: +25 % at 64 connections, +10 % at 256; a third took some of it away again.
 */
const LANES = 2;
/** The longest that a write waits for others to come along, in milliseconds. */
const COMPANY = 2;

/**
 * Group commit, for streams that flush every write to disk. Unconditional writes that wait at the same time go as one atomic
 * batch, which costs a few flushes instead of one each. A lone writer is not held up: a write waits for one of the groups that
 * are being stored, and at most 2 ms for as much company as the group before had.
 */
export class GroupCommit {
  readonly #js: JetStream;
  #waiting: Waiting[] = [];
  #expected = 1;
  #storing = 0;
  #isScheduled = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(js: JetStream) {
    this.#js = js;
  }

  /** Stores a message. @throws as `JetStream.publish` */
  publish(message: Message): Promise<PublishAck> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ message, since: performance.now(), resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled || this.#storing === LANES) return;
    this.#isScheduled = true;
    this.#js.connection.requests.beforeFlush(() => {
      this.#isScheduled = false;
      this.#next();
    });
  }

  #next(): void {
    const [first] = this.#waiting;
    if (this.#storing === LANES || first === undefined) return;
    const patience = COMPANY - (performance.now() - first.since);
    if (this.#waiting.length < this.#expected && patience > 0) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#next();
      }, patience);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const group = this.#take();
    this.#expected = group.length;
    this.#storing += 1;
    void this.#store(group).finally(() => {
      this.#storing -= 1;
      this.#schedule();
    });
    // More than fit into one group.
    if (this.#waiting.length > 0) this.#schedule();
  }

  #take(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { message } of this.#waiting) {
      bytes += message.payload.length;
      if (count === MOST || (count > 0 && bytes > MOST_BYTES)) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  async #store(group: readonly Waiting[]): Promise<void> {
    if (group.length < WORTH) return this.#storeEach(group);
    try {
      const { seq } = await this.#js.publishBatch(
        group.map(({ message }) => message),
        "group",
      );
      group.forEach(({ resolve }, i) => resolve({ seq: seq - group.length + 1 + i }));
    } catch (error) {
      // One of them was refused, and so all were: each for itself tells which.
      if (error instanceof JetStreamError) return this.#storeEach(group);
      for (const { reject } of group) reject(error);
    }
  }

  async #storeEach(group: readonly Waiting[]): Promise<void> {
    await Promise.all(
      group.map(({ message: { subject, payload, headers }, resolve, reject }) => {
        leaveBatch(headers);
        return this.#js.publish(subject, payload, headers).then(resolve, reject);
      }),
    );
  }
}
