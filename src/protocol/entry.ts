/** What a revision did to its key. */
export type Operation = "put" | "delete";

/** Why a key has no value any more. */
export type DeleteReason = "delete" | "purge" | "expired";

/** How a value is written in JSON: as itself, as a string, or as a base64 string. */
export type Encoding = "json" | "text" | "base64";

/**
 * One revision of one key, as it is stored. The value stays bytes: parsing it is left to whoever needs more.
 */
export interface Entry {
  key: string;
  /** Sequence of the write in its bucket: unique, and growing with every write to any key. */
  revision: number;
  /** When the revision was stored, ISO 8601 with milliseconds. */
  createdAt: string;
  operation: Operation;
  /** Set on a delete only. */
  reason?: DeleteReason;
  /** Stored bytes; empty on a delete. */
  value: Uint8Array;
  /** What the writer declared the value to be; undefined when another NATS client wrote it. */
  valueType: ValueType | undefined;
  contentType: string | undefined;
  /** When the value goes by itself, ISO 8601 with milliseconds. */
  expiresAt: string | undefined;
  /** When the key was first written, where a writer asked to keep that across overwrites. */
  firstCreatedAt: string | undefined;
  description: string | undefined;
  /** A writer's own name for what the value is, finer than {@link ValueType}: `DATE`, for instance. */
  label: string | undefined;
  /** Bytes of the value, also where the value itself was not read. */
  size: number;
}

/** What a writer declared a value to be. */
export type ValueType = "json" | "text" | "bytes";

/** Whether a value's time is over; the store may take a moment longer to remove it. */
export function isExpired(entry: Entry, now = Date.now()): boolean {
  return entry.expiresAt !== undefined && Date.parse(entry.expiresAt) <= now;
}

/** An entry that is a value and not a removal. */
export interface LiveEntry extends Entry {
  operation: "put";
}

/** Whether an entry is a value that readers may see. */
export function isLive(entry: Entry | undefined): entry is LiveEntry {
  return entry?.operation === "put" && !isExpired(entry);
}

/**
 * A point in a bucket's life. Revisions start again at 1 when a bucket is created again, so a revision means
 * something only together with the epoch: the time at which the bucket was created.
 */
export interface Position {
  epoch: string;
  revision: number;
}
