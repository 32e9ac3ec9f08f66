/** The public face of a bucket: what its methods promise. How they keep it stands in the files that they call. */
import type { KeyList } from "../../protocol/messages.ts";
import { BucketAccess, type Connection } from "./access.ts";
import * as batch from "./batch.ts";
import type { DeleteManyResult, PutItem, PutManyResult } from "./batch.ts";
import { watchBucket } from "./bucket-watch.ts";
import { changesOf } from "./changes.ts";
import type { Entry, Revision } from "./entry.ts";
import { list, type EntryInfo, type Listing, type ListOptions } from "./listing.ts";
import { LiveBucket, type LiveOptions } from "./live-bucket.ts";
import type { CallOptions } from "./options.ts";
import { revisionText, type Point } from "./points.ts";
import * as reads from "./reads.ts";
import type { Diff, DiffOptions, GetOptions } from "./reads.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { Transaction } from "./transaction.ts";
import type { Ttl } from "./ttl.ts";
import { jsonBodyOf } from "./values.ts";
import type { WatchSink } from "./watch-driver.ts";
import type {
  Change,
  ChangesOptions,
  KeyChange,
  KeysOnly,
  WatchCallbacks,
  Watcher,
  WatchOptions,
} from "./watch.ts";
import * as writes from "./writes.ts";
import type {
  DeleteOptions,
  IncrementOptions,
  MergePatch,
  PatchOptions,
  PutOptions,
  PutResult,
  RestoreOptions,
  ReturnedValue,
  WriteOptions,
  Written,
} from "./writes.ts";

/** Options of {@link Bucket.compact}. */
export interface CompactOptions extends CallOptions {
  /** Only tombstones that are older than this, in the notations of `put`; 0 for all. Default 30 minutes. */
  olderThan?: Ttl | undefined;
}

/**
 * The keys of one bucket. Having one costs nothing: no request is made until a method is called.
 *
 * Every method rejects with a {@link JetbucketError}: beside the codes that it names, with `bucket_not_found`,
 * `invalid_key`, `unauthenticated`, `forbidden`, `store_unavailable`, `timeout`, `network` and `aborted`; those that read or
 * write values, when the bucket has a schema, with `invalid_value`. Reads that the server refuses for the moment are tried up
 * to three times within their timeout; writes are sent once.
 *
 * @typeParam T what values are when they are read
 * @typeParam In what values are when they are written; the same unless the bucket's schema makes something else of them
 */
export class Bucket<T = unknown, In = T> {
  /** The bucket's name. */
  readonly name: string;
  readonly #access: BucketAccess<T, In>;

  /** @internal */
  constructor(connection: Connection, name: string, schema?: StandardSchemaV1<unknown, T>) {
    this.name = name;
    this.#access = new BucketAccess(connection, name, schema);
  }

