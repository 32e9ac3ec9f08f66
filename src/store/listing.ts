import { KvError } from "../protocol/errors.ts";
import { encodeKey, type KeyPattern } from "../protocol/keys.ts";
import type { Bucket } from "./bucket.ts";
import type { Feeds } from "./feeds.ts";

/** Which keys, and how many of them. */
export interface KeyQuery {
  pattern?: KeyPattern;
  prefix?: string;
  /** The last key of the page before. */
  after?: string;
  /** The most keys to give; all without it. */
  limit?: number;
}

export interface KeyPage {
  keys: string[];
  /** Whether more keys follow. */
  hasMore: boolean;
}

/**
 * Lists live keys in order. It reads the index that the bucket's feed keeps, so that a page costs the page and not the bucket; a
 * bucket whose keys do not fit into the index's memory is read from JetStream every time.
 */
export async function listKeys(feeds: Feeds, bucket: Bucket, query: KeyQuery): Promise<KeyPage> {
  const lease = await feeds.join(bucket);
  try {
    const index = await lease.feed.keys().catch(ignoreUnavailable);
    if (index === undefined) return pageOf(await bucket.keys(query.pattern), query);
    return pageOf(index.keys(firstOf(query)), query);
  } finally {
    lease.close();
  }
}

/** A feed that cannot follow the bucket now is no reason not to read it. Where NATS itself is away, that fails too. */
function ignoreUnavailable(error: unknown): undefined {
  if (error instanceof KvError && error.code === "store_unavailable") return undefined;
  throw error;
}

/** How many live keys a bucket has. A feed that is running knows; else they are counted. */
export async function countKeys(feeds: Feeds, bucket: Bucket): Promise<number> {
  // A feed that is in trouble is no reason not to answer.
  const feed = await feeds.active(bucket)?.catch(() => undefined);
  const isOurs = feed?.bucket.epoch === bucket.epoch && !feed.hasEnded;
  const index = isOurs ? await feed.keys().catch(() => undefined) : undefined;
  if (index === undefined) return (await bucket.keys()).length;
  return index.count();
}

/**
 * What all keys begin with that match a pattern: what stands before its first wildcard. Only whole tokens without escapes, whose
 * order is that of the keys.
 */
function literalOf(pattern: KeyPattern | undefined): string {
  if (pattern === undefined) return "";
  const literal = /^[A-Za-z0-9\-/_.]*/.exec(pattern.text)?.[0] ?? "";
  if (literal.length === pattern.text.length) return literal;
  return literal.slice(0, literal.lastIndexOf(".") + 1);
}

/** Where in the order of keys the first result can stand. */
function firstOf({ pattern, prefix = "", after }: KeyQuery): string {
  const literal = literalOf(pattern);
  const first = literal > prefix ? literal : prefix;
  return after !== undefined && after >= first ? after : first;
}

/** The part of some sorted keys that a query asks for. */
export function pageOf(
  sorted: Iterable<string>,
  { pattern, prefix = "", after, limit = Infinity }: KeyQuery,
): KeyPage {
  const keys: string[] = [];
  const literal = literalOf(pattern);
  for (const key of sorted) {
    if (after !== undefined && key <= after) continue;
    if (!key.startsWith(prefix) || !key.startsWith(literal)) {
      // Behind either of them nothing more can match.
      if ((key > prefix && !key.startsWith(prefix)) || (key > literal && !key.startsWith(literal)))
        break;
      continue;
    }
    if (pattern !== undefined && !pattern.matches(encodeKey(key))) continue;
    if (keys.length === limit) return { keys, hasMore: true };
    keys.push(key);
  }
  return { keys, hasMore: false };
}

/** A cursor is the last key of a page, so that it stays good while keys come and go. It is opaque to clients. */
export function encodeCursor(key: string): string {
  return Buffer.from(key).toString("base64url");
}

/** @throws KvError `invalid_request` */
export function decodeCursor(cursor: string | undefined): string | undefined {
  if (cursor === undefined) return undefined;
  const key = Buffer.from(cursor, "base64url").toString();
  if (key === "" || encodeCursor(key) !== cursor) {
    throw new KvError("invalid_request", `"cursor" is not one that this API gave`, {
      details: { field: "cursor" },
    });
  }
  return key;
}
