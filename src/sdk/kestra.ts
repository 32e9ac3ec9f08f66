/**
 * Kestra's KV tasks as functions: the same options by the same names, over the bucket that a namespace is.
 *
 * @example
 * import { KestraKv } from "jetbucket/kestra";
 * const kv = new KestraKv({ namespace: "company.team" });
 * await kv.set({ key: "my_key", value: "Hello World", ttl: "P30D" });
 */
import type { KvError } from "../protocol/errors.ts";
import {
  assertKvKey,
  bucketOfNamespace,
  MAIN_TENANT,
  noValue,
  temporalType,
  type KvType,
} from "../protocol/kestra.ts";
import { JetbucketError } from "./core/errors.ts";
import type { ClientOptions } from "./core/options.ts";
import type { Ttl } from "./core/ttl.ts";
import { ImplicitBucket } from "./implicit-bucket.ts";

export { JetbucketError } from "./core/errors.ts";
export type { KvType } from "../protocol/kestra.ts";

/** Options of {@link KestraKv}. */
export interface KestraOptions extends ClientOptions {
  /** The namespace of calls that name none. */
  namespace?: string | undefined;
  /** Default `main`. */
  tenant?: string | undefined;
}

/** What all tasks have. */
export interface NamespaceOptions {
  /** For instance `company.team`. Default: the client's. */
  namespace?: string | undefined;
}

export interface KeyOptions extends NamespaceOptions {
  /** Letters, digits, `.`, `_` and `-`, a letter or digit first. */
  key: string;
}

export interface MissingOptions {
  /** Reject with `key_not_found` when there is nothing. Default false. */
  errorOnMissing?: boolean | undefined;
}

export interface SetOptions extends KeyOptions {
  value: unknown;
  /** Reject with `key_exists` when the key has a value, unless this is true. Default true. */
  overwrite?: boolean | undefined;
  /** An ISO 8601 duration such as `P30D`, or another notation of `put`. Default: the key stays. */
  ttl?: Ttl | undefined;
  /** A few words about the key, up to 256 characters. */
  description?: string | undefined;
  /**
   * What the value is, for one that is given as text, as templates do. Default: what it is in JavaScript, a `Date` being a
   * DATETIME and a string a STRING whatever is in it.
   */
  kvType?: KvType | undefined;
}

export interface GetKeysOptions extends NamespaceOptions, MissingOptions {
  /** Default: all keys. */
  prefix?: string | undefined;
}

/**
 * The KV store of a Kestra installation. A namespace is made by its first value.
 *
 * Every method rejects with a {@link JetbucketError}: with `invalid_key` and `invalid_request` for keys and namespaces that are
 * none, and as the methods of `Bucket` do.
 */
export class KestraKv {
  readonly #client: ClientOptions;
  readonly #namespace: string | undefined;
  readonly #tenant: string;

  /**
   * Makes no request.
   *
   * @param options `namespace` (default: each call names one), `tenant`, and those of `createClient`
   */
  constructor({ namespace, tenant = MAIN_TENANT, ...client }: KestraOptions = {}) {
    this.#client = client;
    this.#namespace = namespace;
    this.#tenant = tenant;
  }

  /**
   * Stores a value, with its type.
   *
   * Rejects with `key_exists` when `overwrite` is false and the key has a value, with `value_too_large` or `invalid_ttl`, and with
   * a `TypeError` when the value is not of the type that was given, or cannot be said in JSON.
   *
   * @example
   * await kv.set({ key: "my_key", value: { city: "Paris" }, namespace: "dev", overwrite: false, ttl: "P30D" });
   */
  async set(options: SetOptions): Promise<void> {
    const { key, overwrite = true, ttl, description } = options;
    const { entries } = this.#at(options, key);
    const { type, value } = typed(options.value, options.kvType);
    const extras = { ttl, description, valueType: type, keepCreated: true };
    try {
      await entries.write((bucket) =>
        overwrite ? bucket.put(key, value, extras) : bucket.create(key, value, extras),
      );
    } catch (error) {
      if (overwrite || !(error instanceof JetbucketError) || error.code !== "key_exists")
        throw error;
      const { status, details } = error;
      const sentence = `Cannot set value for key '${key}'. Key already exists and \`overwrite\` is set to \`false\`.`;
      throw new JetbucketError("key_exists", sentence, { status, details, cause: error });
    }
  }

