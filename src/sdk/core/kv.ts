import type { BucketList } from "../../protocol/messages.ts";
import type { Connection } from "./access.ts";
import { Bucket } from "./bucket.ts";
import type { BucketChanges, BucketConfig, BucketInfo } from "./bucket-info.ts";
import { camelFields, snakeFields } from "./fields.ts";
import type { CallOptions } from "./options.ts";
import { bucketPath, BUCKETS } from "./paths.ts";
import type { InferInput, InferOutput, StandardSchemaV1 } from "./standard-schema.ts";
import type { ApiRequest } from "./transport.ts";
import { jsonBodyOf } from "./values.ts";

/** Options of {@link KvClient.bucket}. */
export interface BucketOptions<S extends StandardSchemaV1> {
  /**
   * What the bucket's values have to be: a schema of zod, Valibot, ArkType or any other library that implements Standard
   * Schema.
   *
   * Values are checked before they are written and after they were read, in watches too. What is stored is the value as it
   * was given; what readers get is what the schema makes of it, so that its defaults and transforms happen on reading.
   */
  schema: S;
}

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
   * @typeParam T what its values are; the SDK takes your word for it
   * @example
   * const settings = kv.bucket<{ mode: "dark" | "light" }>("settings");
   */
  bucket<T = unknown>(name: string): Bucket<T>;
  /**
   * A bucket whose values are checked by a schema, and typed by it.
   *
   * @example
   * const users = kv.bucket("users", { schema: z.object({ name: z.string(), age: z.number() }) });
   */
  bucket<S extends StandardSchemaV1>(
    name: string,
    options: BucketOptions<S>,
  ): Bucket<InferOutput<S>, InferInput<S>>;
  bucket(name: string, options?: BucketOptions<StandardSchemaV1>): Bucket {
    return new Bucket(this.#connection, name, options?.schema);
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
    const body = settings === undefined ? {} : { body: jsonBodyOf(snakeFields(settings)) };
    const info = await this.#connection.transport.send({ ...request, ...body }, call);
    return camelFields(info as object) as BucketInfo;
  }
}
