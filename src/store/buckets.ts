import { assertBucketName, bucketOfStream, streamOfBucket } from "../protocol/bucket-names.ts";
import type { LiveEntry } from "../protocol/entry.ts";
import type { KeyPattern } from "../protocol/keys.ts";
import { limits } from "../protocol/limits.ts";
import { KvError } from "../protocol/errors.ts";
import type { BucketInfo, CreateBucketRequest, UpdateBucketRequest } from "../protocol/messages.ts";
import { Bucket } from "./bucket.ts";
import { bucketInfoOf, streamConfigOf, withSettings } from "./bucket-settings.ts";
import { capabilitiesOf, type Capabilities } from "./capabilities.ts";
import type { StoreConnection } from "./connection.ts";
import { kvErrorOf } from "./errors.ts";
import type { FeedListener } from "./feed.ts";
import { Feeds, type FeedLease } from "./feeds.ts";
import { countKeys, listKeys, type KeyPage, type KeyQuery } from "./listing.ts";
import { JetStream, type StreamInfo } from "./jetstream.ts";

/** Buckets whose keys are counted at the same time. */
const PARALLEL = 8;
/** How often a bucket is made anew by a write while somebody deletes it. */
const CREATE_ATTEMPTS = 4;
const DEFAULT_INDEX_MEMORY = 512 * 1024 * 1024;

/**
 * The user's buckets. It remembers the buckets it has opened, and forgets them when JetStream says that their stream
 * was changed or deleted, by whomever.
 */
