/** Writes that depend on what a key holds. Each is a read and a conditional write, repeated until nobody came between. */
import { isLive, type Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { mergePatch } from "../protocol/merge-patch.ts";
import { jsonValue, utf8, type Value } from "../protocol/values.ts";
import { turnsOf } from "./turns.ts";
import type { Bucket, Written } from "./bucket.ts";
import { checkCondition, keyNotFound, type Condition } from "./conditions.ts";
import { isoAfter, type ValueExtras } from "./stored-message.ts";

/** What is stored with an entry, for a write that changes only its value. A running time to live of the key runs on. */
function kept(bucket: Bucket, entry: Entry, ttl?: number): ValueExtras {
  const { firstCreatedAt, description, label } = entry;
  return {
    ...(firstCreatedAt === undefined ? {} : { firstCreatedAt }),
    ...(description === undefined ? {} : { description }),
    ...(label === undefined ? {} : { label }),
    ...(ttl === undefined ? remaining(bucket, entry) : { ttl }),
  };
}

/** The rest of a key's own time to live. That of the bucket is not one: it begins again with every write. */
export function remaining(
  { context: { maxAge } }: Bucket,
  { createdAt, expiresAt }: Entry,
): ValueExtras {
  if (expiresAt === undefined || (maxAge > 0 && expiresAt === isoAfter(createdAt, maxAge)))
    return {};
  return { ttl: Math.max(1, Math.ceil((Date.parse(expiresAt) - Date.now()) / 1000)), expiresAt };
}

function jsonOf(key: string, { value, valueType }: Entry): unknown {
  const text = valueType === "json" || valueType === undefined ? utf8(value) : undefined;
  try {
    if (text !== undefined) return JSON.parse(text) as unknown;
  } catch {
    // said below
  }
  throw new KvError("invalid_request", `the value of key "${key}" is not JSON`);
}

/**
 * Merges a patch into a JSON value (RFC 7396). A key that does not exist is made of the patch alone.
 *
 * @throws KvError `revision_mismatch` when the condition does not hold, `invalid_request` when the value is not JSON
 */
export async function patch(
  bucket: Bucket,
  key: string,
  change: unknown,
  options: { condition?: Condition; ttl?: number } = {},
): Promise<Written & { value: unknown }> {
  let value: unknown;
  const result = await bucket.replace(key, (latest) => {
    checkCondition(key, options.condition, latest);
    const before = isLive(latest) ? jsonOf(key, latest) : undefined;
    try {
      value = mergePatch(before, change);
    } catch (cause) {
      throw new KvError("invalid_request", "the patch is nested too deeply", { cause });
    }
    return {
      value: jsonValue(value),
      extras: isLive(latest) ? kept(bucket, latest, options.ttl) : extrasOf(options.ttl),
    };
  });
  return { ...result, value };
}

/**
 * Adds to a whole number. Exact under any concurrency. A key that does not exist counts as `initial`.
 *
 * @throws KvError `invalid_request` when the value is not a whole number, or the sum cannot be represented exactly
 */
export async function increment(
  bucket: Bucket,
  key: string,
  options: { by?: number; initial?: number; ttl?: number } = {},
): Promise<Written & { value: number }> {
  const { by = 1, initial = 0, ttl } = options;
  return turnsOf(bucket).take(key, async () => {
    let value = 0;
    const result = await bucket.replace(key, (latest) => {
      const current = isLive(latest) ? jsonOf(key, latest) : initial;
      if (!Number.isSafeInteger(current)) {
        throw new KvError("invalid_request", `the value of key "${key}" is not a whole number`);
      }
      value = (current as number) + by;
      if (!Number.isSafeInteger(value)) {
        throw new KvError(
          "invalid_request",
          `key "${key}" would leave the range of exact whole numbers`,
        );
      }
      return {
        value: jsonValue(value),
        extras: isLive(latest) ? kept(bucket, latest, ttl) : extrasOf(ttl),
      };
    });
    return { ...result, value };
  });
}

/**
 * Gives a key a new time to live, from now on; its value stays.
 *
 * @param ttl seconds
 * @throws KvError `key_not_found`
 */
export async function touch(bucket: Bucket, key: string, ttl: number): Promise<Written> {
  return bucket.replace(key, (latest) => {
    if (!isLive(latest)) throw keyNotFound(key, latest);
    return { value: valueOf(latest), extras: kept(bucket, latest, ttl) };
  });
}

/**
 * Makes an earlier revision's value the latest one, as a new revision.
 *
 * @throws KvError `revision_not_found`, `key_not_found`, `revision_mismatch` when the condition does not hold
 */
export async function restore(
  bucket: Bucket,
  key: string,
  revision: number,
  condition?: Condition,
): Promise<Written> {
  const old = await bucket.getRevision(key, revision);
  const { firstCreatedAt, description, label } = old;
  return bucket.replace(key, (latest) => {
    checkCondition(key, condition, latest);
    return {
      value: valueOf(old),
      extras: {
        ...(firstCreatedAt === undefined ? {} : { firstCreatedAt }),
        ...(description === undefined ? {} : { description }),
        ...(label === undefined ? {} : { label }),
      },
    };
  });
}

/** A stored value as one to write. What no writer declared stays undeclared. */
function valueOf({ value, valueType, contentType }: Entry): Value {
  return { bytes: value, type: valueType, ...(contentType === undefined ? {} : { contentType }) };
}

function extrasOf(ttl: number | undefined): ValueExtras {
  return ttl === undefined ? {} : { ttl };
}
