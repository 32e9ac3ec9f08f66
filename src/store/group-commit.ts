import { JetStreamError, type JetStream, type PublishAck } from "./jetstream.ts";
import type { Message } from "./requests.ts";

interface Waiting {
  message: Message;
  since: number;
  resolve: (ack: PublishAck) => void;
  reject: (error: unknown) => void;
}

/** From this many on one batch is faster than single writes: it costs as much as about a dozen flushes. */
const WORTH = 12;
/** The most messages of a batch, and the most bytes. */
const MOST = 1000;
const MOST_BYTES = 4 * 1024 * 1024;
/** The longest that a write waits for others to come along, in milliseconds. */
const COMPANY = 2;

/**
 * Group commit, for streams that flush every write to disk. Unconditional writes that wait at the same time go as one atomic
 * batch, which costs a few flushes instead of one each. A lone writer is never held up: a write waits only while a group is
 * being stored, and then at most 2 ms for as much company as the group before had.
 */
export class GroupCommit {
  readonly #js: JetStream;
  #waiting: Waiting[] = [];
  #expected = 1;
  #isStoring = false;
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
    if (this.#isScheduled || this.#isStoring) return;
    this.#isScheduled = true;
    this.#js.connection.requests.beforeFlush(() => {
      this.#isScheduled = false;
      this.#next();
    });
  }

  #next(): void {
    const [first] = this.#waiting;
    if (this.#isStoring || first === undefined) return;
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
    this.#isStoring = true;
    void this.#store(group).finally(() => {
      this.#isStoring = false;
      this.#schedule();
    });
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
        for (const name of ["Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"])
          headers.delete(name);
        return this.#js.publish(subject, payload, headers).then(resolve, reject);
      }),
    );
  }
}
