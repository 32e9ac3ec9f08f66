/** Several keys at once, each for itself. */
import { z } from "zod";
import type { Grants } from "../../auth/grants.ts";
import type { KvError } from "../../protocol/errors.ts";
import { entitiesNotSupported, ForgeError, forgeCodeOf } from "./errors.ts";
import type { ForgeKeys, ForgeRequest } from "./keys.ts";
import {
  batchDeleteSchema,
  batchGetSchema,
  batchSetSchema,
  checkKey,
  forgeLimits,
  itemSchema,
  parse,
  ttlOf,
  valueOf,
} from "./requests.ts";

/** What may be told of what was thrown. */
type Told = (thrown: unknown) => KvError;

interface Place {
  bucket: string;
  grants: Grants;
}

/** The three kinds of batches. */
export class ForgeBatches {
  readonly #keys: ForgeKeys;

  constructor(keys: ForgeKeys) {
    this.#keys = keys;
  }

  get(request: ForgeRequest, told: Told): Promise<string> {
    return each(request, told, async (item, { bucket, grants }) => {
      const { key, options } = parse(batchGetSchema, item);
      grants.require("read", bucket, key);
      return this.#keys.read(bucket, key, options?.metadataFields);
    });
  }

  set(request: ForgeRequest, told: Told): Promise<string> {
    return each(request, told, async (item, { bucket, grants }) => {
      const { key, value, options } = parse(batchSetSchema, item);
      grants.require("write", bucket, key);
      const stored = valueOf(value);
      await this.#keys.write(bucket, key, stored, ttlOf(options?.ttl));
      return JSON.stringify({ key });
    });
  }

  delete(request: ForgeRequest, told: Told): Promise<string> {
    return each(request, told, async (item, { bucket, grants }) => {
      const { key } = parse(batchDeleteSchema, item);
      grants.require("delete", bucket, key);
      await this.#keys.remove(bucket, key);
      return JSON.stringify({ key });
    });
  }
}

/**
 * Carries out a batch.
 *
 * @param run gives what an item that succeeded is told by, as JSON text
 * @throws ForgeError `EMPTY_BATCH`, `BATCH_LIMIT_EXCEEDED`, `DUPLICATE_KEY`: these concern the batch as a whole
 */
async function each(
  { bucket, body, grants }: ForgeRequest,
  told: Told,
  run: (item: unknown, place: Place) => Promise<string>,
): Promise<string> {
  const items = parse(z.array(itemSchema), body);
  if (items.length === 0) throw new ForgeError("EMPTY_BATCH", "the batch has no keys");
  if (items.length > forgeLimits.items) {
    throw new ForgeError(
      "BATCH_LIMIT_EXCEEDED",
      `a batch has at most ${forgeLimits.items} keys, not ${items.length}`,
    );
  }
  checkDistinct(items);
  const successful: string[] = [];
  const failed: object[] = [];
  const results = await Promise.allSettled(
    items.map(async (item) => {
      if (item.entityName !== undefined) throw entitiesNotSupported();
      checkKey(item.key);
      return run(item, { bucket, grants });
    }),
  );
  results.forEach((result, i) => {
    if (result.status === "fulfilled") {
      successful.push(result.value);
      return;
    }
    const { key, entityName } = items[i]!;
    const error = told(result.reason);
    failed.push({ key, entityName, error: { code: forgeCodeOf(error), message: error.message } });
  });
  return `{"successfulKeys":[${successful.join(",")}],"failedKeys":${JSON.stringify(failed)}}`;
}

/** @throws ForgeError `DUPLICATE_KEY` */
export function checkDistinct(items: readonly { key: string; entityName?: string | undefined }[]) {
  const seen = new Set<string>();
  for (const { key, entityName } of items) {
    const id = JSON.stringify([entityName, key]);
    if (seen.has(id)) throw new ForgeError("DUPLICATE_KEY", `key "${key}" appears more than once`);
    seen.add(id);
  }
}
