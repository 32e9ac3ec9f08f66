import type { Bucket } from "./bucket.ts";
import { Feed, type FeedListener } from "./feed.ts";
import { IndexBudget } from "./index-budget.ts";
import type { JetStream } from "./jetstream.ts";

/** A part in a feed, to be given back. */
export interface FeedLease {
  feed: Feed;
  /** Nothing is told any more. The feed itself ends when nobody has a part in it. */
  close(): void;
}

interface Running {
  opening: Promise<Feed>;
  leases: number;
  idle: NodeJS.Timeout | undefined;
  /** Until when it goes on without anybody, in milliseconds since 1970: its index was used. */
  keepUntil: number;
}

/** How long a feed goes on after its index was used, in milliseconds: the next page should not read all keys again. */
const LINGER = 30_000;

/**
 * The feeds of this gateway: at most one for each bucket, shared by everybody who watches or lists it.
 */
export class Feeds {
  readonly #js: JetStream;
  readonly #budget: IndexBudget;
  readonly #linger: number;
  readonly #running = new Map<string, Running>();

  /**
   * @param indexMemory bytes that the keys of all buckets with a feed may take
   * @param linger milliseconds that a feed goes on after its index was used; default 30 s
   */
  constructor(js: JetStream, indexMemory: number, linger = LINGER) {
    this.#js = js;
    this.#budget = new IndexBudget(indexMemory);
    this.#linger = linger;
  }

  /** Whether a bucket has a feed. */
  isActive(name: string): boolean {
    return this.#running.has(name);
  }

  /** The feed of a bucket, if there is one already. */
  active(bucket: Bucket): Promise<Feed> | undefined {
    return this.#running.get(bucket.name)?.opening;
  }

  /** Tells a running feed of its bucket's new settings. */
  async update(bucket: Bucket): Promise<void> {
    const feed = await this.active(bucket)?.catch(() => undefined);
    feed?.update(bucket);
  }

  /**
   * Takes part in a bucket's feed, which begins if it does not run yet.
   *
   * @param listener is told of every change from now on; without one it is the index that is wanted
   * @throws KvError `bucket_not_found`, `store_unavailable`
   */
  async join(bucket: Bucket, listener?: FeedListener): Promise<FeedLease> {
    const { name } = bucket;
    let running = this.#running.get(name);
    if (running === undefined) {
      running = {
        opening: Feed.start(this.#js, bucket, this.#budget),
        leases: 0,
        idle: undefined,
        keepUntil: 0,
      };
      this.#running.set(name, running);
    }
    const own = running;
    own.leases += 1;
    if (listener === undefined) own.keepUntil = Date.now() + this.#linger;
    clearTimeout(own.idle);
    let feed: Feed;
    try {
      feed = await own.opening;
    } catch (error) {
      this.#forget(name, own);
      throw error;
    }
    // An earlier bucket of the same name, or one that ended while it was opened.
    if (feed.hasEnded || feed.bucket.epoch !== bucket.epoch) {
      own.leases -= 1;
      this.#forget(name, own);
      if (feed.bucket.epoch !== bucket.epoch) void feed.bucketDeleted();
      return this.join(bucket, listener);
    }
    const silence = listener === undefined ? undefined : feed.listen(listener);
    let isOpen = true;
    return {
      feed,
      close: () => {
        if (!isOpen) return;
        isOpen = false;
        silence?.();
        own.leases -= 1;
        if (own.leases === 0) this.#rest(name, own, feed);
      },
    };
  }

  /** Ends all feeds and takes their consumers off the server. */
  async close(): Promise<void> {
    for (const [name, running] of [...this.#running]) {
      this.#forget(name, running);
      await running.opening.then(
        (feed) => feed.close(),
        () => undefined,
      );
    }
  }

  #rest(name: string, running: Running, feed: Feed): void {
    if (feed.hasEnded) {
      this.#forget(name, running);
      return;
    }
    clearTimeout(running.idle);
    const end = (): void => {
      this.#forget(name, running);
      feed.close();
    };
    const rest = running.keepUntil - Date.now();
    if (rest <= 0) end();
    else running.idle = setTimeout(end, rest).unref();
  }

  #forget(name: string, running: Running): void {
    clearTimeout(running.idle);
    if (this.#running.get(name) === running) this.#running.delete(name);
  }
}
