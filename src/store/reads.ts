import type { Msg } from "nats";
import type { Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { decodeKey, encodeKey } from "../protocol/keys.ts";
import type { Capabilities } from "./capabilities.ts";
import { bucketNotFound, kvErrorOf } from "./errors.ts";
import { codes, JetStreamError, type JetStream, type StreamConfig } from "./jetstream.ts";
import { headersOfBytes } from "./message-headers.ts";
import { PointReads } from "./point-reads.ts";
import { NoRespondersError } from "./requests.ts";
import { entryOf, entryOfDirectGet, isoMillis, type MessageContext } from "./stored-message.ts";

/** A point in a bucket's past: a revision, or a time in ISO 8601. */
export type Moment = { revision: number } | { time: string };

const NOTHING = new Uint8Array(0);

/** Whether a key may be stored verbatim by another client, although it looks like an escape of ours: `page=10`. */
function isForeign(key: string): boolean {
  return /=[0-9A-F]{2}/.test(key) && /^[A-Za-z0-9\-/_=.]+$/.test(key) && decodeKey(key) === key;
}

/**
 * Reads single messages of a bucket. Direct reads are answered by whichever server is nearest, which on a replicated bucket
 * may lag behind; reads from the leader have seen every acknowledged write.
 */
export class Reads {
  readonly #js: JetStream;
  readonly #name: string;
  readonly #stream: string;
  readonly #context: MessageContext;
  readonly #points: PointReads | undefined;

  constructor(
    js: JetStream,
    name: string,
    config: StreamConfig,
    context: MessageContext,
    can: Capabilities,
  ) {
    this.#js = js;
    this.#name = name;
    this.#stream = config.name;
    this.#context = context;
    this.#points =
      config.allow_direct === true
        ? new PointReads(js.connection, config.name, context, can.batchGet)
        : undefined;
  }

  /** The last message of a key, tombstones included, from whichever server answers fastest. */
  async latest(key: string): Promise<Entry | undefined> {
    if (this.#points === undefined) return this.leaderLatest(key);
    try {
      const entry = await this.#points.get(encodeKey(key));
      return entry === undefined && isForeign(key) ? await this.#points.get(key) : entry;
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  /**
   * The last message under a subject suffix, tombstones included.
   *
   * @param revision the oldest that it can be. A server that lags behind is not believed, nor one that finds an older message by
   * subject than it holds (nats-server 2.15.1, after it was killed): then the message of this revision is taken
   */
  async latestOf(suffix: string, revision: number): Promise<Entry | undefined> {
    try {
      const entry = await this.#points?.get(suffix);
      if (entry !== undefined && entry.revision >= revision) return entry;
    } catch (error) {
      throw await this.#explained(error);
    }
    return (
      (await this.#leader({ seq: revision })) ??
      (await this.#leader({ last_by_subj: this.#context.prefix + suffix }))
    );
  }

  /** The last message of a key, tombstones included, from the stream's leader. */
  leaderLatest(key: string): Promise<Entry | undefined> {
    return this.#leader({ last_by_subj: this.#context.prefix + encodeKey(key) });
  }

  /** The message at a sequence of the stream, whatever its key. */
  async at(sequence: number): Promise<Entry | undefined> {
    if (this.#points === undefined) return this.leaderAt(sequence);
    return entryOfDirectGet(await this.#direct({ seq: sequence }), this.#context);
  }

  /** The message at a sequence of the stream, from its leader. */
  leaderAt(sequence: number): Promise<Entry | undefined> {
    return this.#leader({ seq: sequence });
  }

  /** A bucket's own error for whatever a request failed with. */
  #explained(error: unknown): unknown {
    return error instanceof NoRespondersError ? this.absence(error) : error;
  }

  /** Nobody answered on the bucket's subjects: because it is gone, or because JetStream is not there? */
  async absence(cause: unknown): Promise<KvError> {
    try {
      await this.#js.streamInfo(this.#stream);
    } catch (error) {
      if (error instanceof JetStreamError && error.code === codes.streamNotFound)
        return bucketNotFound(this.#name, cause);
      if (error instanceof KvError) return error;
    }
    return new KvError("store_unavailable", `bucket "${this.#name}" does not answer now`, {
      retryAfter: 1,
      cause,
    });
  }

  async #direct(query: object): Promise<Msg> {
    try {
      return await this.#js.connection.requests.request(
        `$JS.API.DIRECT.GET.${this.#stream}`,
        JSON.stringify(query),
      );
    } catch (error) {
      throw await this.#explained(error);
    }
  }

  async #leader(query: { last_by_subj: string } | { seq: number }): Promise<Entry | undefined> {
    interface StoredMessage {
      message: { subject: string; seq: number; time: string; data?: string; hdrs?: string };
    }
    try {
      const { message } = await this.#js.call<StoredMessage>(
        `STREAM.MSG.GET.${this.#stream}`,
        query,
      );
      const { prefix, maxAge } = this.#context;
      if (!message.subject.startsWith(prefix)) return undefined;
      const suffix = message.subject.slice(prefix.length);
      const headers =
        message.hdrs === undefined
          ? undefined
          : headersOfBytes(Buffer.from(message.hdrs, "base64"));
      const data = message.data === undefined ? NOTHING : Buffer.from(message.data, "base64");
      return entryOf(suffix, message.seq, isoMillis(message.time), headers, data, maxAge);
    } catch (error) {
      if (error instanceof JetStreamError && error.code === codes.messageNotFound) return undefined;
      throw kvErrorOf(error, this.#name);
    }
  }
}
