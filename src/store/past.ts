/** Reading a bucket as it was, as far as what is still stored can tell. */
import type { Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { everyKey, type KeyPattern } from "../protocol/keys.ts";
import { diffPatch } from "../protocol/merge-patch.ts";
import { utf8 } from "../protocol/values.ts";
import type { Bucket } from "./bucket.ts";

/** A point in a bucket's past: a revision, or a time in milliseconds since 1970. */
export type Moment = { revision: number } | { time: number };

/** Whether an entry was written at a moment or before. */
function isBy(entry: Entry, moment: Moment): boolean {
  return "revision" in moment
    ? entry.revision <= moment.revision
    : Date.parse(entry.createdAt) <= moment.time;
}

/**
 * A key's entry as it was at a moment; undefined when it did not exist then.
 *
 * @throws KvError `revision_not_found` when what is stored does not reach back so far, or the moment has not come yet;
 * `key_not_found` when nothing of the key is stored at all
 */
export async function entryAt(
  bucket: Bucket,
  key: string,
  moment: Moment,
): Promise<Entry | undefined> {
  await checkReached(bucket, moment);
  const history = await bucket.history(key);
  const found = history.findLast((entry) => isBy(entry, moment));
  if (found !== undefined) return found.operation === "put" ? found : undefined;
  if (mayHaveLost(bucket, history)) {
    throw new KvError(
      "revision_not_found",
      `the history of key "${key}" does not reach back so far`,
    );
  }
  return undefined;
}

/** Whether older revisions of a key than those that are stored may have existed. */
function mayHaveLost(bucket: Bucket, history: readonly Entry[]): boolean {
  const oldest = history[0];
  return (
    history.length >= bucket.historyLimit ||
    bucket.context.maxAge > 0 ||
    // A purge, or a value with a time to live, took the earlier ones along.
    oldest?.reason === "purge" ||
    oldest?.reason === "expired" ||
    oldest?.expiresAt !== undefined
  );
}

export interface KeysAt {
  /** The keys that existed, sorted, with the revision that each had. */
  revisions: Map<string, number>;
  /** Whether nothing that was written by then has been removed since, so that no key can be missing. */
  isComplete: boolean;
}

/**
 * The keys of a bucket as they were at a moment.
 *
 * @throws KvError `revision_not_found` when the moment has not come yet
 */
export async function keysAt(
  bucket: Bucket,
  moment: Moment,
  pattern: KeyPattern = everyKey,
): Promise<KeysAt> {
  const reached = await checkReached(bucket, moment);
  const latest = new Map<string, Entry>();
  let stored = 0;
  let next: number | undefined;
  // All keys, also when a pattern asks for some: whether anything is missing shows only in the whole.
  for await (const batch of bucket.read([everyKey], "all", { headersOnly: true })) {
    for (const { entry, suffix } of batch) {
      if (!isBy(entry, moment)) {
        next ??= entry.revision;
        continue;
      }
      stored += 1;
      if (pattern.matches(suffix)) latest.set(entry.key, entry);
    }
  }
  // Of what is gone nobody knows when it was written: it may have been the last write before a time.
  const end = "revision" in moment ? moment.revision : (next ?? reached + 1) - 1;
  const live = [...latest.values()].filter(({ operation }) => operation === "put");
  live.sort((a, b) => (a.key < b.key ? -1 : 1));
  return {
    revisions: new Map(live.map(({ key, revision }) => [key, revision])),
    isComplete: stored === end,
  };
}

/** The bucket's last revision. @throws KvError `revision_not_found` when a moment has not come yet */
async function checkReached(bucket: Bucket, moment: Moment): Promise<number> {
  const last = await bucket.lastRevision();
  const isAhead = "revision" in moment ? moment.revision > last : moment.time > Date.now();
  if (isAhead) throw new KvError("revision_not_found", "the bucket has not come so far yet");
  return last;
}

export interface Difference {
  from: Entry | undefined;
  to: Entry | undefined;
  isChanged: boolean;
  /** Makes the later value of the earlier one, where both are JSON. */
  patch: unknown;
}

/** What became of a key between two moments. @throws as {@link entryAt} */
export async function difference(
  bucket: Bucket,
  key: string,
  from: Moment,
  to: Moment,
): Promise<Difference> {
  const [before, after] = await Promise.all([entryAt(bucket, key, from), entryAt(bucket, key, to)]);
  const isChanged =
    before?.operation !== after?.operation ||
    before?.valueType !== after?.valueType ||
    Buffer.compare(before?.value ?? NOTHING, after?.value ?? NOTHING) !== 0;
  const [a, b] = [jsonOf(before), jsonOf(after)];
  const patch =
    isChanged && a !== undefined && b !== undefined ? diffPatch(a.value, b.value) : undefined;
  return { from: before, to: after, isChanged, patch };
}

const NOTHING = new Uint8Array(0);

function jsonOf(entry: Entry | undefined): { value: unknown } | undefined {
  if (entry === undefined || (entry.valueType !== "json" && entry.valueType !== undefined))
    return undefined;
  try {
    const text = utf8(entry.value);
    return text === undefined ? undefined : { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}

/** Tombstones removed at a time. */
const PARALLEL = 64;

/**
 * Removes the tombstones of keys that were deleted some time ago, and what is left of those keys' history.
 *
 * @param age milliseconds that a tombstone must have
 * @returns how many keys were removed for good
 */
export async function compact(bucket: Bucket, age: number): Promise<number> {
  const before = Date.now() - age;
  let removed = 0;
  const old: { suffix: string; revision: number }[] = [];
  for await (const batch of bucket.read([everyKey], "last", {
    headersOnly: true,
    keepExpired: true,
  })) {
    for (const { suffix, entry } of batch) {
      if (entry.operation === "delete" && Date.parse(entry.createdAt) <= before)
        old.push({ suffix, revision: entry.revision });
    }
  }
  while (old.length > 0) {
    const some = old.splice(0, PARALLEL);
    const counts = await Promise.all(
      some.map(({ suffix, revision }) => bucket.forget(suffix, revision)),
    );
    removed += counts.filter((isGone) => isGone).length;
  }
  return removed;
}
