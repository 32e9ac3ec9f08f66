import { setTimeout as delay } from "node:timers/promises";
import { isLive, type Entry, type LiveEntry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { everyKey } from "../protocol/keys.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import type { FeedEnd, FeedListener } from "../store/feed.ts";
import type { FeedLease } from "../store/feeds.ts";

/** Hears what is in a mirrored bucket: each key when it comes, changes or goes. */
export interface MirrorListener {
  onSet(key: string, entry: LiveEntry): void;
  onGone(key: string): void;
}

interface Attached {
  /** Settles when the bucket is not followed any more. */
  ended: Promise<FeedEnd | "absent">;
}

/** How often a bucket that is not there, or cannot be followed, is looked for, in milliseconds; news of its creation come first. */
const ABSENT = 5_000;
const RETRY = 500;
/** How long a change of this gateway's own may take to come back to it, in milliseconds. */
const PATIENCE = 4_000;

/**
 * A bucket of the gateway's own, held in memory as it is in the store. When the bucket is deleted everything in it is gone, and when it
 * is created again what is in it then is there.
 *
 *     loading ──> current ──> stale ──> current        (NATS away, a gap)
 *        ▲           └──────────┴─────> absent         (bucket deleted, or never made)
 *        └────────────────────────────────┘
 */
export class Mirror {
  readonly #buckets: Buckets;
  readonly #name: string;
  readonly #listener: MirrorListener;
  readonly #offs: (() => void)[];
  readonly #told = new Set<string>();
  #isLoaded = false;
  #lease: FeedLease | undefined;
  #staleSince: number | undefined = Date.now();
  #isClosed = false;
  /** Ends the pause before the next attempt. */
  #wake: (() => void) | undefined;
  readonly #attached = new Set<() => void>();

  private constructor(buckets: Buckets, name: string, listener: MirrorListener) {
    this.#buckets = buckets;
    this.#name = name;
    this.#listener = listener;
    this.#offs = [
      buckets.onCreated((created) => {
        if (created === name) this.#wake?.();
      }),
      buckets.onDeleted((deleted) => {
        if (deleted === name) void this.#lease?.feed.bucketDeleted();
      }),
    ];
  }

  /**
   * Resolves when everything was told that there is.
   *
   * @param name as it is stored, beginning with `SYS_`
   * @throws KvError `store_unavailable`
   */
  static async open(buckets: Buckets, name: string, listener: MirrorListener): Promise<Mirror> {
    const mirror = new Mirror(buckets, name, listener);
    try {
      void mirror.#run(await mirror.#attach());
    } catch (error) {
      mirror.close();
      throw error;
    }
    return mirror;
  }

  /** Since when changes may not have been heard of, in milliseconds since 1970; undefined as long as they arrive. */
  get staleSince(): number | undefined {
    return this.#staleSince;
  }

  /**
   * Resolves when everything was told that was in the bucket at a revision, for instance of an own write.
   *
   * @throws KvError `store_unavailable` when that takes too long
   */
  async reach(bucket: Bucket, revision: number): Promise<void> {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const feed = this.#isLoaded ? this.#lease?.feed : undefined;
      if (feed?.bucket.epoch === bucket.epoch && !feed.hasEnded) return feed.reach(revision);
      const rest = deadline - Date.now();
      if (rest <= 0 || this.#isClosed) {
        throw new KvError("store_unavailable", "credentials cannot be looked up now", {
          retryAfter: 1,
        });
      }
      this.#wake?.();
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer);
          this.#attached.delete(done);
          resolve();
        };
        const timer = setTimeout(done, rest);
        this.#attached.add(done);
      });
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const off of this.#offs) off();
    this.#lease?.close();
    this.#wake?.();
    for (const done of [...this.#attached]) done();
  }

  async #run(attached: Attached): Promise<void> {
    for (;;) {
      const why = await attached.ended;
      if (this.#isClosed) return;
      this.#lease?.close();
      if (why === "absent") await this.#pause(ABSENT);
      const next = await this.#attachAgain();
      if (next === undefined) return;
      attached = next;
    }
  }

  /** @returns undefined when it was closed meanwhile */
  async #attachAgain(): Promise<Attached | undefined> {
    while (!this.#isClosed) {
      try {
        return await this.#attach();
      } catch {
        this.#staleSince ??= Date.now();
        await this.#pause(RETRY);
      }
    }
    return undefined;
  }

  /** Follows the bucket, and tells all that is in it. */
  async #attach(): Promise<Attached> {
    this.#isLoaded = false;
    let end!: (why: FeedEnd) => void;
    const ended = new Promise<FeedEnd>((resolve) => (end = resolve));
    /** Revisions of what changes while all that is there is read. */
    let loading: Map<string, number> | undefined = new Map();
    const listener: FeedListener = {
      onEvent: ({ changes }) => {
        for (const change of changes) {
          loading?.set(change.key, change.revision);
          this.#take(change);
        }
      },
      onStale: () => (this.#staleSince ??= Date.now()),
      onCurrent: () => (this.#staleSince = undefined),
      onEnd: (why) => {
        if (why === "bucket_gone") this.#clear();
        else this.#staleSince ??= Date.now();
        end(why);
      },
    };
    let lease: FeedLease;
    try {
      lease = await this.#buckets.followSystem(this.#name, listener);
    } catch (error) {
      if (!(error instanceof KvError && error.code === "bucket_not_found")) throw error;
      this.#clear();
      this.#staleSince = undefined;
      return { ended: Promise.resolve("absent") };
    }
    this.#lease = lease;
    try {
      const present = new Set<string>();
      for await (const batch of lease.feed.bucket.read([everyKey], "last", { complete: true })) {
        for (const { entry } of batch) {
          present.add(entry.key);
          if ((loading.get(entry.key) ?? 0) < entry.revision) this.#take(entry);
        }
      }
      // What went while nobody followed, without leaving a trace, or with an earlier bucket.
      for (const key of [...this.#told]) {
        if (!present.has(key) && !loading.has(key)) this.#forget(key);
      }
    } catch (error) {
      lease.close();
      throw error;
    }
    loading = undefined;
    this.#isLoaded = true;
    if (!lease.feed.hasEnded && lease.feed.isCurrent) this.#staleSince = undefined;
    for (const done of [...this.#attached]) done();
    return { ended };
  }

  #take(entry: Entry): void {
    if (isLive(entry)) {
      this.#told.add(entry.key);
      this.#listener.onSet(entry.key, entry);
    } else if (this.#told.has(entry.key)) {
      this.#forget(entry.key);
    }
  }

  #clear(): void {
    for (const key of [...this.#told]) this.#forget(key);
  }

  #forget(key: string): void {
    this.#told.delete(key);
    this.#listener.onGone(key);
  }

  async #pause(milliseconds: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await delay(milliseconds, undefined, { signal: woken.signal, ref: false }).catch(
      () => undefined,
    );
    this.#wake = undefined;
  }
}
