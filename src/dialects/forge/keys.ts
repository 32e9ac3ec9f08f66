/** One key at a time. */
import type { Grants } from "../../auth/grants.ts";
import type { Entry } from "../../protocol/entry.ts";
import { KvError } from "../../protocol/errors.ts";
import { encode, type Value } from "../../protocol/values.ts";
import type { PutOptions, Written } from "../../store/bucket.ts";
import type { Buckets } from "../../store/buckets.ts";
import { turnsOf } from "../../store/turns.ts";
import {
  checkKey,
  deleteSchema,
  getSchema,
  parse,
  setSchema,
  ttlOf,
  valueOf,
  type MetadataField,
} from "./requests.ts";

/** A request to one bucket. */
export interface ForgeRequest {
  bucket: string;
  body: unknown;
  grants: Grants;
}

/** What answers a request: JSON text, or undefined where there is nothing to say. */
export type Handler = (request: ForgeRequest) => Promise<string | undefined>;

/** What is shown of a key, or of a secret. */
export interface Shown {
  key: string;
  /** JSON text. */
  value: string;
  createdAt: string;
  updatedAt: string;
  expiresAt: string | undefined;
}

/** A key with the metadata that is asked for, as JSON text. */
export function shownJson(shown: Shown, fields: readonly MetadataField[] = []): string {
  let json = `{"key":${JSON.stringify(shown.key)},"value":${shown.value}`;
  if (fields.includes("CREATED_AT")) json += `,"createdAt":${Date.parse(shown.createdAt)}`;
  if (fields.includes("UPDATED_AT")) json += `,"updatedAt":${Date.parse(shown.updatedAt)}`;
  if (fields.includes("EXPIRE_TIME") && shown.expiresAt !== undefined)
    json += `,"expireTime":${JSON.stringify(shown.expiresAt)}`;
  return `${json}}`;
}

/** Text and bytes, which other clients write, are strings here. */
export function entryJson(entry: Entry, fields?: readonly MetadataField[]): string {
  const { key, createdAt, firstCreatedAt, expiresAt } = entry;
  const value = encode(entry.valueType, entry.value).json;
  // What another NATS client has put there may be no time.
  const isKnown = !Number.isNaN(Date.parse(firstCreatedAt ?? ""));
  const first = isKnown ? firstCreatedAt! : createdAt;
  return shownJson({ key, value, createdAt: first, updatedAt: createdAt, expiresAt }, fields);
}

export function keyNotFound(key: string): KvError {
  return new KvError("key_not_found", `key "${key}" does not exist`);
}

/** Reads and writes keys. A bucket that is not there is empty, and made by the first write. */
export class ForgeKeys {
  readonly #buckets: Buckets;

  constructor(buckets: Buckets) {
    this.#buckets = buckets;
  }

  readonly get: Handler = async ({ bucket, body, grants }) => {
    const { key, options } = parse(getSchema, body);
    checkKey(key);
    grants.require("read", bucket, key);
    return this.read(bucket, key, options?.metadataFields);
  };

  /** @throws KvError `key_not_found` */
  async read(
    name: string,
    key: string,
    fields: readonly MetadataField[] | undefined,
  ): Promise<string> {
    const entry = await this.#buckets.read(name, (bucket) => bucket.find(key));
    if (entry === undefined) throw keyNotFound(key);
    return entryJson(entry, fields);
  }

  readonly set: Handler = async ({ bucket, body, grants }) => {
    const { key, value, options = {} } = parse(setSchema, body);
    checkKey(key);
    const { keyPolicy, returnValue, returnMetadataFields } = options;
    grants.require("write", bucket, key);
    if (returnValue === "PREVIOUS") grants.require("read", bucket, key);
    const stored = valueOf(value);
    const written = await this.write(bucket, key, stored, {
      ...ttlOf(options.ttl),
      ...(keyPolicy === "FAIL_IF_EXISTS" ? { condition: { kind: "absent" } } : {}),
      ...(returnValue === "LATEST" ? { returns: "latest" } : {}),
    });
    if (returnValue === undefined) return undefined;
    const entry = returnValue === "LATEST" ? written.latest : written.previous;
    return entry && entryJson(entry, returnMetadataFields);
  };

  /** Writes a value; the key's first creation stays known. */
  write(name: string, key: string, value: Value, options: PutOptions): Promise<Written> {
    return this.#buckets.write(name, (bucket) => {
      // A key that must not exist begins now.
      if (options.condition !== undefined) return bucket.put(key, value, options);
      return turnsOf(bucket).take(key, () =>
        bucket.put(key, value, { ...options, keepCreated: true }),
      );
    });
  }

  readonly delete: Handler = async ({ bucket, body, grants }) => {
    const { key } = parse(deleteSchema, body);
    checkKey(key);
    grants.require("delete", bucket, key);
    await this.remove(bucket, key);
    return undefined;
  };

  async remove(name: string, key: string): Promise<void> {
    await this.#buckets.read(name, (bucket) => bucket.delete(key));
  }
}
