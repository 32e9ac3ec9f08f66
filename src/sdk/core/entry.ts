import type { DeleteReason, Encoding } from "../../protocol/entry.ts";
import type { EntryBody } from "../../protocol/messages.ts";
import { valueOf } from "./values.ts";

/** A key's value, and when it was stored. */
export interface Entry<T = unknown> {
  key: string;
  /**
   * What was put: JSON as the value itself, text as a string, bytes as a `Uint8Array`. Bytes that happen to be valid
   * UTF-8 come back as a string: see {@link bytesOf}.
   */
  value: T;
  /** How the server sent the value: `json`, `text`, or `base64` for bytes. */
  encoding: Encoding;
  /** Grows with every write to the bucket; names this write of this key for `update`. */
  revision: number;
  /** When it was stored, ISO 8601. */
  createdAt: string;
  operation: "put";
  /** When the key will go by itself, ISO 8601; undefined when it stays. */
  expiresAt?: string;
  /** The media type that the writer declared, where it says more than the encoding. */
  contentType?: string;
}

/** The revision of a key that removed its value. */
export interface Tombstone {
  key: string;
  value?: undefined;
  revision: number;
  /** When it was stored, ISO 8601. */
  createdAt: string;
  operation: "delete";
  /** `delete`, `purge` (with its history), or `expired` (its time was over). */
  reason: DeleteReason;
}

/** One revision of a key: a value, or its removal. */
export type Revision<T = unknown> = Entry<T> | Tombstone;

/** The revision in an answer or a frame. */
export function revisionOf<T>(body: EntryBody): Revision<T> {
  const { key, revision, created_at: createdAt } = body;
  if (body.operation === "delete") {
    return { key, revision, createdAt, operation: "delete", reason: body.reason ?? "delete" };
  }
  const encoding = body.encoding ?? "json";
  return {
    key,
    value: valueOf(body.value, encoding) as T,
    encoding,
    revision,
    createdAt,
    operation: "put",
    ...(body.expires_at === undefined ? {} : { expiresAt: body.expires_at }),
    ...(body.content_type === undefined ? {} : { contentType: body.content_type }),
  };
}
