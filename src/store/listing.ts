import { KvError } from "../protocol/errors.ts";
import { encodeKey, everyKey, type KeyPattern } from "../protocol/keys.ts";
import { narrowed, textsOf, type Reach } from "../protocol/reach.ts";
import type { Bucket } from "./bucket.ts";
import type { Feeds } from "./feeds.ts";
import { lowerBound } from "./key-index.ts";

/** Which keys, and how many of them. */
export interface KeyQuery {
  pattern?: KeyPattern;
  /** Of which keys there may be any sign at all; all without it. */
  reach?: Reach;
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
    if (index === undefined) return pageOf(await bucket.keys(patternsOf(query)), query);
    return pageFrom((key) => index.keys(key), query);
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

/** The patterns of a query: a key is asked for when one of them matches. None is asked for when there are none. */
function patternsOf({ pattern = everyKey, reach = "all" }: KeyQuery): readonly KeyPattern[] {
  return narrowed([pattern], reach);
}

/**
 * What all keys begin with that match a pattern: what stands before its first wildcard. Only whole tokens without escapes, whose
 * order is that of the keys.
 */
function literalOf({ text }: KeyPattern): string {
  let longest = "";
  for (const part of textsOf(text)) {
    const literal = /^[A-Za-z0-9\-/_.]*/.exec(part)?.[0] ?? "";
    const whole = literal === part ? literal : literal.slice(0, literal.lastIndexOf(".") + 1);
    if (whole.length > longest.length) longest = whole;
  }
  return longest;
}

/** Beginnings of keys, in order, none of them with another one before it: all that is asked for begins with one of them. */
function beginningsOf(patterns: readonly KeyPattern[], prefix: string): string[] {
  const all = patterns
    .map(literalOf)
    .filter((literal) => literal.startsWith(prefix) || prefix.startsWith(literal))
    .map((literal) => (literal.length > prefix.length ? literal : prefix))
    .sort();
  const beginnings: string[] = [];
  for (const beginning of all) {
    const last = beginnings.at(-1);
    if (last === undefined || !beginning.startsWith(last)) beginnings.push(beginning);
  }
  return beginnings;
}

/** The part of some sorted keys that a query asks for. */
export function pageOf(sorted: readonly string[], query: KeyQuery): KeyPage {
  return pageFrom((key) => from(sorted, key), query);
}

function* from(sorted: readonly string[], key: string): Generator<string> {
  for (let at = lowerBound(sorted, key); at < sorted.length; at++) yield sorted[at]!;
}

/**
 * The part of some sorted keys that a query asks for.
 *
 * @param walk gives them in order, from the place on where a key stands or would stand
 */
function pageFrom(walk: (key: string) => Iterable<string>, query: KeyQuery): KeyPage {
  const { prefix = "", after = "", limit = Infinity } = query;
  const patterns = patternsOf(query);
  const isAll = patterns[0] === everyKey;
  const keys: string[] = [];
  for (const beginning of beginningsOf(patterns, prefix)) {
    for (const key of walk(after > beginning ? after : beginning)) {
      if (key === after) continue;
      // Behind them nothing more can match.
      if (!key.startsWith(beginning)) break;
      if (!isAll) {
        const suffix = encodeKey(key);
        if (!patterns.some((pattern) => pattern.matches(suffix))) continue;
      }
      if (keys.length === limit) return { keys, hasMore: true };
      keys.push(key);
    }
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