  /**
   * Stores a value, whatever the key held before: a string as text, a `Uint8Array` or `ArrayBuffer` as bytes, anything
   * else as JSON.
   *
   * Rejects with `value_too_large`, `bucket_full` or `invalid_ttl`, with `revision_mismatch` when `ifRevision` does not hold,
   * and with a `TypeError` for what JSON cannot say, such as undefined.
   *
   * @param options `ttl` (default: the key stays), `ifRevision` (default: any), `return` (`previous` or `latest`; default:
   * neither), `keepCreated` (default false), `description`, `valueType`
   * @example
   * const { revision } = await bucket.put("theme", { mode: "dark" }, { ttl: "24h" });
   * const { previous } = await bucket.put("theme", { mode: "light" }, { return: "previous" });
   */
  async put<R extends ReturnedValue | undefined = undefined>(
    key: string,
    value: In,
    options: PutOptions<R> = {},
  ): Promise<PutResult<T, R>> {
    return writes.put(this.#access, key, value, options, writes.ifMatch(options.ifRevision));
  }

  /**
   * Stores a value only when the key does not exist (a deleted key does not).
   *
   * Rejects with `key_exists`, and as `put` does.
   *
   * @param options as for `put`, without `ifRevision`
   * @example
   * await bucket.create("lock", { owner: "me" }, { ttl: "30s" });
   */
  async create<R extends ReturnedValue | undefined = undefined>(
    key: string,
    value: In,
    options: WriteOptions<R> = {},
  ): Promise<PutResult<T, R>> {
    return writes.put(this.#access, key, value, options, { "if-none-match": "*" });
  }

  /**
   * Stores a value only when the key's latest revision is the one given: compare-and-swap. 0 means that the key must not
   * exist.
   *
   * Rejects with `revision_mismatch`, whose `currentRevision` says where the key is now, and as `put` does.
   *
   * @param options as for `put`, without `ifRevision`
   * @example
   * const entry = await bucket.get("theme");
   * await bucket.update("theme", { ...entry.value, mode: "light" }, entry.revision);
   */
  async update<R extends ReturnedValue | undefined = undefined>(
    key: string,
    value: In,
    revision: number,
    options: WriteOptions<R> = {},
  ): Promise<PutResult<T, R>> {
    return writes.put(this.#access, key, value, options, {
      "if-match": revisionText(revision),
    });
  }

  /**
   * Changes a part of a JSON value: a merge patch (RFC 7396), in one step however many write the key. A key that does not
   * exist becomes the patch.
   *
   * With a schema, what the patch makes of the value is checked before anything is stored. That takes a read and a
   * conditional write, repeated up to ten times while others write the key.
   *
   * Rejects with `revision_mismatch` when `ifRevision` does not hold, `invalid_request` when the value is not JSON, and as
   * `put` does.
   *
   * @param patch members to replace; null removes one
   * @param options `ifRevision` (default: any), `ttl` (default: a running one runs on)
   * @returns the write, and the whole value that it made
   * @example
   * const { value } = await bucket.patch("theme", { mode: "light", accent: null });
   */
  async patch(
    key: string,
    patch: MergePatch<In>,
    options: PatchOptions = {},
  ): Promise<Written & { value: T }> {
    return writes.patch(this.#access, key, patch, options);
  }

  /**
   * Adds to a whole number, exactly, however many do so at once. The schema is not asked.
   *
   * Rejects with `invalid_request` when the value is not a whole number or the sum is none that JavaScript can hold exactly.
   *
   * @param options `by` (default 1), `initial`, which a key that does not exist counts as (default 0), `ttl` (default: a
   * running one runs on)
   * @returns the write, and the new number
   * @example
   * const { value } = await bucket.increment("visits");
   * await bucket.increment("stock", { by: -1, initial: 100 });
   */
  async increment(
    key: string,
    options: IncrementOptions = {},
  ): Promise<Written & { value: number }> {
    return writes.increment(this.#access, key, options);
  }

  /**
   * Gives a key a new time to live, from now on; its value stays.
   *
   * Rejects with `key_not_found` or `invalid_ttl`.
   *
   * @param ttl in the notations of `put`: seconds, `"15m"`, `"PT1M"`, …
   * @example
   * const { expiresAt } = await bucket.touch("session.1", "30m");
   */
  async touch(key: string, ttl: Ttl, options: CallOptions = {}): Promise<Written> {
    return writes.touch(this.#access, key, ttl, options);
  }

  /**
   * Makes the value of an earlier revision the latest one again, as a new revision. The schema is not asked.
   *
   * Rejects with `revision_not_found` when that revision is not kept any more, and with `revision_mismatch` when `ifRevision`
   * does not hold.
   *
   * @example
   * const [first] = await bucket.history("theme");
   * await bucket.restore("theme", first.revision);
   */
  async restore(key: string, revision: number, options: RestoreOptions = {}): Promise<Written> {
    return writes.restore(this.#access, key, revision, options);
  }

  /**
   * Reads a key.
   *
   * Rejects with `key_not_found` when it does not exist: see {@link find} for undefined instead. With `revision` or `asOf`,
   * rejects with `revision_not_found` when the history does not reach that far any more.
   *
   * @param options `revision`, `asOf` (default: the latest), `strong` (default false), `minRevision`
   * @example
   * const { value, revision } = await bucket.get("theme");
   * const mine = await bucket.get("theme", { minRevision: revision });
   */
  async get(key: string, options: GetOptions = {}): Promise<Entry<T>> {
    return this.#access.entry(await reads.getBody(this.#access, key, options));
  }

  /**
   * Reads a key that may not exist: as `get`, with undefined for a key or a revision that is not there. With `asOf` it still
   * rejects with `revision_not_found` when the history does not reach that far: then nobody knows.
   *
   * @example
   * const mode = (await bucket.find("theme"))?.value ?? "dark";
   */
  async find(key: string, options: GetOptions = {}): Promise<Entry<T> | undefined> {
    return reads.absentAsUndefined(this.get(key, options), options);
  }

  /**
   * Reads a key as it was at a revision of the bucket or at a time, as far as the bucket's history reaches.
   *
   * Rejects with `key_not_found` when the key did not exist then, and with `revision_not_found` when that is not known any
   * more.
   *
   * @param at a revision, a `Date`, or a time in ISO 8601
   * @example
   * const { value } = await bucket.keyAt("theme", new Date(Date.now() - 3_600_000));
   */
  async keyAt(key: string, at: Point, options: CallOptions = {}): Promise<Entry<T>> {
    return this.get(key, { ...options, asOf: at });
  }

  /**
   * What happened to a key between two points of the bucket's life.
   *
   * Rejects with `revision_not_found` when the history does not reach that far.
   *
   * @param options `from`, and `to` (default: now): revisions, `Date`s or times in ISO 8601
   * @example
   * const { changed, mergePatch } = await bucket.diff("theme", { from: 3, to: 7 });
   */
  async diff(key: string, options: DiffOptions): Promise<Diff<T>> {
    return reads.diff(this.#access, key, options);
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
    return reads.history(this.#access, key, options);
  }

  /**
   * Deletes a key; its history stays readable. A key that does not exist is deleted already.
   *
   * Rejects with `revision_mismatch` when `ifRevision` is given and does not hold.
   *
   * @example
   * await bucket.delete("flags");
   */
  async delete(key: string, options: DeleteOptions = {}): Promise<void> {
    return writes.remove(this.#access, key, options);
  }

  /**
   * Deletes a key together with its history.
   *
   * Rejects with `revision_mismatch` when `ifRevision` is given and does not hold.
   *
   * @example
   * await bucket.purge("flags");
   */
  async purge(key: string, options: DeleteOptions = {}): Promise<void> {
    return writes.remove(this.#access, key, options, "true");
  }

  /**
   * Reads many keys, a thousand per request. Each is read for itself: this is no snapshot.
   *
   * @returns an entry for each key, in the order asked; undefined for a key that does not exist
   * @example
   * const entries = await bucket.getMany(["theme", "flags"]);
   * console.log(entries.get("theme")?.value);
   */
  async getMany(
    keys: Iterable<string>,
    options: CallOptions = {},
  ): Promise<Map<string, Entry<T> | undefined>> {
    return batch.getMany(this.#access, keys, options);
  }

  /**
   * Stores many values, up to a thousand per request. Each is stored for itself: some may fail, and are not a reason to
   * reject. See {@link transaction} for all or nothing. When a key is there twice, the last one counts.
   *
   * Rejects when a request fails as a whole; items of the requests before it are stored then.
   *
   * @example
   * const { failed } = await bucket.putMany([
   *   { key: "a", value: 1 },
   *   { key: "b", value: 2, ttl: "1h" },
   * ]);
   * for (const [key, error] of failed) console.error(key, error.code);
   */
  async putMany(items: Iterable<PutItem<In>>, options: CallOptions = {}): Promise<PutManyResult> {
    return batch.putMany(this.#access, items, options);
  }

  /**
   * Deletes many keys, a thousand per request, each for itself, as {@link putMany} stores them.
   *
   * @example
   * const { deleted, failed } = await bucket.deleteMany(["a", "b"]);
   */
  async deleteMany(keys: Iterable<string>, options: CallOptions = {}): Promise<DeleteManyResult> {
    return batch.deleteMany(this.#access, keys, options);
  }

  /**
   * A transaction, to be filled and committed: all of its operations happen, or none.
   *
   * @example
   * const { revisions } = await bucket
   *   .transaction()
   *   .update("account.1", { balance: 50 }, first.revision)
   *   .update("account.2", { balance: 150 }, second.revision)
   *   .create("transfer.9", { amount: 50 })
   *   .commit();
   */
  transaction(): Transaction<In> {
    return new Transaction(this.#access);
  }

  /**
   * The entries that exist, sorted by key, page by page as they are needed.
   *
   * Iterating rejects with `invalid_filter`.
   *
   * @param options `prefix`, `filter` (default: every key), `limit`, the size of a page (default 100, without values 1000),
   * `values` (default true; false leaves values out and tells their sizes), `asOf` (default: now)
   * @example
   * for await (const { key, value } of bucket.list({ prefix: "user." })) console.log(key, value);
   */
  list(options: ListOptions & { values: false }): Listing<EntryInfo>;
  list(options?: ListOptions & { values?: true | undefined }): Listing<Entry<T>>;
  list(options?: ListOptions): Listing<Entry<T> | EntryInfo>;
  list(options: ListOptions = {}): Listing<Entry<T> | EntryInfo> {
    return list(this.#access, options);
  }

  /**
   * The names of the keys that exist, sorted, all at once.
   *
   * Rejects with `invalid_filter`.
   *
   * @param filter which ones: `*` stands for one token between dots or a part of one, `>` at the end for all the rest.
   * Default: all of them
   * @example
   * const users = await bucket.listKeys("user.*");
   */
  async listKeys(filter?: string, options: CallOptions = {}): Promise<string[]> {
    const body = await this.#access.get(this.#access.path("keys", { filter }), options);
    return (body as KeyList).keys;
  }

  /**
   * Removes what deleted keys leave behind (tombstones, with the history below them), to save space. Keys that have a value
   * are not touched.
   *
   * @param options `olderThan` (default 30 minutes): watches that are away for longer may not hear of a delete
   * @returns how many were removed
   * @example
   * const { removed } = await bucket.compact({ olderThan: "1d" });
   */
  async compact({ olderThan, ...call }: CompactOptions = {}): Promise<{ removed: number }> {
    const body = jsonBodyOf({ older_than: olderThan });
    const path = this.#access.path("compact");
    return (await this.#access.send({ method: "POST", path, body }, call)) as { removed: number };
  }

  /**
   * Tells of every change as it happens, over a WebSocket that all watches of the client share. It reconnects by itself, with
   * growing pauses, and goes on where it was: each change once. When the server cannot know any more what was missed, the
   * watch tells what is new, and a delete (`inferred`) for every key that went meanwhile. It ends by `stop()`, or when the
   * server refuses it for good (no such bucket, no permission), which `onError` and `onClose` say.
   *
   * What a gap may hide then, and a connection that is too slow at any time: of several writes to a key, all but the last
   * (with `history`: those that are not kept any more). With `updates`, also the removal of keys whose value this watch never
   * told.
   *
   * The changes of a transaction are told one after the other, with nothing in between; `change.transaction` says where they
   * begin and end. A value that does not fit the bucket's schema goes to `onError` instead, and the watch goes on.
   *
   * In Node a watch keeps the process alive until it ends.
   *
   * @param options `key`, one or several patterns (default: every key), `include` (default `snapshot`), `values` (default
   * true; false tells sizes instead), `signal`
   * @throws TypeError without `onUpdate`, or for an empty list of keys
   * @example
   * const watcher = bucket.watch(
   *   { onUpdate: (change) => console.log(change.key, change.value) },
   *   { key: "user.*" },
   * );
   * watcher.stop();
   */
  watch(callbacks: WatchCallbacks<T, KeyChange>, options: KeysOnly<WatchOptions>): Watcher;
  watch(callbacks: WatchCallbacks<T>, options?: WatchOptions): Watcher;
  watch(
    callbacks: WatchCallbacks<T, never>,
    options: WatchOptions | KeysOnly<WatchOptions> = {},
  ): Watcher {
    return watchBucket(this.#access, callbacks as WatchCallbacks, options);
  }

  /**
   * The changes of a {@link watch} as an iterable; leaving the loop ends the watch. Changes wait in memory until they are
   * asked for. Throws what the watch could not go on for; what else needs attention goes to `onError`.
   *
   * @example
   * for await (const change of bucket.changes({ key: "theme" })) {
   *   console.log(change.value);
   * }
   */
  changes(options: KeysOnly<ChangesOptions>): AsyncGenerator<KeyChange, void, undefined>;
  changes(options?: ChangesOptions): AsyncGenerator<Change<T>, void, undefined>;
  changes(
    options: ChangesOptions | KeysOnly<ChangesOptions> = {},
  ): AsyncGenerator<unknown, void, undefined> {
    return changesOf<unknown>(
      (callbacks) => watchBucket(this.#access, callbacks, options),
      options.onError,
    );
  }

  /**
   * The bucket's values as a read-only `Map` that keeps itself up to date: see {@link LiveBucket}. It fetches every value that
   * `key` covers, and keeps them in memory.
   *
   * In Node a live view keeps the process alive until it is closed.
   *
   * @param options `key`, one or several patterns (default: every key), `signal`, `onError`
   * @throws TypeError for an empty list of keys
   * @example
   * const users = bucket.live({ key: "user.*" });
   * await users.ready;
   * for (const [key, value] of users) console.log(key, value);
   * users.close();
   */
  live({ key, signal, onError }: LiveOptions = {}): LiveBucket<T> {
    return new LiveBucket(
      (sink) => watchBucket(this.#access, sink as WatchSink<never>, { key, signal }),
      onError,
    );
  }
}
