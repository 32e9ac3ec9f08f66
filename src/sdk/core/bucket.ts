import type { EntryBody, HistoryList, KeyList, PutResult } from "../../protocol/messages.ts";
import { changesOf } from "./changes.ts";
import { revisionOf, type Entry, type Revision } from "./entry.ts";
import { JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";
import { bucketPath, keyPath, queryOf } from "./paths.ts";
import type { SocketFactory } from "./socket.ts";
import type { Transport } from "./transport.ts";
import { bodyOf } from "./values.ts";
import { WatchDriver } from "./watch-driver.ts";
import type { Change, WatchCallbacks, Watcher, WatchOptions } from "./watch.ts";

/** A write that was stored. */
export interface Written {
  /** Names this write of this key; pass it to `update` or `delete` as a condition. */
  revision: number;
  /** When it was stored, ISO 8601. */
  createdAt: string;
  /** When the key will go by itself, ISO 8601; undefined when it stays. */
  expiresAt?: string;
}

export interface GetOptions extends CallOptions {
  /** Read this revision instead of the latest, as far as the bucket's history reaches. */
  revision?: number | undefined;
}

export interface DeleteOptions extends CallOptions {
  /** Delete only when the key's latest revision is this one; else the call rejects with `revision_mismatch`. */
  ifRevision?: number | undefined;
}

/** What a bucket is reached through. */
export interface Connection {
  transport: Transport;
  openSocket: SocketFactory;
  /** Base address with `ws:` or `wss:`. */
  socketUrl: string;
  token: () => Promise<string | undefined>;
}

/**
 * The keys of one bucket. Having one costs nothing: no request is made until a method is called.
 *
 * Every method rejects with a {@link JetbucketError}: beside the codes that it names, with `bucket_not_found`,
 * `invalid_key`, `unauthenticated`, `forbidden`, `store_unavailable`, `timeout`, `network` and `aborted`. Reads that the
 * server refuses for the moment are tried up to three times within their timeout; writes are sent once.
 *
 * @typeParam T what the values are; the SDK takes your word for it
 */
export class Bucket<T = unknown> {
  /** The bucket's name. */
  readonly name: string;
  readonly #connection: Connection;

  constructor(connection: Connection, name: string) {
    this.#connection = connection;
    this.name = name;
  }

  /**
   * Stores a value, whatever the key held before: a string as text, a `Uint8Array` or `ArrayBuffer` as bytes, anything
   * else as JSON.
   *
   * Rejects with `value_too_large` or `bucket_full`, and with a `TypeError` for what JSON cannot say, such as undefined.
   *
   * @example
   * const { revision } = await bucket.put("theme", { mode: "dark" });
   */
  async put(key: string, value: T, options: CallOptions = {}): Promise<Written> {
    return this.#write(key, value, {}, options);
  }

  /**
   * Stores a value only when the key does not exist (a deleted key does not).
   *
   * Rejects with `key_exists`, and as `put` does.
   *
   * @example
   * await bucket.create("lock", { owner: "me" });
   */
  async create(key: string, value: T, options: CallOptions = {}): Promise<Written> {
    return this.#write(key, value, { "if-none-match": "*" }, options);
  }

  /**
   * Stores a value only when the key's latest revision is the one given: compare-and-swap. 0 means that the key must not
   * exist.
   *
   * Rejects with `revision_mismatch`, whose `currentRevision` says where the key is now, and as `put` does.
   *
   * @example
   * const entry = await bucket.get("theme");
   * await bucket.update("theme", { ...entry.value, mode: "light" }, entry.revision);
   */
  async update(
    key: string,
    value: T,
    revision: number,
    options: CallOptions = {},
  ): Promise<Written> {
    return this.#write(key, value, { "if-match": revisionText(revision) }, options);
  }

  /**
   * Reads a key.
   *
   * Rejects with `key_not_found` when it does not exist: see {@link find} for undefined instead. With a `revision`,
   * rejects with `revision_not_found` when that one is not kept any more.
   *
   * @example
   * const { value, revision } = await bucket.get("theme");
   */
  async get(key: string, { revision, ...call }: GetOptions = {}): Promise<Entry<T>> {
    const query = { revision: revision === undefined ? undefined : revisionText(revision) };
    const path = keyPath(this.name, "keys", key, query);
    const body = await this.#connection.transport.send({ method: "GET", path }, call);
    return revisionOf<T>(body as EntryBody) as Entry<T>;
  }

  /**
   * Reads a key that may not exist: as `get`, with undefined for a key or a revision that is not there.
   *
   * @example
   * const mode = (await bucket.find("theme"))?.value ?? "dark";
   */
  async find(key: string, options: GetOptions = {}): Promise<Entry<T> | undefined> {
    try {
      return await this.get(key, options);
    } catch (error) {
      const code = error instanceof JetbucketError ? error.code : undefined;
      if (code === "key_not_found" || code === "revision_not_found") return undefined;
      throw error;
    }
  }

  /**
   * Deletes a key; its history stays readable. A key that does not exist is deleted already.
   *
   * Rejects with `revision_mismatch` when `ifRevision` is given and does not hold.
   *
   * @example
   * await bucket.delete("flags");
   */
  async delete(key: string, { ifRevision, ...call }: DeleteOptions = {}): Promise<void> {
    const path = keyPath(this.name, "keys", key);
    const headers = ifRevision === undefined ? {} : { "if-match": revisionText(ifRevision) };
    await this.#connection.transport.send({ method: "DELETE", path, headers }, call);
  }

  /**
   * Deletes a key together with its history.
   *
   * @example
   * await bucket.purge("flags");
   */
  async purge(key: string, options: CallOptions = {}): Promise<void> {
    const path = keyPath(this.name, "keys", key, { purge: "true" });
    await this.#connection.transport.send({ method: "DELETE", path }, options);
  }

  /**
   * The names of the keys that exist, sorted.
   *
   * Rejects with `invalid_filter`.
   *
   * @param filter which ones: `*` stands for one token between dots or a part of one, `>` at the end for all the rest.
   * Default: all of them
   * @example
   * const users = await bucket.listKeys("user.*");
   */
  async listKeys(filter?: string, options: CallOptions = {}): Promise<string[]> {
    const path = `${bucketPath(this.name)}/keys${queryOf({ filter })}`;
    const body = await this.#connection.transport.send({ method: "GET", path }, options);
    return (body as KeyList).keys;
  }

  /**
   * The revisions of a key that are kept, oldest first, removals included. How many there are is the bucket's `history`.
   *
   * Rejects with `key_not_found` when there are none.
   *
   * @example
   * for (const { revision, value } of await bucket.history("theme")) console.log(revision, value);
   */
  async history(key: string, options: CallOptions = {}): Promise<Revision<T>[]> {
    const path = keyPath(this.name, "history", key);
    const body = await this.#connection.transport.send({ method: "GET", path }, options);
    return (body as HistoryList).entries.map((entry) => revisionOf<T>(entry));
  }

  /**
   * Tells of every change as it happens, over a WebSocket. It reconnects by itself, with growing pauses, and then tells
   * what it missed: each write once, and a delete for every key that went meanwhile. It ends by `stop()`, or when the
   * server refuses it for good (no such bucket, no permission), which `onError` and `onClose` say.
   *
   * What a gap hides: of several writes to a key, all but the last (with `history`: those that are not kept any more).
   * With `updates`, also the removal of keys whose value this watch never told; and when the bucket was deleted and
   * created anew before the watch told anything, its first writes.
   *
   * In Node a watch keeps the process alive until it ends.
   *
   * @example
   * const watcher = bucket.watch(
   *   { onUpdate: (change) => console.log(change.key, change.value) },
   *   { key: "user.*" },
   * );
   * watcher.stop();
   */
  watch(callbacks: WatchCallbacks<T>, options: WatchOptions = {}): Watcher {
    if (typeof (callbacks as Partial<WatchCallbacks<T>> | undefined)?.onUpdate !== "function") {
      throw new TypeError("watch needs an onUpdate callback");
    }
    const keys = options.key;
    if (typeof keys === "object" && keys.length === 0) {
      throw new TypeError("a watch of no keys: leave `key` out for every key");
    }
    const { transport, openSocket, socketUrl, token } = this.#connection;
    const { name } = this;
    return new WatchDriver<T>(
      {
        bucket: name,
        url: (include) => `${socketUrl}${bucketPath(name)}/watch${queryOf({ key: keys, include })}`,
        token,
        openSocket,
        probe: () => transport.send({ method: "GET", path: bucketPath(name) }),
      },
      callbacks,
      options,
    );
  }

  /**
   * The changes of a {@link watch} as an iterable; leaving the loop ends the watch. Changes wait in memory until they are
   * asked for. Throws what the watch could not go on for.
   *
   * @example
   * for await (const change of bucket.changes({ key: "theme" })) {
   *   console.log(change.value);
   * }
   */
  changes(options: WatchOptions = {}): AsyncGenerator<Change<T>, void, undefined> {
    return changesOf<T>((callbacks) => this.watch(callbacks, options));
  }

  async #write(
    key: string,
    value: T,
    headers: Record<string, string>,
    call: CallOptions,
  ): Promise<Written> {
    const path = keyPath(this.name, "keys", key);
    const request = { method: "PUT", path, headers, body: bodyOf(value) } as const;
    const result = (await this.#connection.transport.send(request, call)) as PutResult;
    return {
      revision: result.revision,
      createdAt: result.created_at,
      ...(result.expires_at === undefined ? {} : { expiresAt: result.expires_at }),
    };
  }
}

/** A condition that is no number must not go out as none: the write would be unconditional. */
function revisionText(revision: number): string {
  if (!Number.isSafeInteger(revision) || revision < 0) {
    throw new TypeError(`a revision is a whole number, not ${String(revision)}`);
  }
  return String(revision);
}
