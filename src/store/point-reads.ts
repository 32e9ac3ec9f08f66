import type { Msg } from "nats";
import type { Entry } from "../protocol/entry.ts";
import type { StoreConnection } from "./connection.ts";
import { headersOf } from "./message-headers.ts";
import { entryOfDirectGet, type MessageContext } from "./stored-message.ts";

interface Waiting {
  entry: Promise<Entry | undefined>;
  resolve: (entry: Entry | undefined) => void;
  reject: (error: unknown) => void;
}

/** Keys asked for at a time: JetStream takes up to 1024, but beyond some hundred the first would wait for the last. */
const BATCH = 256;
/**
 * Bytes of an answer, at most: its rest is asked for again. By itself JetStream sends as much as may wait for a connection (64 MiB), and
 * cuts off one for which a little more waits.
 */
const ANSWER = 8 * 1024 * 1024;
const END_OF_BATCH = 204;
const NOT_FOUND = 404;

/**
 * Reads the latest messages of single keys. Reads of the same turn of the event loop go to JetStream as one request, and
 * reads of the same key are one read: on a busy gateway that is a third more throughput, and an idle one waits for nobody.
 */
export class PointReads {
  readonly #connection: StoreConnection;
  readonly #api: string;
  readonly #context: MessageContext;
  readonly #batches: boolean;
  #waiting = new Map<string, Waiting>();

  /**
   * @param stream whose messages allow direct gets
   * @param context how to read its messages
   * @param batches whether the server can answer for several subjects at once
   */
  constructor(
    connection: StoreConnection,
    stream: string,
    context: MessageContext,
    batches: boolean,
  ) {
    this.#connection = connection;
    this.#api = `$JS.API.DIRECT.GET.${stream}`;
    this.#context = context;
    this.#batches = batches;
  }

  /**
   * The last message of a key, tombstones included, or undefined when there is none.
   *
   * @throws NoRespondersError when there is no such stream
   * @throws KvError `store_unavailable`
   */
  get(suffix: string): Promise<Entry | undefined> {
    if (!this.#batches) return this.#single(suffix);
    const other = this.#waiting.get(suffix);
    if (other !== undefined) return other.entry;
    if (this.#waiting.size === 0) this.#connection.requests.beforeFlush(() => this.#flush());
    const waiting = {} as Waiting;
    waiting.entry = new Promise((resolve, reject) => {
      waiting.resolve = resolve;
      waiting.reject = reject;
    });
    this.#waiting.set(suffix, waiting);
    return waiting.entry;
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = new Map();
    if (waiting.size === 1) {
      for (const [suffix, { resolve, reject }] of waiting)
        this.#single(suffix).then(resolve, reject);
      return;
    }
    const all = [...waiting];
    for (let at = 0; at < all.length; at += BATCH) this.#batch(new Map(all.slice(at, at + BATCH)));
  }

  async #single(suffix: string): Promise<Entry | undefined> {
    const reply = await this.#connection.requests.request(
      `${this.#api}.${this.#context.prefix}${suffix}`,
    );
    return entryOfDirectGet(reply, this.#context);
  }

  #batch(waiting: Map<string, Waiting>): void {
    const subjects = Array.from(waiting.keys(), (suffix) => this.#context.prefix + suffix);
    let refusal: number | undefined;
    let isCutShort = false;
    const onReply = (message: Msg): boolean => {
      const headers = headersOf(message);
      // Of a message whose headers cannot be read nobody knows the key.
      if (headers === undefined) return false;
      const { code } = headers;
      if (code !== 0) {
        // A status ends the batch; 404 says that none of the keys is there.
        if (code !== END_OF_BATCH && code !== NOT_FOUND) refusal = code;
        isCutShort = Number(headers.get("Nats-Num-Pending")) > 0;
        return true;
      }
      const entry = entryOfDirectGet(message, this.#context);
      const suffix = headers.get("Nats-Subject").slice(this.#context.prefix.length);
      waiting.get(suffix)?.resolve(entry);
      waiting.delete(suffix);
      return false;
    };
    this.#connection.requests
      .requestMany(this.#api, JSON.stringify({ multi_last: subjects, max_bytes: ANSWER }), onReply)
      .then(() => {
        if (refusal !== undefined)
          throw new Error(`JetStream refused to read several keys (${refusal})`);
        // The answer grew too large before all was said.
        if (isCutShort && waiting.size < subjects.length) {
          this.#batch(waiting);
          return;
        }
        for (const { resolve } of waiting.values()) resolve(undefined);
      })
      .catch((error: unknown) => {
        for (const { reject } of waiting.values()) reject(error);
      });
  }
}
