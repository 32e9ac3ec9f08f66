import type { DeleteReason, Encoding } from "../../protocol/entry.ts";
import type { EntryBody } from "../../protocol/messages.ts";
import { camelName } from "./fields.ts";
import { valueOf } from "./values.ts";

/** What may be known of an entry beside its value. */
export interface EntryDetails {
  /** When the key will go by itself, ISO 8601; undefined when it stays. */
  expiresAt?: string;
  /** When the key was first written, ISO 8601, where its writers kept that: see `keepCreated`. */
  firstCreatedAt?: string;
  /** The media type that the writer declared, where it says more than the encoding. */
  contentType?: string;
  /** The writer's words about the key. */
  description?: string;
  /** The writer's name for what the value is. */
  valueType?: string;
}

/** A key's value, and when it was stored. */
export interface Entry<T = unknown> extends EntryDetails {
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
    ...detailsOf(body),
  };
}

const detailNames = [
  "expires_at",
  "first_created_at",
  "content_type",
  "description",
  "value_type",
] as const;

/** The details in an answer, those that it has. */
export function detailsOf(body: EntryBody): EntryDetails {
  const details: Record<string, string> = {};
  for (const name of detailNames) {
    const detail = body[name];
    if (detail !== undefined) details[camelName(name)] = detail;
  }
  return details;
}