export class Buckets {
  readonly #connection: StoreConnection;
  readonly #js: JetStream;
  readonly #feeds: Feeds;
  readonly #open = new Map<string, Promise<Bucket>>();
  readonly #listeners = {
    CREATED: new Set<(bucket: string) => void>(),
    DELETED: new Set<(bucket: string) => void>(),
  };

  /** @param indexMemory bytes that the sorted keys of all active buckets may take together; default 512 MiB */
  constructor(connection: StoreConnection, indexMemory = DEFAULT_INDEX_MEMORY) {
    this.#connection = connection;
    this.#js = new JetStream(connection);
    this.#feeds = new Feeds(this.#js, indexMemory);
    connection.nats.subscribe("$JS.EVENT.ADVISORY.STREAM.*.>", {
      callback: (error, message) => {
        if (error !== null) return;
        const [, , , , action, ...stream] = message.subject.split(".");
        const name = nameOfStream(stream.join("."));
        if (name === undefined) return;
        this.#open.delete(name);
        if (action === "UPDATED" && this.#feeds.isActive(name)) {
          this.open(name).then(
            (bucket) => this.#feeds.update(bucket),
            () => undefined,
          );
        }
        if (action !== "CREATED" && action !== "DELETED") return;
        for (const listener of this.#listeners[action]) listener(name);
      },
    });
    // What happened while the connection was away is not known.
    connection.onChange(() => this.#open.clear());
  }

  /** Whether the store can be reached now. */
  get isUp(): boolean {
    return this.#connection.isUp;
  }

  /** What the NATS server can do that the connection stands to now, or stood to last. */
  get capabilities(): Capabilities {
    return capabilitiesOf(this.#connection.serverVersion);
  }

  /** The name of its cluster, if it is part of one. */
  get cluster(): string | undefined {
    return this.#connection.cluster;
  }

  /** Largest value that any bucket can hold, in bytes. */
  get maxValueSize(): number {
    return this.#connection.maxPayload - limits.valueHeaders;
  }

  /**
   * Creates a bucket.
   *
   * @throws KvError `bucket_exists`, `invalid_bucket_name`, `invalid_request`, `unsupported`
   */
  async create(request: CreateBucketRequest): Promise<BucketInfo> {
    assertBucketName(request.name);
    const config = streamConfigOf(request, this.capabilities);
    try {
      const info = await this.#js.call<StreamInfo>(`STREAM.CREATE.${config.name}`, config);
      this.#open.delete(request.name);
      return bucketInfoOf(request.name, info, 0);
    } catch (error) {
      throw kvErrorOf(error, request.name);
    }
  }

  /**
   * All buckets of users, sorted by name.
   *
   * @param isWanted asked for each name before anything else is done for it; all are wanted without it
   */
  async list(isWanted: (name: string) => boolean = () => true): Promise<BucketInfo[]> {
    const found: { name: string; info: StreamInfo }[] = [];
    for (let offset = 0; ;) {
      const page = await this.#js.call<{ total: number; streams: StreamInfo[] | null }>(
        "STREAM.LIST",
        { offset },
      );
      const streams = page.streams ?? [];
      for (const info of streams) {
        const name = bucketOfStream(info.config.name);
        if (name !== undefined && isWanted(name)) found.push({ name, info });
      }
      offset += streams.length;
      if (streams.length === 0 || offset >= page.total) break;
    }
    const infos: BucketInfo[] = [];
    for (let at = 0; at < found.length; at += PARALLEL) {
      const some = found.slice(at, at + PARALLEL);
      const described = await Promise.all(
        some.map(({ name, info }) => this.#describe(name, info).catch(ignoreMissing)),
      );
      infos.push(...described.filter((each) => each !== undefined));
    }
    return infos.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws KvError `bucket_not_found` */
  async info(name: string): Promise<BucketInfo> {
    return this.#describe(name, await this.#streamInfo(name));
  }

  /**
   * Changes settings of a bucket; what is not named stays as it is.
   *
   * @throws KvError `bucket_not_found`, `config_differs` when JetStream cannot change it
   */
  async update(name: string, change: UpdateBucketRequest): Promise<BucketInfo> {
    const { config, state } = await this.#streamInfo(name);
    if (change.max_bytes !== undefined && change.max_bytes > 0 && change.max_bytes < state.bytes) {
      // Nothing could be written any more, tombstones included.
      throw new KvError(
        "config_differs",
        `"max_bytes" is less than the ${state.bytes} bytes that bucket "${name}" holds`,
        {
          details: { field: "max_bytes", bytes: state.bytes },
        },
      );
    }
    try {
      const info = await this.#js.call<StreamInfo>(
        `STREAM.UPDATE.${config.name}`,
        withSettings(config, change),
      );
      this.#open.delete(name);
      return await this.#describe(name, info);
    } catch (error) {
      throw kvErrorOf(error, name);
    }
  }

  /** Deletes a bucket with all that is in it. @throws KvError `bucket_not_found` */
  async delete(name: string): Promise<void> {
    assertBucketName(name);
    try {
      await this.#js.call(`STREAM.DELETE.${streamOfBucket(name)}`);
    } catch (error) {
      throw kvErrorOf(error, name);
    } finally {
      this.#open.delete(name);
    }
  }

  /**
   * The bucket of a name, for reading and writing.
   *
   * @throws KvError `bucket_not_found`, `invalid_bucket_name`
   */
  open(name: string): Promise<Bucket> {
    return this.#opened(name, () => this.#streamInfo(name));
  }

  /**
   * Reads in a bucket that counts as empty when it is not there.
   *
   * @returns undefined when there is no such bucket
   * @throws KvError `invalid_bucket_name`
   */
  read<T>(name: string, read: (bucket: Bucket) => Promise<T>): Promise<T | undefined> {
    return this.#readIn(name, () => this.open(name), read);
  }

  /**
   * Writes in a bucket that is created, with the settings of every new one, when it is not there.
   *
   * @param write is called again when the bucket turned out to be gone
   * @throws KvError `invalid_bucket_name`
   */
  write<T>(name: string, write: (bucket: Bucket) => Promise<T>): Promise<T> {
    return this.#writeIn(
      name,
      () => this.open(name),
      () => this.create({ name }),
      write,
    );
  }

  /**
   * As {@link read}, in a bucket of the gateway's own. No name that a user gives leads to one.
   *
   * @param name as it is stored, beginning with `SYS_`
   */
  readSystem<T>(name: string, read: (bucket: Bucket) => Promise<T>): Promise<T | undefined> {
    return this.#readIn(name, () => this.openSystem(name), read);
  }

  /**
   * As {@link write}, in a bucket of the gateway's own.
   *
   * @param name as for {@link readSystem}
   */
  writeSystem<T>(name: string, write: (bucket: Bucket) => Promise<T>): Promise<T> {
    return this.#writeIn(
      name,
      () => this.openSystem(name),
      () => this.#createSystem(name),
      write,
    );
  }

  async #readIn<T>(
    name: string,
    open: () => Promise<Bucket>,
    read: (bucket: Bucket) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await read(await open());
    } catch (error) {
      this.#forgetMissing(name, error);
      return undefined;
    }
  }

  async #writeIn<T>(
    name: string,
    open: () => Promise<Bucket>,
    create: () => Promise<unknown>,
    write: (bucket: Bucket) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await write(await open());
      } catch (error) {
        this.#forgetMissing(name, error);
        if (attempt === CREATE_ATTEMPTS) throw error;
      }
      // Somebody else may have been faster.
      await create().catch((error: unknown) => {
        if (!(error instanceof KvError && error.code === "bucket_exists")) throw error;
      });
    }
  }

  /**
   * All live entries that match in a bucket of the gateway's own, sorted by key; none when there is no such bucket.
   *
   * @param options `headersOnly` leaves the values on the server
   */
  async systemEntries(
    name: string,
    pattern: KeyPattern,
    options: { headersOnly?: boolean } = {},
  ): Promise<LiveEntry[]> {
    return (await this.readSystem(name, (bucket) => bucket.entries([pattern], options))) ?? [];
  }

  /** Names of the gateway's own buckets that begin with something, sorted. */
  async systemNames(prefix: string): Promise<string[]> {
    const names = (await this.#streamNames()).map((stream) => stream.slice("KV_".length));
    return names.filter((name) => name.startsWith(prefix)).sort();
  }

  /** Names of all buckets of users, sorted. */
  async names(): Promise<string[]> {
    const names = (await this.#streamNames()).map(bucketOfStream);
    return names.filter((name) => name !== undefined).sort();
  }

  async #streamNames(): Promise<string[]> {
    const names: string[] = [];
    for (let offset = 0; ;) {
      const page = await this.#js.call<{ total: number; streams: string[] | null }>(
        "STREAM.NAMES",
        { offset },
      );
      const streams = page.streams ?? [];
      names.push(...streams);
      offset += streams.length;
      if (streams.length === 0 || offset >= page.total) return names;
    }
  }

  /**
   * A bucket of the gateway's own.
   *
   * @param name as for {@link readSystem}
   * @throws KvError `bucket_not_found`
   */
  openSystem(name: string): Promise<Bucket> {
    return this.#opened(name, async () => {
      try {
        return await this.#js.streamInfo(`KV_${name}`);
      } catch (error) {
        throw kvErrorOf(error, name);
      }
    });
  }

  async #createSystem(name: string): Promise<void> {
    const stream = { name: `KV_${name}`, subjects: [`$KV.${name}.>`] };
    const config = { ...streamConfigOf({ name }, this.capabilities), ...stream };
    try {
      await this.#js.call(`STREAM.CREATE.${config.name}`, config);
    } catch (error) {
      throw kvErrorOf(error, name);
    }
  }

  /** Forgets a bucket that an error says is gone. @throws every other error */
  #forgetMissing(name: string, error: unknown): void {
    ignoreMissing(error);
    this.#open.delete(name);
  }

  #opened(name: string, describe: () => Promise<StreamInfo>): Promise<Bucket> {
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const opening = describe().then((info) => new Bucket(this.#js, name, info));
    this.#open.set(name, opening);
    opening.catch(() => {
      if (this.#open.get(name) === opening) this.#open.delete(name);
    });
    return opening;
  }

  /** Forgets what is known of a bucket: it has turned out to be out of date. */
  forget(name: string): void {
    this.#open.delete(name);
  }

  /**
   * Follows all changes of a bucket from now on.
   *
   * @throws KvError `bucket_not_found`
   */
  follow(name: string, listener: FeedListener): Promise<FeedLease> {
    return this.#follow(name, () => this.open(name), listener);
  }

  /**
   * Follows all changes of a bucket of the gateway's own from now on.
   *
   * @param name as for {@link readSystem}
   * @throws KvError `bucket_not_found`
   */
  followSystem(name: string, listener: FeedListener): Promise<FeedLease> {
    return this.#follow(name, () => this.openSystem(name), listener);
  }

  async #follow(
    name: string,
    open: () => Promise<Bucket>,
    listener: FeedListener,
  ): Promise<FeedLease> {
    // A feed lasts: it must not begin with what was known of a bucket that is another by now.
    this.#open.delete(name);
    try {
      return await this.#feeds.join(await open(), listener);
    } catch (error) {
      throw kvErrorOf(error, name);
    }
  }

  /**
   * Lists live keys of a bucket, in order.
   *
   * @throws KvError `bucket_not_found`, `store_unavailable`
   */
  async keys(bucket: Bucket, query: KeyQuery): Promise<KeyPage> {
    try {
      return await listKeys(this.#feeds, bucket, query);
    } catch (error) {
      throw kvErrorOf(error, bucket.name);
    }
  }

  /** Ends all feeds. */
  close(): Promise<void> {
    return this.#feeds.close();
  }

  /** Calls back when a bucket was created, by whomever. The news can be lost. Returns a function that ends it. */
  onCreated(listener: (bucket: string) => void): () => void {
    this.#listeners.CREATED.add(listener);
    return () => this.#listeners.CREATED.delete(listener);
  }

  /** Calls back when a bucket was deleted, by whomever. Returns a function that ends it. */
  onDeleted(listener: (bucket: string) => void): () => void {
    this.#listeners.DELETED.add(listener);
    return () => this.#listeners.DELETED.delete(listener);
  }

  /** Checks that JetStream answers. @throws KvError `store_unavailable` */
  async check(): Promise<void> {
    await this.#js.call("INFO");
  }

  async #streamInfo(name: string): Promise<StreamInfo> {
    assertBucketName(name);
    try {
      return await this.#js.streamInfo(streamOfBucket(name));
    } catch (error) {
      throw kvErrorOf(error, name);
    }
  }

  async #describe(name: string, info: StreamInfo): Promise<BucketInfo> {
    const isEmpty = info.state.messages === 0;
    const keys = isEmpty ? 0 : await countKeys(this.#feeds, new Bucket(this.#js, name, info));
    return bucketInfoOf(name, info, keys);
  }
}

/** The name under which a stream's bucket is open: a user's, or one of the gateway's own. */
function nameOfStream(stream: string): string | undefined {
  return stream.startsWith("KV_SYS_") ? stream.slice("KV_".length) : bucketOfStream(stream);
}

function ignoreMissing(error: unknown): undefined {
  const known = kvErrorOf(error, "");
  if (known instanceof KvError && known.code === "bucket_not_found") return undefined;
  throw error;
}
