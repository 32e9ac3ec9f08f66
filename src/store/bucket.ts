import { isExpired, isLive, type Entry, type LiveEntry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { decodeKey, everyKey, keyPattern, type KeyPattern } from "../protocol/keys.ts";
import type { Value } from "../protocol/values.ts";
import { capabilitiesOf } from "./capabilities.ts";
import {
  checkCondition,
  conflict,
  keyNotFound,
  mustBeAbsent,
  type Condition,
} from "./conditions.ts";
import { messagesAfter } from "./catch-up.ts";
import { GroupCommit } from "./group-commit.ts";
import { isWrongRevision, kvErrorOf, needsServer } from "./errors.ts";
import type { JetStream, PublishAck, StreamInfo } from "./jetstream.ts";
import { headersOf } from "./message-headers.ts";
import { pause } from "./pause.ts";
import { Reads } from "./reads.ts";
import { NoRespondersError, type Message } from "./requests.ts";
import { scan, type ScannedMessage } from "./scan.ts";
import {
  batchPartOf,
  CARRIER,
  entryOfDelivery,
  inWholeSeconds,
  keyStateOf,
  isoAfter,
  type BatchPart,
  type KeyState,
  type MessageContext,
  type ValueExtras,
} from "./stored-message.ts";
import { WriteMessages } from "./write-messages.ts";

/** A stored revision with the subject suffix of its key. */
export interface StoredEntry {
  suffix: string;
  entry: Entry;
  /**
   * Its part in a transaction. The last message of one may be none that anybody sees, and then no entry is the last:
   * the transaction ends where another one begins, or none.
   */
  batch?: BatchPart;
}

export interface GetOptions {
  /** Read from the stream's leader, which has seen every acknowledged write. */
  strong?: boolean;
  /** Do not answer from a server that has not reached this revision. */
  minRevision?: number;
}

export interface PutOptions extends ValueExtras {
  condition?: Condition;
  /** Keep the time at which the key was first written; a key that does not exist begins now. */
  keepCreated?: boolean;
  /** Also give the entry that was replaced, or the one that was written. */
  returns?: "previous" | "latest";
}

export interface Written {
  revision: number;
  /** When the write was acknowledged here; the store's own time of it is some milliseconds earlier. */
  createdAt: string;
  expiresAt?: string;
  /** The entry that the write replaced; undefined when there was none. Only when asked for. */
  previous?: Entry | undefined;
  /** The entry as it is stored. Only when asked for. */
  latest?: Entry;
}

/** What a read-modify-write makes of a key's current entry. */
export interface Replacement {
  value: Value;
  extras?: ValueExtras;
}

/** Attempts to get a write through that loses races against other writers of the same key. */
const ATTEMPTS = 100;
/** Keys whose values are read at a time, and their bytes. */
const READ_KEYS = 512;
const READ_BYTES = 4 * 1024 * 1024;

export interface ReadOptions {
  /** Leave the values on the server. */
  headersOnly?: boolean;
  /** For readers that do not follow the changes, see {@link scan}. */
  complete?: boolean;
  /** Also give values whose time is over and that are stored for a moment longer. */
  keepExpired?: boolean;
}

/**
 * One bucket: entries in a JetStream KV stream. It holds what of the stream's settings a request needs, so that a
 * plain read or write is one round trip.
 */
export class Bucket {
  readonly name: string;
  readonly stream: string;
  /** When the bucket was created: tells it from an earlier or later one of the same name. */
  readonly epoch: string;
  /** How to read its messages. */
  readonly context: MessageContext;
  /** Makes the messages that write to it. */
  readonly messages: WriteMessages;
  /** Revisions that it keeps of each key. */
  readonly historyLimit: number;
  readonly #js: JetStream;
  readonly #reads: Reads;
  readonly #allowsBatches: boolean;
  /** Whether values can end without a message that says so: another client made the bucket. */
  readonly #expiresSilently: boolean;
  readonly #groups: GroupCommit;
  readonly #storage: "file" | "memory";
  readonly #replicas: number;

  constructor(js: JetStream, name: string, info: StreamInfo) {
    const { config } = info;
    this.#js = js;
    this.name = name;
    this.stream = config.name;
    this.epoch = info.created;
    this.context = {
      prefix: `$KV.${config.name.slice("KV_".length)}.`,
      maxAge: config.max_age / 1_000_000,
    };
    this.#storage = config.storage;
    this.#replicas = config.num_replicas;
    this.#reads = new Reads(
      js,
      name,
      config,
      this.context,
      capabilitiesOf(js.connection.serverVersion),
    );
    this.messages = new WriteMessages(js.connection, name, this.context.prefix, config);
    this.historyLimit = config.max_msgs_per_subject > 0 ? config.max_msgs_per_subject : Infinity;
    this.#allowsBatches = config.allow_atomic === true;
    this.#expiresSilently =
      (config.max_age > 0 || config.allow_msg_ttl === true) &&
      !((config.subject_delete_marker_ttl ?? 0) > 0);
    this.#groups = new GroupCommit(js);
  }

  get subjectPrefix(): string {
    return this.context.prefix;
  }

  /** How durable an acknowledged write is, as the server and the stream are set up now. */
  get durability(): "fsync" | "replicated" | "cached" | "memory" {
    if (this.#storage === "memory") return "memory";
    if (this.#js.connection.syncsAlways) return "fsync";
    return this.#replicas > 1 ? "replicated" : "cached";
  }

  /** Whether writes that wait at the same time are stored together: it pays where each is flushed to disk. */
  get #groupsWrites(): boolean {
    return this.#allowsBatches && this.#storage === "file" && this.#js.connection.syncsAlways;
  }

  /**
   * Reads a key's latest value.
   *
   * @throws KvError `key_not_found` when it was never written, was deleted, or has expired
   */
  async get(key: string, options: GetOptions = {}): Promise<Entry> {
    let entry =
      options.strong === true ? await this.#reads.leaderLatest(key) : await this.#reads.latest(key);
    // A server that lags behind shows an older revision, or none. One that shows this revision or a later one does not.
    if (options.minRevision !== undefined && (entry?.revision ?? 0) < options.minRevision) {
      entry = await this.#reads.leaderLatest(key);
      if (
        (entry?.revision ?? 0) < options.minRevision &&
        (await this.lastRevision()) < options.minRevision
      ) {
        throw new KvError(
          "revision_not_found",
          `bucket "${this.name}" has not reached revision ${options.minRevision}`,
        );
      }
    }
    if (!isLive(entry)) throw keyNotFound(key, entry);
    return entry;
  }

  /** As {@link get}, with undefined for a key that is not there. */
  async find(key: string): Promise<Entry | undefined> {
    const entry = await this.#reads.latest(key);
    return isLive(entry) ? entry : undefined;
  }

  /**
   * Reads a key as it was at one of its own revisions, as far as the bucket's history reaches.
   *
   * @throws KvError `revision_not_found`, `key_not_found` when that revision is a tombstone
   */
  async getRevision(key: string, revision: number): Promise<Entry> {
    const entry = await this.#revisionOf(key, revision);
    if (entry === undefined) {
      throw new KvError(
        "revision_not_found",
        `key "${key}" has no revision ${revision}, or no longer`,
      );
    }
    if (!isLive(entry)) throw keyNotFound(key, entry);
    return entry;
  }

  /** As {@link getRevision}, with undefined for what is not there any more. */
  async findRevision(key: string, revision: number): Promise<Entry | undefined> {
    const entry = await this.#revisionOf(key, revision);
    return isLive(entry) ? entry : undefined;
  }

  async #revisionOf(key: string, revision: number): Promise<Entry | undefined> {
    const entry = await this.#reads.at(revision);
    return entry?.key === key ? entry : undefined;
  }

  /**
   * Writes a value. Without a condition it takes whatever is there.
   *
   * @throws KvError `key_exists` or `revision_mismatch` with `details.current_revision` when the condition does not
   * hold, `value_too_large`, `bucket_full`, `unsupported` when the server has no time to live
   */
  async put(key: string, value: Value, options: PutOptions = {}): Promise<Written> {
    const { condition, returns, keepCreated } = options;
    this.messages.check(value, options.ttl);
    if (condition?.kind === "present" || keepCreated === true || returns === "previous") {
      let extras: PutOptions = options;
      const write = await this.replace(key, (latest) => {
        checkCondition(key, condition, latest);
        extras =
          keepCreated === true && isLive(latest)
            ? { ...options, firstCreatedAt: latest.firstCreatedAt ?? latest.createdAt }
            : options;
        return { value, extras };
      });
      return returns === "latest"
        ? { ...write, latest: await this.#written(key, value, extras, write) }
        : write;
    }
    const write =
      condition === undefined
        ? await this.#put(key, value, options, undefined)
        : await this.#conditional(key, condition, (expected) =>
            this.#put(key, value, options, expected),
          );
    return returns === "latest"
      ? { ...write, latest: await this.#written(key, value, options, write) }
      : write;
  }

  /**
   * Writes what a function makes of a key's current entry, again and again until nobody else wrote in between.
   *
   * @param make gets the latest message of the key, tombstones included; may throw to give up
   * @throws KvError `revision_mismatch` when other writers were faster too many times
   */
  async replace(key: string, make: (latest: Entry | undefined) => Replacement): Promise<Written> {
    for (let attempt = 1; ; attempt++) {
      const latest = await this.#reads.leaderLatest(key);
      const { value, extras = {} } = make(latest);
      try {
        const written = await this.#put(key, value, extras, latest?.revision ?? 0);
        return { ...written, previous: isLive(latest) ? latest : undefined };
      } catch (error) {
        if (!isWrongRevision(error)) throw error;
        if (attempt === ATTEMPTS)
          throw conflict(key, undefined, await this.#reads.leaderLatest(key));
        await pause(attempt);
      }
    }
  }

  /**
   * Deletes a key: a tombstone hides its value, a purge also removes its history. Deleting what is not there does
   * nothing, unless a condition asks for it.
   *
   * @returns whether there was a value
   * @throws KvError `revision_mismatch` with `details.current_revision` when the condition does not hold
   */
  async delete(
    key: string,
    options: { purge?: boolean; condition?: Condition } = {},
  ): Promise<boolean> {
    const { purge = false, condition } = options;
    const publish = (expected: number | undefined): Promise<Written> =>
      this.#publish(this.messages.tombstone(key, purge, expected));
    if (condition?.kind !== "revision" || condition.revision === 0) {
      // A tombstone for a key that never was would be an event about nothing, and could be written without end.
      const latest = await this.#reads.leaderLatest(key);
      checkCondition(key, condition, latest);
      if (latest === undefined || (latest.operation === "delete" && !purge)) return false;
      await this.#conditional(
        key,
        condition && { kind: "revision", revision: latest.revision },
        publish,
      );
      return isLive(latest);
    }
    await this.#conditional(key, condition, publish);
    return true;
  }

  /**
   * Reads what is stored for some keys, tombstones included, in order of revision and at the caller's pace: each key's
   * last revision, or all.
   *
   * @throws KvError `bucket_not_found`, `store_unavailable`
   */
  async *read(
    patterns: readonly KeyPattern[],
    deliver: "last" | "all",
    options: ReadOptions = {},
  ): AsyncGenerator<StoredEntry[], void, void> {
    const isEach = deliver === "all" || this.historyLimit === 1;
    const batches = isEach ? this.#readAll(patterns, options) : this.#readLast(patterns, options);
    for await (const batch of batches) {
      yield options.keepExpired === true ? batch : batch.filter(({ entry }) => !isExpired(entry));
    }
  }

  async *#readAll(
    patterns: readonly KeyPattern[],
    { headersOnly = false, complete = false }: ReadOptions,
  ): AsyncGenerator<StoredEntry[], void, void> {
    if (patterns.length === 0) return;
    const { filters, isExact } = this.#filtersOf(patterns);
    const options = {
      stream: this.stream,
      filters,
      deliver: "all",
      headersOnly,
      complete,
    } as const;
    try {
      for await (const batch of scan(this.#js, options)) {
        const entries: StoredEntry[] = [];
        for (const scanned of batch) {
          const stored = this.#storedEntry(scanned);
          if (stored === undefined) continue;
          if (isExact || patterns.some((pattern) => pattern.matches(stored.suffix)))
            entries.push(stored);
        }
        yield entries;
      }
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
  }

  /** What JetStream is to be asked for, and whether that says it all. */
  #filtersOf(patterns: readonly KeyPattern[]): { filters: string[]; isExact: boolean } {
    const { prefix } = this.context;
    const { manyFilters } = capabilitiesOf(this.#js.connection.serverVersion);
    const subjects = coveringSubjects(patterns, manyFilters);
    return {
      filters: subjects.map((subject) => prefix + subject),
      isExact: subjects.length === patterns.length && patterns.every(({ exact }) => exact),
    };
  }

  /**
   * The last revisions, where more are stored: found by looking through all without their values, since JetStream's own way to
   * deliver the last of each is not to be trusted while others write (see scan.ts).
   */
  async *#readLast(
    patterns: readonly KeyPattern[],
    options: ReadOptions,
  ): AsyncGenerator<StoredEntry[], void, void> {
    const last = new Map<string, StoredEntry>();
    for await (const batch of this.#readAll(patterns, { ...options, headersOnly: true })) {
      for (const stored of batch) {
        // Moved to the end, so that the order is by the last revisions.
        last.delete(stored.suffix);
        last.set(stored.suffix, stored);
      }
    }
    let chunk: StoredEntry[] = [];
    let size = 0;
    for (const stored of last.values()) {
      last.delete(stored.suffix);
      chunk.push(stored);
      size += stored.entry.size;
      if (chunk.length < READ_KEYS && size < READ_BYTES) continue;
      yield options.headersOnly === true ? chunk : await this.#withValues(chunk);
      chunk = [];
      size = 0;
    }
    if (chunk.length > 0)
      yield options.headersOnly === true ? chunk : await this.#withValues(chunk);
  }

  /** The entries with their values; what has been overwritten meanwhile as it is now. */
  async #withValues(chunk: readonly StoredEntry[]): Promise<StoredEntry[]> {
    const found = await Promise.all(
      chunk.map(async (stored) => {
        if (stored.entry.operation === "delete") return stored;
        const entry = await this.#reads.latestOf(stored.suffix, stored.entry.revision);
        return entry && { ...stored, entry };
      }),
    );
    return found.filter((stored) => stored !== undefined);
  }

  /**
   * All that was written after a revision, in order, tombstones and expired values included, when nothing of it has been
   * removed since: undefined when something has, so that what is stored cannot continue what somebody saw up to there.
   *
   * @returns entries in batches, up to the present. They throw KvError `revision_not_found` when it turns out later that
   * something is missing, or it is removed while this is read
   * @throws KvError `bucket_not_found`, `store_unavailable`
   * @example
   * for await (const entries of (await bucket.since(41)) ?? []) console.log(entries);
   */
  async since(revision: number): Promise<AsyncGenerator<StoredEntry[], void, void> | undefined> {
    if (this.#expiresSilently) return undefined;
    try {
      const batches = await messagesAfter(this.#js, this.stream, revision);
      return batches && this.#storedEntries(batches);
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
  }

  async *#storedEntries(
    batches: AsyncGenerator<ScannedMessage[], void, void>,
  ): AsyncGenerator<StoredEntry[], void, void> {
    try {
      for await (const batch of batches)
        yield batch.map((each) => this.#storedEntry(each)).filter((each) => each !== undefined);
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
  }

  /** A message of this bucket; undefined for those that nobody sees. */
  #storedEntry({ message, delivery }: ScannedMessage): StoredEntry | undefined {
    const { prefix } = this.context;
    if (!message.subject.startsWith(prefix)) return undefined;
    const suffix = message.subject.slice(prefix.length);
    if (suffix === CARRIER) return undefined;
    const headers = headersOf(message);
    const entry = entryOfDelivery(message, delivery, this.context, headers);
    const batch = batchPartOf(headers);
    return batch === undefined ? { suffix, entry } : { suffix, entry, batch };
  }

  /**
   * All stored revisions of a key, oldest first, tombstones included.
   *
   * @throws KvError `key_not_found` when there is none
   */
  async history(key: string): Promise<Entry[]> {
    const entries: Entry[] = [];
    for await (const batch of this.read([keyPattern(key)], "all")) {
      for (const { entry } of batch) entries.push(entry);
    }
    if (entries.length === 0) throw keyNotFound(key, undefined);
    return entries;
  }

  /**
   * What listings need of keys: their revisions, deleted and expired ones included, in order, so that the last one of a key
   * counts. Several times faster than {@link read}.
   *
   * @param options `complete` for readers that do not follow the changes, see {@link scan}
   */
  async *keyStates(
    patterns: readonly KeyPattern[] = [everyKey],
    options: { complete?: boolean } = {},
  ): AsyncGenerator<KeyState[], void, void> {
    // JetStream would take no filter for all subjects.
    if (patterns.length === 0) return;
    const { stream, context } = this;
    const { filters, isExact } = this.#filtersOf(patterns);
    try {
      for await (const batch of scan(this.#js, {
        stream,
        filters,
        deliver: "all",
        headersOnly: true,
        ...options,
      })) {
        const states = batch.map(({ message, delivery }) => keyStateOf(message, delivery, context));
        yield states.filter(
          ({ suffix }) =>
            suffix !== CARRIER && (isExact || patterns.some((pattern) => pattern.matches(suffix))),
        );
      }
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
  }

  /** The names of all live keys that match, sorted. */
  async keys(patterns: readonly KeyPattern[] = [everyKey]): Promise<string[]> {
    const live = new Set<string>();
    for await (const batch of this.keyStates(patterns, { complete: true })) {
      const now = Date.now();
      for (const { suffix, isDeleted, expiry } of batch) {
        const key = decodeKey(suffix);
        if (isDeleted || (expiry !== 0 && expiry <= now)) live.delete(key);
        else live.add(key);
      }
    }
    return [...live].sort();
  }

  /**
   * All live entries that match, sorted by key.
   *
   * @param options `headersOnly` leaves the values on the server; `atMost` says how many there may be (default: any number)
   * @throws KvError `invalid_request` when there are more
   */
  async entries(
    patterns: readonly KeyPattern[] = [everyKey],
    { headersOnly = false, atMost = Infinity }: { headersOnly?: boolean; atMost?: number } = {},
  ): Promise<LiveEntry[]> {
    const live = new Map<string, LiveEntry>();
    for await (const batch of this.read(patterns, "last", { headersOnly, complete: true })) {
      for (const { entry } of batch) {
        if (isLive(entry)) live.set(entry.key, entry);
        else live.delete(entry.key);
      }
      if (live.size > atMost) {
        throw new KvError(
          "invalid_request",
          `bucket "${this.name}" has more than ${atMost} keys: list them in pages`,
        );
      }
    }
    return [...live.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** The last message of a key, tombstones included, from the stream's leader. */
  latest(key: string): Promise<Entry | undefined> {
    return this.#reads.leaderLatest(key);
  }

  /** The revision of the last write to any key. */
  async lastRevision(): Promise<number> {
    try {
      return (await this.#js.streamInfo(this.stream)).state.last_seq;
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
  }

  /**
   * Removes all that is stored of a key up to a revision, without a trace. A later write stays.
   *
   * @param suffix subject suffix of the key: two of them can be read as the same key, when another client wrote one
   * @returns whether anything was removed
   */
  async forget(suffix: string, revision: number): Promise<boolean> {
    try {
      const { purged } = await this.#js.call<{ purged: number }>(`STREAM.PURGE.${this.stream}`, {
        filter: this.context.prefix + suffix,
        seq: revision + 1,
      });
      return purged > 0;
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
  }

  /**
   * Stores messages as one atomic batch: all or none.
   *
   * @returns the sequence of the first one; the others follow it
   */
  async publishBatch(messages: readonly Message[]): Promise<number> {
    const { serverVersion } = this.#js.connection;
    if (!capabilitiesOf(serverVersion).atomicBatch)
      throw needsServer("a transaction", "2.12", serverVersion);
    if (!this.#allowsBatches) {
      throw new KvError(
        "config_differs",
        `bucket "${this.name}" was created without support for transactions (allow_atomic)`,
      );
    }
    try {
      const { seq } = await this.#js.publishBatch(messages);
      return seq - messages.length + 1;
    } catch (error) {
      if (error instanceof NoRespondersError) throw await this.#reads.absence(error);
      throw kvErrorOf(error, this.name);
    }
  }

  /** Runs a write under a condition, which on the wire is one expected revision. */
  async #conditional(
    key: string,
    condition: Condition | undefined,
    publish: (expected: number | undefined) => Promise<Written>,
  ): Promise<Written> {
    const absent = mustBeAbsent(condition);
    let expected = condition?.kind === "revision" ? condition.revision : undefined;
    if (absent) expected = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        return await publish(expected);
      } catch (error) {
        if (!isWrongRevision(error)) throw error;
        const latest = await this.#reads.leaderLatest(key);
        // A tombstone stands where the key was: for users the key is absent, so write over the tombstone.
        if (!absent || isLive(latest) || attempt === ATTEMPTS)
          throw conflict(key, condition, latest);
        expected = latest?.revision ?? 0;
      }
    }
  }

  async #put(
    key: string,
    value: Value,
    given: ValueExtras,
    expected: number | undefined,
  ): Promise<Written> {
    const extras = inWholeSeconds(given);
    const message = this.messages.value(key, value, extras, expected);
    const isGrouped = expected === undefined && this.#groupsWrites;
    const result = isGrouped
      ? written(await this.#stored(this.#groups.publish(message)))
      : await this.#publish(message);
    const expiresAt = this.#endOf(result.createdAt, extras);
    return expiresAt === undefined ? result : { ...result, expiresAt };
  }

  /** When a value goes that was stored at a time: by its own time to live, or by the bucket's. */
  #endOf(createdAt: string, { ttl, expiresAt }: ValueExtras): string | undefined {
    const { maxAge } = this.context;
    const own = ttl === undefined ? undefined : (expiresAt ?? isoAfter(createdAt, ttl * 1000));
    if (maxAge === 0) return own;
    const ofBucket = isoAfter(createdAt, maxAge);
    return own === undefined || ofBucket < own ? ofBucket : own;
  }

  /** The entry that a write made, as it is stored; made up from what was sent when somebody has overwritten it already. */
  async #written(key: string, value: Value, options: PutOptions, write: Written): Promise<Entry> {
    const { revision, createdAt, expiresAt } = write;
    const stored = await this.#reads.leaderAt(revision);
    if (stored?.key === key) return stored;
    return {
      key,
      revision,
      createdAt,
      operation: "put",
      value: value.bytes,
      valueType: value.type,
      contentType: value.contentType,
      expiresAt,
      firstCreatedAt: options.firstCreatedAt,
      description: options.description,
      label: options.label,
      size: value.bytes.length,
    };
  }

  async #publish({ subject, payload, headers }: Message): Promise<Written> {
    return written(await this.#stored(this.#js.publish(subject, payload, headers)));
  }

  async #stored(ack: Promise<PublishAck>): Promise<PublishAck> {
    try {
      return await ack;
    } catch (error) {
      if (error instanceof NoRespondersError) throw await this.#reads.absence(error);
      throw kvErrorOf(error, this.name);
    }
  }
}

function written({ seq }: PublishAck): Written {
  return { revision: seq, createdAt: new Date().toISOString() };
}

/**
 * The subjects to read for some patterns. JetStream refuses filters that overlap, so where one of them has a wildcard
 * beside others everything is read, and the patterns sort it out. So it is where the server takes but one filter.
 */
function coveringSubjects(patterns: readonly KeyPattern[], manyFilters: boolean): string[] {
  const subjects = [...new Set(patterns.map((pattern) => pattern.subject))];
  if (subjects.length > 1 && (!manyFilters || subjects.some((subject) => /[*>]/.test(subject))))
    return [">"];
  return subjects;
}
