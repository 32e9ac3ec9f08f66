/**
 * A driver for unstorage, and so for Nitro, Nuxt and others that store with it.
 *
 * @example
 * import { createStorage } from "unstorage";
 * import { jetbucketDriver } from "jetbucket/unstorage";
 *
 * const storage = createStorage({ driver: jetbucketDriver("http://localhost:9123/app") });
 * await storage.setItem("user:ada", { age: 36 }, { ttl: 60 });
 */
import type { Driver, StorageMeta, TransactionOptions } from "unstorage";
import type { Bucket } from "./core/bucket.ts";
import type { Entry } from "./core/entry.ts";
import type { Ttl } from "./core/ttl.ts";
import { bytesOf } from "./core/values.ts";
import type { Watcher } from "./core/watch.ts";
import { addressOf, ImplicitBucket, type BucketAddress } from "./implicit-bucket.ts";

/** Options of {@link jetbucketDriver}, beside those of `createClient`. */
export interface JetbucketDriverOptions extends BucketAddress {
  /** Keys are kept below this one: with `app`, `user:ada` is kept as `app:user:ada`. Default: as they are. */
  base?: string | undefined;
  /** Seconds that items live which are set without a `ttl` of their own. Default: for ever. */
  ttl?: number | undefined;
  /** Keep the time of an item's first creation across writes, as `birthtime`; writes take a read more. Default false. */
  keepCreated?: boolean | undefined;
  /** Told when a watch needs attention or has to end, such as with its bucket. Default: nobody is. */
  onWatchError?: ((error: Error) => void) | undefined;
}

/**
 * A bucket as a driver for unstorage. Makes no request before it is used, and the bucket with the first write unless it is there.
 *
 * Keys are the bucket's keys, colons included: what is `user:ada` here is `user:ada` for every client. What is JSON is stored as
 * JSON, other text as text, raw items as bytes. `setItem`, `setItems` and `setItemRaw` take `ttl`, in seconds.
 *
 * Failures reject with a {@link JetbucketError}.
 *
 * @param address the server's address with the bucket's name as its last part, or options, with `bucket` (default `unstorage`)
 * @throws TypeError when the address is none
 * @example
 * const driver = jetbucketDriver({ serverUrl: "https://kv.example.com", apiKey, bucket: "app", ttl: 3600 });
 * const storage = createStorage().mount("cache", driver);
 */
export function jetbucketDriver(
  address: string | JetbucketDriverOptions = {},
): Driver<JetbucketDriverOptions, Bucket> {
  const options: JetbucketDriverOptions =
    typeof address === "string" ? addressOf(address) : address;
  const { base, ttl, keepCreated, onWatchError, bucket = "unstorage", ...given } = options;
  const entries = new ImplicitBucket({ ...given, bucket });
  const prefix = prefixOf(base);
  const watchers = new Set<Watcher>();

  const find = (key: string): Promise<Entry | undefined> =>
    entries.read((bucket) => bucket.find(prefix + key), undefined);
  const ttlOf = (item: TransactionOptions | undefined): Ttl | undefined => {
    const own = (item?.ttl as Ttl | undefined) ?? ttl;
    // Which is how users of other drivers say "for ever".
    return own === 0 ? undefined : own;
  };
  const put = async (key: string, value: unknown, item: TransactionOptions): Promise<void> => {
    const options = { keepCreated, ttl: ttlOf(item) };
    await entries.write((bucket) => bucket.put(prefix + key, value, options));
  };

  return {
    name: "jetbucket",
    options,
    flags: { ttl: true },
    getInstance: () => entries.bucket,

    hasItem: async (key) => (await find(key)) !== undefined,
    getItem: async (key) => itemOf(await find(key)),
    getItemRaw: async (key) => {
      const entry = await find(key);
      return entry === undefined ? null : bytesOf(entry);
    },
    async getItems(items) {
      const keys = items.map(({ key }) => prefix + key);
      const found = await entries.read(
        (bucket) => bucket.getMany(keys),
        new Map<string, undefined>(),
      );
      return items.map(({ key }) => ({ key, value: itemOf(found.get(prefix + key)) }));
    },
    async getMeta(key) {
      const entry = await find(key);
      return entry === undefined ? null : metaOf(entry, keepCreated);
    },

    setItem: (key, text, item) => put(key, valueOf(text), item),
    setItemRaw: (key, value: unknown, item) => put(key, value, item),
    async setItems(items, common) {
      const puts = items.map(({ key, value, options }) => ({
        key,
        value: valueOf(value),
        item: { ...common, ...options },
      }));
      if (keepCreated === true) {
        await Promise.all(puts.map(({ key, value, item }) => put(key, value, item)));
        return;
      }
      const { failed } = await entries.write((bucket) =>
        bucket.putMany(
          puts.map(({ key, value, item }) => ({ key: prefix + key, value, ttl: ttlOf(item) })),
        ),
      );
      for (const error of failed.values()) throw error;
    },
    removeItem: (key) => entries.read((bucket) => bucket.delete(prefix + key), undefined),

    async getKeys(base = "") {
      const keys: string[] = [];
      for await (const page of entries.keys(prefix + base)) keys.push(...page);
      return keys.map((key) => key.slice(prefix.length));
    },
    clear: (base?: string) => entries.clear(prefix + (base ?? "")),

    async watch(callback) {
      await entries.make();
      const watcher = await started(entries.bucket, prefix, onWatchError, (operation, key) => {
        callback(operation === "put" ? "update" : "remove", key);
      });
      watchers.add(watcher);
      return () => {
        watchers.delete(watcher);
        watcher.stop();
      };
    },
    dispose() {
      for (const watcher of watchers) watcher.stop();
      watchers.clear();
    },
  };
}

