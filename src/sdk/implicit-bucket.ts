/** A bucket for users of libraries that know no buckets: the first write makes it. */
import type { Bucket } from "./core/bucket.ts";
import type { BucketConfig } from "./core/bucket-info.ts";
import { JetbucketError } from "./core/errors.ts";
import type { KvClient } from "./core/kv.ts";
import type { ClientOptions } from "./core/options.ts";
import { createClient } from "./node.ts";

/** Where a library's entries are kept. */
export interface BucketAddress extends ClientOptions {
  /** Name of the bucket; each library has its own default. */
  bucket?: string | undefined;
  /** How the bucket is made when the first write does not find it; false makes none. Default: with the server's defaults. */
  create?: Omit<BucketConfig, "name"> | false | undefined;
}

/**
 * Reads an address such as `http://localhost:9123/sessions`: the server, and behind the last slash the bucket.
 *
 * @throws TypeError when it is none
 */
export function addressOf(url: string): BucketAddress {
  try {
    if (new URL(url).pathname.length <= 1) return { serverUrl: url };
    const [, serverUrl, bucket] = /^(.*)\/([^/]+)\/*$/.exec(url)!;
    return { serverUrl, bucket: decodeURIComponent(bucket!) };
  } catch (cause) {
    throw new TypeError(
      `${JSON.stringify(url)} is no address: give one such as "http://localhost:9123/sessions"`,
      { cause },
    );
  }
}

export class ImplicitBucket {
  readonly bucket: Bucket;
  readonly #kv: KvClient;
  readonly #create: BucketAddress["create"];

  constructor({ bucket, create = {}, ...client }: BucketAddress & { bucket: string }) {
    this.#kv = createClient(client).kv();
    this.bucket = this.#kv.bucket(bucket);
    this.#create = create;
  }

  /** Reads; a bucket that does not exist is an empty one. */
  async read<T>(run: (bucket: Bucket) => Promise<T>, whenEmpty: T): Promise<T> {
    try {
      return await run(this.bucket);
    } catch (error) {
      if (isCode(error, "bucket_not_found")) return whenEmpty;
      throw error;
    }
  }

  /** Writes; makes the bucket when that is what is missing. */
  async write<T>(run: (bucket: Bucket) => Promise<T>): Promise<T> {
    try {
      return await run(this.bucket);
    } catch (error) {
      if (this.#create === false || !isCode(error, "bucket_not_found")) throw error;
      await this.make();
      return run(this.bucket);
    }
  }

  /** Makes the bucket unless it is there; others may be doing so, too. */
  async make(): Promise<void> {
    if (this.#create === false) return;
    try {
      await this.#kv.createBucket({ ...this.#create, name: this.bucket.name });
    } catch (error) {
      if (!isCode(error, "bucket_exists")) throw error;
    }
  }

  /** The keys that begin with a prefix, by default all, as many at a time as fit into a batch. */
  async *keys(prefix = ""): AsyncGenerator<string[], void, undefined> {
    let page: string[] = [];
    const all = this.bucket.list({
      ...(prefix === "" ? {} : { prefix }),
      values: false,
      limit: PAGE,
    });
    try {
      for await (const { key } of all) {
        if (page.push(key) < PAGE) continue;
        yield page;
        page = [];
      }
    } catch (error) {
      if (!isCode(error, "bucket_not_found")) throw error;
    }
    if (page.length > 0) yield page;
  }

  /** Deletes the keys that begin with a prefix; it may be empty. */
  async clear(prefix: string): Promise<void> {
    for await (const page of this.keys(prefix)) {
      const { failed } = await this.bucket.deleteMany(page);
      for (const error of failed.values()) throw error;
    }
  }
}

const PAGE = 1000;

function isCode(error: unknown, code: JetbucketError["code"]): boolean {
  return error instanceof JetbucketError && error.code === code;
}
