/** The write log: every revision that a bucket ever had, whoever wrote it, also those that nobody can read any more. */
import type { DeleteReason } from "../../../src/protocol/entry.ts";

/** Messages under this name only carry conditions of a transaction: no key is stored there, and nobody may ever see one. */
const CARRIER = "_jetbucket=2Fcarrier";

/** What was written at once. */
export interface LogBatch {
  id: string;
  entries: LogEntry[];
  /** Its last revision, carriers of conditions included. */
  last: number;
}

export interface LogEntry {
  revision: number;
  key: string;
  operation: "put" | "delete";
  reason: DeleteReason | undefined;
  /** Of a put; see values.ts. */
  digest: string | undefined;
  /** Bytes of the value. */
  size: number;
  /** When it was stored, in milliseconds since 1970. */
  at: number;
  /** When its value goes by itself, in milliseconds since 1970. */
  expiresAt: number | undefined;
  /** Whether it took all older revisions of its key with it. */
  rollsUp: boolean;
  /** Written by the server, for a value that expired. It goes after a second. */
  isMarker: boolean;
  batchId: string | undefined;
  batch?: LogBatch;
  /** Not recorded, but taken from what a client was sent: whether it was part of a transaction is not known. */
  isLearned?: true;
}

/** How long the server keeps the marker of a key that expired, in milliseconds. */
const MARKER_LIFE = 1_000;

/** One life of a bucket, from its creation to its deletion. Revisions begin at 1 in each. */
export class Life {
  readonly bucket: string;
  /** The time of its creation, in milliseconds since 1970: what positions call the epoch. */
  readonly epoch: number;
  readonly history: number;
  /** When nobody can have seen it yet, and when it was gone. */
  readonly from: number;
  to = Infinity;
  /** When tombstones were removed from it. */
  readonly compactions: number[] = [];
  readonly #entries = new Map<number, LogEntry>();
  #byKey = new Map<string, LogEntry[]>();
  #sorted: LogEntry[] = [];
  #isSealed = false;
  #last = 0;

  constructor(bucket: string, epoch: number, history: number, from: number) {
    this.bucket = bucket;
    this.epoch = epoch;
    this.history = history;
    this.from = from;
  }

  add(entry: LogEntry): void {
    this.#entries.set(entry.revision, entry);
    this.#last = Math.max(this.#last, entry.revision);
    this.#isSealed = false;
  }

  /** Takes note that the stream has come so far. */
  reached(revision: number): void {
    this.#last = Math.max(this.#last, revision);
  }

  get last(): number {
    return this.#last;
  }

  at(revision: number): LogEntry | undefined {
    return this.#entries.get(revision);
  }

  /** The revisions of which nothing is known: the server was killed, and they were overwritten, before they could be recorded. */
  get unknown(): number[] {
    const unknown: number[] = [];
    for (let revision = 1; revision <= this.#last; revision++)
      if (!this.#entries.has(revision)) unknown.push(revision);
    return unknown;
  }

  /** Everything about keys, in order. */
  get entries(): readonly LogEntry[] {
    this.#seal();
    return this.#sorted;
  }

  /** Entries behind a revision, up to another one. */
  *between(after: number, upTo: number): Generator<LogEntry> {
    for (let revision = after + 1; revision <= upTo; revision++) {
      const entry = this.#entries.get(revision);
      if (entry !== undefined && entry.key !== CARRIER) yield entry;
    }
  }

  keys(): IterableIterator<string> {
    this.#seal();
    return this.#byKey.keys();
  }

  /** A key's last entry up to a revision. */
  latest(key: string, upTo: number): LogEntry | undefined {
    this.#seal();
    return this.#byKey.get(key)?.findLast(({ revision }) => revision <= upTo);
  }

  /** The entries of live keys as they were at a revision. */
  stateAt(revision: number, covers: (key: string) => boolean): Map<string, LogEntry> {
    const state = new Map<string, LogEntry>();
    for (const key of this.keys()) {
      if (!covers(key)) continue;
      const latest = this.latest(key, revision);
      if (latest?.operation === "put") state.set(key, latest);
    }
    return state;
  }

  /** The next entry of the same key. */
  successor(entry: LogEntry): LogEntry | undefined {
    this.#seal();
    return this.#byKey.get(entry.key)?.find(({ revision }) => revision > entry.revision);
  }

  /** When an entry could not be read from the stream any more, in milliseconds since 1970; Infinity for never. */
  goneAt(entry: LogEntry): number {
    // It goes after a second, or with the next one.
    if (entry.key === CARRIER) return entry.at;
    this.#seal();
    const later = (this.#byKey.get(entry.key) ?? []).filter(
      ({ revision }) => revision > entry.revision,
    );
    const times = [
      later[this.history - 1]?.at,
      later.find(({ rollsUp }) => rollsUp)?.at,
      entry.expiresAt,
      entry.isMarker ? entry.at + MARKER_LIFE : undefined,
      entry.operation === "delete" ? this.compactions.find((at) => at > entry.at) : undefined,
    ];
    return Math.min(...times.map((time) => time ?? Infinity));
  }

  #seal(): void {
    if (this.#isSealed) return;
    this.#isSealed = true;
    const all = [...this.#entries.values()].sort((a, b) => a.revision - b.revision);
    this.#sorted = all.filter(({ key }) => key !== CARRIER);
    this.#byKey = new Map();
    for (const entry of this.#sorted) {
      const entries = this.#byKey.get(entry.key);
      if (entries === undefined) this.#byKey.set(entry.key, [entry]);
      else entries.push(entry);
    }
    let batch: LogBatch | undefined;
    for (const entry of all) {
      const { batchId, revision } = entry;
      // Writes that only travelled together are no transaction.
      if (batchId === undefined || batchId.startsWith("group-")) {
        batch = undefined;
        continue;
      }
      if (batch?.id !== batchId) batch = { id: batchId, entries: [], last: revision };
      batch.last = revision;
      if (entry.key === CARRIER) continue;
      batch.entries.push(entry);
      entry.batch = batch;
    }
  }
}
