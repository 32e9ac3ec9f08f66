import { MsgHdrsImpl, type Msg } from "nats";
import type { Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { encodeKey, everyKey, keyPattern, type KeyPattern } from "../protocol/keys.ts";
import { limits } from "../protocol/limits.ts";
import type { Value } from "../protocol/values.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { PointReads } from "./point-reads.ts";
import { maxValueSizeOf } from "./bucket-settings.ts";
import { bucketNotFound, isWrongRevision, kvErrorOf } from "./errors.ts";
import {
  codes,
  JetStreamError,
  type JetStream,
  type PublishAck,
  type StreamInfo,
} from "./jetstream.ts";
import { NoRespondersError } from "./requests.ts";
import { scan } from "./scan.ts";
import {
  entryOf,
  entryOfDelivery,
  entryOfDirectGet,
  isoMillis,
  tombstoneHeaders,
  valueHeaders,
} from "./stored-message.ts";

/** A stored revision with the subject suffix of its key. */
export interface StoredEntry {
  suffix: string;
  entry: Entry;
}

/** On which revision of its key a write depends. */
export type Condition =
  /** The key must not exist. */
  | { kind: "absent" }
  /** The key must exist, at whatever revision. */
  | { kind: "present" }
  /** The key's latest revision must be this one; 0 means that the key must not exist. */
  | { kind: "revision"; revision: number };

export interface Written {
  revision: number;
  /** When the write was acknowledged here; the store's own time of it is some milliseconds earlier. */
  createdAt: string;
}

const NOTHING = new Uint8Array(0);
/** Attempts to get a conditional write through that loses races only against other writers of the same key. */
const ATTEMPTS = 64;

/**
 * One bucket: entries in a JetStream KV stream. It holds what of the stream's settings a request needs, so that a
 * plain read or write is one round trip.
 */
export class Bucket {
  readonly name: string;
  readonly stream: string;
  /** When the bucket was created: tells it from an earlier or later one of the same name. */
  readonly epoch: string;
  readonly #js: JetStream;
  readonly #prefix: string;
  readonly #directGet: string | undefined;
  readonly #pointReads: PointReads;
  readonly #maxValueSize: number | undefined;

  constructor(js: JetStream, name: string, info: StreamInfo) {
    this.#js = js;
    this.name = name;
    this.stream = info.config.name;
    this.epoch = info.created;
    this.#prefix = `$KV.${this.stream.slice("KV_".length)}.`;
    const can = capabilitiesOf(js.connection.serverVersion);
    this.#pointReads = new PointReads(js.connection, this.stream, this.#prefix, can.batchGet);
    this.#directGet =
      info.config.allow_direct === true ? `$JS.API.DIRECT.GET.${this.stream}` : undefined;
    this.#maxValueSize = maxValueSizeOf(info.config);
  }

  /** Subject of a key, or of a pattern's subject. */
  subjectOf(suffix: string): string {
    return this.#prefix + suffix;
  }

  get subjectPrefix(): string {
    return this.#prefix;
  }

  /**
   * Reads a key's latest value.
   *
   * @throws KvError `key_not_found` when it was never written, was deleted, or has expired
   */
  async get(key: string): Promise<Entry> {
    const entry = await this.#latest(key);
    if (entry === undefined || entry.operation === "delete") throw keyNotFound(key, entry);
    return entry;
  }

  /**
   * Reads a key as it was at one of its own revisions, as far as the bucket's history reaches.
   *
   * @throws KvError `revision_not_found`, `key_not_found` when that revision is a tombstone
   */
  async getRevision(key: string, revision: number): Promise<Entry> {
    const entry = await this.#atSequence(revision);
    if (entry?.key !== key) {
      throw new KvError(
        "revision_not_found",
        `key "${key}" has no revision ${revision}, or no longer`,
      );
    }
    if (entry.operation === "delete") throw keyNotFound(key, entry);
    return entry;
  }

  /**
   * Writes a value. Without a condition it takes whatever is there.
   *
   * @throws KvError `key_exists` or `revision_mismatch` with `details.current_revision` when the condition does not
   * hold, `value_too_large`, `bucket_full`
   */
  async put(key: string, value: Value, condition?: Condition): Promise<Written> {
    const limit = this.#maxValueSize;
    if (limit !== undefined && value.bytes.length > limit) {
      throw new KvError(
        "value_too_large",
        `the value has ${value.bytes.length} bytes, bucket "${this.name}" takes at most ${limit}`,
        {
          details: { max_value_size: limit },
        },
      );
    }
    const room = this.#js.connection.maxPayload - limits.valueHeaders;
    if (value.bytes.length > room) {
      throw new KvError(
        "value_too_large",
        `the value has ${value.bytes.length} bytes, the NATS server takes at most ${room}`,
        {
          details: { max_value_size: room },
        },
      );
    }
    return this.#write(key, condition, (expected) =>
      this.#publish(key, value.bytes, valueHeaders(value, expected)),
    );
  }

  /**
   * Deletes a key: a tombstone hides its value, a purge also removes its history. Deleting what is not there does
   * nothing, unless a condition asks for it.
   *
   * @throws KvError `revision_mismatch` with `details.current_revision` when the condition does not hold
   */
  async delete(
    key: string,
    options: { purge?: boolean; condition?: Condition } = {},
  ): Promise<void> {
    const { purge = false, condition } = options;
    if (condition === undefined) {
      // A tombstone for a key that never was would be an event about nothing, and could be written without end.
      const latest = await this.#leaderLatest(key);
      if (latest === undefined || (latest.operation === "delete" && !purge)) return;
    }
    await this.#write(key, condition, (expected) =>
      this.#publish(key, NOTHING, tombstoneHeaders(purge, expected)),
    );
  }

  /**
   * Reads what is stored for some keys, tombstones included, in order of revision and at the caller's pace: each key's
   * last revision, or all.
   */
  async *read(
    patterns: readonly KeyPattern[],
    deliver: "last" | "all",
    headersOnly = false,
  ): AsyncGenerator<StoredEntry[], void, void> {
    const filters = coveringSubjects(patterns).map((subject) => this.subjectOf(subject));
    const isExact =
      filters.length === patterns.length && patterns.every((pattern) => pattern.exact);
    try {
      for await (const batch of scan(this.#js, {
        stream: this.stream,
        filters,
        deliver,
        headersOnly,
      })) {
        const entries: StoredEntry[] = [];
        for (const { message, delivery } of batch) {
          const suffix = message.subject.slice(this.#prefix.length);
          if (!isExact && !patterns.some((pattern) => pattern.matches(suffix))) continue;
          entries.push({ suffix, entry: entryOfDelivery(message, delivery, this.#prefix) });
        }
        yield entries;
      }
    } catch (error) {
      throw kvErrorOf(error, this.name);
    }
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

  /** The names of all live keys that match, sorted. */
  async keys(pattern: KeyPattern = everyKey): Promise<string[]> {
    const live = new Set<string>();
    for await (const batch of this.read([pattern], "last", true)) {
      for (const { entry } of batch) {
        if (entry.operation === "put") live.add(entry.key);
        else live.delete(entry.key);
      }
    }
    return [...live].sort();
  }

  /** Runs a write under a condition. A condition is one expected revision on the wire, found out first if need be. */
  async #write(
    key: string,
    condition: Condition | undefined,
    publish: (expected: number | undefined) => Promise<PublishAck>,
  ): Promise<Written> {
    const mustBeAbsent =
      condition?.kind === "absent" || (condition?.kind === "revision" && condition.revision === 0);
    let expected = condition?.kind === "revision" ? condition.revision : undefined;
    if (mustBeAbsent) expected = 0;
    for (let attempt = 0; ; attempt++) {
      if (condition?.kind === "present") {
        const latest = await this.#leaderLatest(key);
        if (latest === undefined || latest.operation === "delete")
          throw revisionMismatch(key, latest);
        expected = latest.revision;
      }
      try {
        const { seq } = await publish(expected);
        return { revision: seq, createdAt: new Date().toISOString() };
      } catch (error) {
        if (!isWrongRevision(error)) throw error;
        if (condition?.kind === "present" && attempt < ATTEMPTS) continue;
        const latest = await this.#leaderLatest(key);
        // A tombstone stands where the key was: for users the key is absent, so write over the tombstone.
        if (
          mustBeAbsent &&
          attempt < ATTEMPTS &&
          (latest === undefined || latest.operation === "delete")
        ) {
          expected = latest?.revision ?? 0;
          continue;
        }
        throw condition?.kind === "absent" ? keyExists(key, latest) : revisionMismatch(key, latest);
      }
    }
  }

  async #publish(
    key: string,
    payload: Uint8Array,
    headers: Parameters<JetStream["publish"]>[2],
  ): Promise<PublishAck> {
    try {
      return await this.#js.publish(this.#prefix + encodeKey(key), payload, headers);
    } catch (error) {
      if (error instanceof NoRespondersError) throw await this.#absence(error);
      throw kvErrorOf(error, this.name);
    }
  }

  /** The last message of a key, tombstones included, from whichever server answers fastest. */
  async #latest(key: string): Promise<Entry | undefined> {
    if (this.#directGet === undefined) return this.#leaderLatest(key);
    try {
      return await this.#pointReads.get(encodeKey(key));
    } catch (error) {
      if (error instanceof NoRespondersError) throw await this.#absence(error);
      throw error;
    }
  }

  async #atSequence(sequence: number): Promise<Entry | undefined> {
    if (this.#directGet === undefined) return this.#leaderGet({ seq: sequence });
    return this.#direct(this.#directGet, JSON.stringify({ seq: sequence }));
  }

  async #direct(subject: string, payload: string): Promise<Entry | undefined> {
    let reply: Msg;
    try {
      reply = await this.#js.connection.requests.request(subject, payload);
    } catch (error) {
      if (error instanceof NoRespondersError) throw await this.#absence(error);
      throw error;
    }
    return entryOfDirectGet(reply, this.#prefix);
  }

  /** The last message of a key from the stream's leader: it has seen every acknowledged write. */
  #leaderLatest(key: string): Promise<Entry | undefined> {
    return this.#leaderGet({ last_by_subj: this.subjectOf(encodeKey(key)) });
  }

  async #leaderGet(query: { last_by_subj: string } | { seq: number }): Promise<Entry | undefined> {
    interface StoredMessage {
      message: { subject: string; seq: number; time: string; data?: string; hdrs?: string };
    }
    try {
      const { message } = await this.#js.call<StoredMessage>(
        `STREAM.MSG.GET.${this.stream}`,
        query,
      );
      if (!message.subject.startsWith(this.#prefix)) return undefined;
      const suffix = message.subject.slice(this.#prefix.length);
      const headers =
        message.hdrs === undefined
          ? undefined
          : MsgHdrsImpl.decode(Buffer.from(message.hdrs, "base64"));
      const data = message.data === undefined ? NOTHING : Buffer.from(message.data, "base64");
      return entryOf(suffix, message.seq, isoMillis(message.time), headers, data);
    } catch (error) {
      if (error instanceof JetStreamError && error.code === codes.messageNotFound) return undefined;
      throw kvErrorOf(error, this.name);
    }
  }

  /** Nobody answered on the bucket's subjects: because it is gone, or because JetStream is not there? */
  async #absence(cause: unknown): Promise<KvError> {
    try {
      await this.#js.streamInfo(this.stream);
    } catch (error) {
      if (error instanceof JetStreamError && error.code === codes.streamNotFound)
        return bucketNotFound(this.name, cause);
      if (error instanceof KvError) return error;
    }
    return new KvError("store_unavailable", `bucket "${this.name}" does not answer now`, {
      retryAfter: 1,
      cause,
    });
  }
}

