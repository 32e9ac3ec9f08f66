/**
 * A store for Keyv, and for all that is built on it: cache-manager, cacheable-request, got and others.
 *
 * @example
 * import Keyv from "keyv";
 * import { KeyvJetbucket } from "jetbucket/keyv";
 *
 * const cache = new Keyv({ store: new KeyvJetbucket("http://localhost:9123/cache"), namespace: "users" });
 * await cache.set("ada", { age: 36 }, 60_000);
 */
import { EventEmitter } from "node:events";
import type { KeyvStoreAdapter, StoredData } from "keyv";
import type { Entry } from "./core/entry.ts";
import { addressOf, ImplicitBucket, type BucketAddress } from "./implicit-bucket.ts";
import { keyvText, storedForm, textForm } from "./keyv-text.ts";

/** Options of {@link KeyvJetbucket}. */
export type KeyvJetbucketOptions = BucketAddress;

/** An item of `setMany`; `ttl` in milliseconds. */
interface Item {
  key: string;
  value: unknown;
  ttl?: number | undefined;
}

/** What jetbucket keeps to the millisecond, in milliseconds. */
const SHORTEST = 1000;
const LONGEST = 365 * 24 * 60 * 60 * 1000;

/**
 * A bucket as a store for Keyv 5. Makes no request before it is used, and the bucket with the first write unless it is there.
 *
 * Keyv's namespace is a prefix of the keys: `new Keyv({ store, namespace: "users" })` keeps `ada` as the key `users:ada`. What is
 * stored is the value itself with jetbucket's own time to live, so other clients read it as any other value, and Keyv reads
 * what they wrote. Leave Keyv's `serialize` and `deserialize` as they are for that.
 *
 * One store is for one Keyv, since Keyv tells it the namespace to clear.
 *
 * Failures reject with a {@link JetbucketError}, which Keyv emits as `error`.
 *
 * @example
 * const store = new KeyvJetbucket({ serverUrl: "https://kv.example.com", apiKey, bucket: "cache" });
 * const cache = new Keyv({ store });
 */
export class KeyvJetbucket extends EventEmitter implements KeyvStoreAdapter {
  /** Keyv reads these. It gives an iterator only to stores whose dialect it knows, so this says the most similar one. */
  opts: { dialect: "etcd"; url: string; bucket: string };
  /** Prefix of the keys that {@link clear} and {@link iterator} are about; Keyv sets it. */
  namespace?: string | undefined;
  readonly #entries: ImplicitBucket;

  /**
   * @param address the server's address with the bucket's name as its last part, or options: those of `createClient`, `bucket`
   * (default `keyv`) and `create`
   * @throws TypeError when the address is none
   */
  constructor(address: string | KeyvJetbucketOptions = {}) {
    super();
    const given = typeof address === "string" ? addressOf(address) : address;
    const { bucket = "keyv" } = given;
    this.opts = { dialect: "etcd", url: given.serverUrl ?? "", bucket };
    this.#entries = new ImplicitBucket({ ...given, bucket });
  }

  async get<Value>(key: string): Promise<StoredData<Value> | undefined> {
    try {
      return dataOf<Value>(await this.#entries.read((bucket) => bucket.find(key), undefined));
    } catch (error) {
      // Keyv takes what this throws for a miss, and tells nobody.
      if (this.listenerCount("error") > 0) this.emit("error", error);
      throw error;
    }
  }

  async getMany<Value>(keys: string[]): Promise<StoredData<Value | undefined>[]> {
    const found = await this.#find(keys);
    return keys.map((key) => dataOf(found.get(key)));
  }

  /** @param ttl milliseconds; default: the key stays */
  async set(key: string, value: unknown, ttl?: number): Promise<boolean> {
    const { value: stored, ...options } = putItem({ key, value, ttl });
    await this.#entries.write((bucket) => bucket.put(key, stored, options));
    return true;
  }

  /** Keyv's type says that this tells nothing; its code takes what became of each item. */
  async setMany(items: Item[]): Promise<void> {
    const { failed } = await this.#entries.write((bucket) => bucket.putMany(items.map(putItem)));
    if (this.listenerCount("error") > 0) {
      for (const error of failed.values()) this.emit("error", error);
    }
    return items.map(({ key }) => !failed.has(key)) as unknown as undefined;
  }

  /** @returns whether the key existed */
  delete(key: string): Promise<boolean> {
    return this.deleteMany([key]);
  }

  /** @returns whether all keys existed */
  async deleteMany(keys: string[]): Promise<boolean> {
    const { existed, failed } = await this.#entries.read((bucket) => bucket.deleteMany(keys), {
      deleted: [],
      existed: [],
      failed: new Map(),
    });
    for (const error of failed.values()) throw error;
    return existed.length === new Set(keys).size;
  }

  /** Deletes the namespace's keys, without a namespace all keys of the bucket. */
  clear(): Promise<void> {
    return this.#entries.clear(prefixOf(this.namespace));
  }

  async has(key: string): Promise<boolean> {
    const entry = await this.#entries.read((bucket) => bucket.find(key), undefined);
    return dataOf(entry) !== undefined;
  }

  async hasMany(keys: string[]): Promise<boolean[]> {
    const found = await this.#find(keys);
    return keys.map((key) => dataOf(found.get(key)) !== undefined);
  }

  async *iterator<Value>(
    namespace?: string,
  ): AsyncGenerator<(string | Awaited<Value> | undefined)[], void> {
    for await (const keys of this.#entries.keys(prefixOf(namespace))) {
      for (const entry of (await this.#find(keys)).values()) {
        const data = dataOf(entry);
        if (data !== undefined) yield [entry!.key, data as Awaited<Value>];
      }
    }
  }

  /** There is no connection to close. */
  async disconnect(): Promise<void> {
    return Promise.resolve();
  }

  #find(keys: string[]): Promise<Map<string, Entry | undefined>> {
    return this.#entries.read((bucket) => bucket.getMany(keys), new Map<string, undefined>());
  }
}

function prefixOf(namespace: string | undefined): string {
  return namespace === undefined || namespace === "" ? "" : `${namespace}:`;
}

/** Keyv's types have its values here, its code a text for its deserializer. */
function dataOf<Value>(entry: Entry | undefined): StoredData<Value> | undefined {
  return entry && (keyvText(entry) as StoredData<Value> | undefined);
}

function putItem({ key, value, ttl }: Item) {
  if (typeof value !== "string") {
    throw new TypeError("KeyvJetbucket stores texts: leave Keyv's serialize and deserialize on");
  }
  if (ttl === undefined) return { key, ...storedForm(value) };
  if (ttl >= SHORTEST && ttl <= LONGEST) return { key, ...storedForm(value), ttl: ttl / 1000 };
  // The end is in the text. A bucket gets rid of the key a little later; what lives for more than a year it keeps.
  return { key, ...textForm(value), ...(ttl < SHORTEST ? { ttl: SHORTEST / 1000 } : {}) };
}