  /**
   * The value of a key, or null when there is none. Days, moments and durations come as text.
   *
   * @example
   * const value = await kv.get({ key: "my_key", namespace: "dev", errorOnMissing: true });
   */
  async get<T = unknown>(options: KeyOptions & MissingOptions): Promise<T | null> {
    const { key, errorOnMissing } = options;
    const { entries, namespace } = this.#at(options, key);
    const entry = await entries.read((bucket) => bucket.find(key), undefined);
    if (entry !== undefined) return entry.value as T;
    if (errorOnMissing === true) throw missing(noValue(key, namespace));
    return null;
  }

  /**
   * The keys that begin with a prefix, sorted.
   *
   * @example
   * const keys = await kv.getKeys({ prefix: "test_", namespace: "dev" });
   */
  async getKeys(options: GetKeysOptions = {}): Promise<string[]> {
    const { prefix = "", errorOnMissing } = options;
    const { entries, namespace } = this.#at(options);
    const keys: string[] = [];
    for await (const page of entries.keys(prefix)) keys.push(...page);
    if (keys.length === 0 && errorOnMissing === true)
      throw missing(`No key found with prefix '${prefix}' in namespace '${namespace}'`);
    return keys;
  }

  /**
   * Deletes a key.
   *
   * @returns whether there was a value
   * @example
   * await kv.delete({ key: "my_key", namespace: "dev" });
   */
  async delete(options: KeyOptions & MissingOptions): Promise<boolean> {
    const { key, errorOnMissing } = options;
    const { entries, namespace } = this.#at(options, key);
    const { existed, failed } = await entries.read((bucket) => bucket.deleteMany([key]), {
      deleted: [],
      existed: [],
      failed: new Map(),
    });
    for (const error of failed.values()) throw error;
    if (existed.length === 0 && errorOnMissing === true) throw missing(noValue(key, namespace));
    return existed.length > 0;
  }

  /** The bucket of a call. */
  #at(options: NamespaceOptions, key?: string): { entries: ImplicitBucket; namespace: string } {
    const namespace = options.namespace ?? this.#namespace;
    if (namespace === undefined) throw new TypeError("give a namespace, here or to the client");
    let bucket: string;
    try {
      bucket = bucketOfNamespace({ tenant: this.#tenant, name: namespace });
      if (key !== undefined) assertKvKey(key);
    } catch (error) {
      const { code, message, status } = error as KvError;
      throw new JetbucketError(code, message, { status, cause: error });
    }
    return { entries: new ImplicitBucket({ ...this.#client, bucket }), namespace };
  }
}

/** The store that the environment names: `JETBUCKET_URL`, `JETBUCKET_API_KEY`. Each call names its namespace. */
export const kv = new KestraKv();

function missing(sentence: string): JetbucketError {
  return new JetbucketError("key_not_found", sentence, { status: 404 });
}

interface Typed {
  type: KvType;
  value: unknown;
}

/** A value to store, and its type. */
function typed(given: unknown, wanted: KvType | undefined): Typed {
  let type = typeOf(given);
  let value = given instanceof Date ? given.toISOString() : given;
  if (typeof given === "string" && wanted !== undefined && wanted !== "STRING") {
    const temporal = temporalType(given);
    if (temporal === undefined) value = jsonOrText(given);
    type = temporal ?? typeOf(value);
  }
  if (wanted === undefined || wanted === type) return { type, value };
  throw new TypeError(`${JSON.stringify(given)} is no ${wanted}`);
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function typeOf(value: unknown): KvType {
  if (typeof value === "string" || value === null) return "STRING";
  if (typeof value === "number" && Number.isFinite(value)) return "NUMBER";
  if (typeof value === "boolean") return "BOOLEAN";
  if (value instanceof Date) return "DATETIME";
  if (typeof value !== "object" || value instanceof ArrayBuffer || ArrayBuffer.isView(value))
    throw new TypeError("this has no type of Kestra's: give text, or what JSON can say");
  return "JSON";
}