function keyNotFound(key: string, tombstone: Entry | undefined): KvError {
  if (tombstone === undefined) return new KvError("key_not_found", `key "${key}" does not exist`);
  const how = tombstone.reason === "expired" ? "has expired" : "was deleted";
  return new KvError("key_not_found", `key "${key}" ${how}`);
}

function keyExists(key: string, latest: Entry | undefined): KvError {
  return new KvError("key_exists", `key "${key}" exists already`, {
    details: { current_revision: liveRevision(latest) },
  });
}

function revisionMismatch(key: string, latest: Entry | undefined): KvError {
  const current = liveRevision(latest);
  return new KvError(
    "revision_mismatch",
    current === 0 ? `key "${key}" does not exist` : `key "${key}" is at revision ${current} now`,
    { details: { current_revision: current } },
  );
}

/** The revision that a retry has to expect: 0 for a key that does not exist. */
function liveRevision(latest: Entry | undefined): number {
  return latest?.operation === "put" ? latest.revision : 0;
}

/**
 * The subjects to read for some patterns. JetStream refuses filters that overlap, so where one of them has a wildcard
 * beside others everything is read, and the patterns sort it out.
 */
function coveringSubjects(patterns: readonly KeyPattern[]): string[] {
  const subjects = [...new Set(patterns.map((pattern) => pattern.subject))];
  if (subjects.length > 1 && subjects.some((subject) => /[*>]/.test(subject))) return [">"];
  return subjects;
}