// Nitro and others name a driver by its module, and take what that has as its default.
export default jetbucketDriver;

function prefixOf(base = ""): string {
  const parts = base.split(/[:/\\]+/).filter((part) => part !== "");
  return parts.map((part) => `${part}:`).join("");
}

/** A watch of the keys with a prefix, once it is up to date. */
function started(
  bucket: Bucket,
  prefix: string,
  onError: ((error: Error) => void) | undefined,
  onChange: (operation: "put" | "delete", key: string) => void,
): Promise<Watcher> {
  return new Promise((resolve, reject) => {
    const watcher = bucket.watch(
      {
        onUpdate({ key, operation }) {
          // A star in the prefix stands for more than itself.
          if (key.startsWith(prefix)) onChange(operation, key.slice(prefix.length));
        },
        onReady: () => resolve(watcher),
        onError,
        onClose: ({ error }) => {
          // Once it has begun, onError has been told.
          if (error !== undefined) reject(error);
        },
      },
      {
        // A star stands for no dots.
        key: prefix === "" ? undefined : [`${prefix}*`, `${prefix}*.>`],
        include: "updates",
        values: false,
      },
    );
  });
}

/**
 * The value to store for unstorage's text. What comes back has to be the same text, so only what is written as everybody writes it
 * is JSON.
 */
function valueOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "string" && JSON.stringify(value) === text) return value;
  } catch {
    // So it is text.
  }
  return text;
}

/** An item as unstorage wants it: as text, which it takes apart itself, and safely. */
function itemOf(entry: Entry | undefined): string | Uint8Array | null {
  if (entry === undefined) return null;
  const { value } = entry;
  return typeof value === "string" || value instanceof Uint8Array ? value : JSON.stringify(value);
}

function metaOf(entry: Entry, keepCreated: boolean | undefined): StorageMeta {
  const { createdAt, firstCreatedAt, expiresAt, revision } = entry;
  const born = firstCreatedAt ?? (keepCreated === true ? createdAt : undefined);
  return {
    mtime: new Date(createdAt),
    ...(born === undefined ? {} : { birthtime: new Date(born) }),
    size: bytesOf(entry).length,
    ...(expiresAt === undefined ? {} : { ttl: secondsUntil(expiresAt) }),
    revision,
  };
}

function secondsUntil(time: string): number {
  return Math.max(0, Math.ceil((Date.parse(time) - Date.now()) / 1000));
}
