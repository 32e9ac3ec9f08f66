import type { BucketList } from "../../protocol/messages.ts";
import { Bucket, type Connection } from "./bucket.ts";
import type { BucketChanges, BucketConfig, BucketInfo } from "./bucket-info.ts";
import { camelFields, snakeFields } from "./fields.ts";
import type { CallOptions } from "./options.ts";
import { bucketPath, BUCKETS } from "./paths.ts";
import type { ApiRequest } from "./transport.ts";

/**
 * The buckets of a server.
 *
 * Every method rejects with a {@link JetbucketError}: beside the codes that it names, with `unauthenticated`, `forbidden`,
 * `store_unavailable`, `timeout`, `network` and `aborted`.
 */
export class KvClient {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * A bucket, to read and write its keys. Makes no request, so the bucket may be created later.
   *
   * @typeParam T what its values are
   * @example
   * const settings = kv.bucket<{ mode: "dark" | "light" }>("settings");
   */
  bucket<T = unknown>(name: string): Bucket<T> {
    return new Bucket<T>(this.#connection, name);
  }

  /**
   * Creates a bucket.
   *
   * Rejects with `bucket_exists` (also when the settings are the same), `invalid_bucket_name` or `invalid_request`.
   *
   * @example
   * await kv.createBucket({ name: "settings", ttlSeconds: 3600, history: 5 });
   */
  async createBucket(config: BucketConfig, options: CallOptions = {}): Promise<BucketInfo> {
    return this.#info({ method: "POST", path: BUCKETS }, config, options);
  }

  /**
   * All buckets, sorted by name.
   *
   * @example
   * for (const { name, keys } of await kv.listBuckets()) console.log(name, keys);
   */
  async listBuckets(options: CallOptions = {}): Promise<BucketInfo[]> {
    const request = { method: "GET", path: BUCKETS } as const;
    const body = (await this.#connection.transport.send(request, options)) as BucketList;
    return body.buckets.map((info) => camelFields(info) as BucketInfo);
  }

  /**
   * Settings and size of a bucket.
   *
   * Rejects with `bucket_not_found`.
   *
   * @example
   * const { keys, bytes } = await kv.getBucketInfo("settings");
   */
  async getBucketInfo(name: string, options: CallOptions = {}): Promise<BucketInfo> {
    return this.#info({ method: "GET", path: bucketPath(name) }, undefined, options);
  }

  /**
   * Changes settings of a bucket; those that are not named stay as they are.
   *
   * Rejects with `bucket_not_found` or `invalid_request`.
   *
   * @example
   * await kv.updateBucket("settings", { history: 10 });
   */
  async updateBucket(
    name: string,
    changes: BucketChanges,
    options: CallOptions = {},
  ): Promise<BucketInfo> {
    return this.#info({ method: "PATCH", path: bucketPath(name) }, changes, options);
  }

  /**
   * Deletes a bucket with everything in it. Its watches end.
   *
   * Rejects with `bucket_not_found`.
   *
   * @example
   * await kv.deleteBucket("settings");
   */
  async deleteBucket(name: string, options: CallOptions = {}): Promise<void> {
    await this.#connection.transport.send({ method: "DELETE", path: bucketPath(name) }, options);
  }

  async #info(
    request: ApiRequest,
    settings: BucketChanges | undefined,
    call: CallOptions,
  ): Promise<BucketInfo> {
    const body =
      settings === undefined
        ? {}
        : {
            body: {
              body: JSON.stringify(snakeFields(settings)),
              contentType: "application/json",
            },
          };
    const info = await this.#connection.transport.send({ ...request, ...body }, call);
    return camelFields(info as object) as BucketInfo;
  }
}
