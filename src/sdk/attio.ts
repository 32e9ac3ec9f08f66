/**
 * Attio's `kv`, over a bucket: code that imports it from `attio/server` runs with the import changed.
 *
 * @example
 * import { kv } from "jetbucket/attio";
 * await kv.set("users", users, { ttlInSeconds: 60 * 60 });
 * const users = await kv.get("users"); // { value } or null
 */
import type { Entry } from "./core/entry.ts";
import { ImplicitBucket } from "./implicit-bucket.ts";
import type { ClientOptions } from "./core/options.ts";

export { JetbucketError } from "./core/errors.ts";

/** Options of {@link configureAttio}. */
export interface AttioOptions extends ClientOptions {
  /** The bucket of the app. Default `attio`. The first `set` makes it unless it is there. */
  bucket?: string | undefined;
}

/** Options of {@link AttioKv.set}. */
export interface SetOptions {
  /** Seconds after which the key goes by itself: 1 to 31,536,000, a year. Default: it stays. */
  ttlInSeconds?: number | undefined;
}

/** A value that was found; one that is null is `{ value: null }`. */
export interface Found<T> {
  value: T;
}

// Attio's own type says string, and its example stores an object: code for either has to compile.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Stored = any;

/**
 * The keys of an app. Every method rejects with a {@link JetbucketError} when the server refuses or cannot be reached; a bucket
 * that is not there yet is an empty one.
 */
export interface AttioKv {
  /** The value of a key, or null when there is none. */
  get<T = Stored>(key: string): Promise<Found<T> | null>;
  /**
   * Stores a value, whatever the key held before: a string, or anything that JSON can say.
   *
   * Rejects with a `TypeError` for what cannot be serialised, such as undefined, functions, BigInt, cycles and bytes.
   */
  set(key: string, value: unknown, options?: SetOptions): Promise<void>;
  /** Deletes a key. One that is not there is no failure. */
  delete(key: string): Promise<void>;
  /** The values of several keys, under each key that was asked for: null where there is none. */
  mget<T = Stored>(keys: readonly string[]): Promise<Record<string, Found<T> | null>>;
}

const DEFAULT_BUCKET = "attio";

let configured: ImplicitBucket | undefined;

/** The bucket that is meant, by the environment as long as nobody has said otherwise. */
function entries(): ImplicitBucket {
  return (configured ??= new ImplicitBucket({ bucket: DEFAULT_BUCKET }));
}

/**
 * Says where {@link kv} keeps its entries, for all that import it.
 *
 * @param options `serverUrl` (default: the environment's `JETBUCKET_URL`, else `http://localhost:9123`), `apiKey` (default:
 * `JETBUCKET_API_KEY`, else none), `bucket` (default `attio`), and what else `createClient` takes
 * @throws TypeError when `serverUrl` is no http address
 * @example
 * configureAttio({ serverUrl: "https://kv.example.com", bucket: "my-app" });
 */
export function configureAttio({ bucket = DEFAULT_BUCKET, ...client }: AttioOptions = {}): void {
  configured = new ImplicitBucket({ ...client, bucket });
}

/**
 * Attio's key-value store.
 *
 * @example
 * await kv.set("key", "value", { ttlInSeconds: 60 });
 */
export const kv: AttioKv = {
  async get<T>(key: string) {
    return found<T>(await entries().read((bucket) => bucket.find(key), undefined));
  },

  async set(key, value, { ttlInSeconds: ttl } = {}) {
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value))
      throw new TypeError("bytes cannot be stored as JSON: encode them as text");
    await entries().write((bucket) => bucket.put(key, value, { ttl }));
  },

  async delete(key) {
    await entries().read((bucket) => bucket.delete(key), undefined);
  },

  async mget<T>(keys: readonly string[]) {
    const all = await entries().read(
      (bucket) => bucket.getMany(keys),
      new Map<string, undefined>(),
    );
    return Object.fromEntries(keys.map((key) => [key, found<T>(all.get(key))]));
  },
};

function found<T>(entry: Entry | undefined): Found<T> | null {
  return entry === undefined ? null : { value: entry.value as T };
}
