import { KvError } from "../protocol/errors.ts";
import type { ResetReason } from "../protocol/messages.ts";
import type { StoredEntry } from "../store/bucket.ts";
import { EventBuilder } from "../store/feed-event.ts";
import type { Feed } from "../store/feed.ts";
import { FreshRead } from "./fresh-read.ts";
import { Moment, type Origin } from "./moment.ts";
import type { Ring } from "./ring.ts";

/** Bytes of older changes that are read from the stream at most. Beyond, a snapshot is the better beginning. */
const MOST = 16 * 1024 * 1024;
/** Attempts to find out something while NATS comes and goes. */
const ATTEMPTS = 5;

/** Where watches go on. */
export interface ResumptionHost {
  readonly feed: Feed;
  readonly ring: Ring;
  readonly origin: Origin;
  /** Resolves when the feed brings changes as they happen, at once if it does so now. */
  whenCurrent(): Promise<void>;
}

/** A moment in the life of a bucket. */
export interface Present {
  /** Everything up to this revision has happened, and the feed has brought it. */
  readonly revision: number;
  /** Number of the first change in the ring behind that. */
  readonly next: number;
}

/**
 * Decides whether a watch can go on behind a revision. It can when all that happened since is known: from the ring, or from the
 * stream where nothing has been removed from it. What cannot be proven is not done.
 */
export class Resumption {
  readonly #host: ResumptionHost;
  /** Resolves with the bucket's last revision when the feed has brought everything up to it. */
  readonly #present: FreshRead<number>;
  /** Behind this revision something is missing in the stream, and so behind all before it. */
  #unprovable = -1;
  #extending: Promise<unknown> = Promise.resolve();

  constructor(host: ResumptionHost) {
    this.#host = host;
    this.#present = new FreshRead(async () => {
      const last = await host.feed.bucket.lastRevision();
      await host.feed.reach(last);
      return last;
    });
  }

  /**
   * Waits until the ring has everything that was acknowledged before the call.
   *
   * @throws KvError `store_unavailable`, `bucket_not_found`
   */
  async present(): Promise<Present> {
    const revision = await this.#present.get();
    return { revision, next: this.#host.ring.end };
  }

  /**
   * Where a watch goes on that has seen everything up to a revision, when that can be told from what is at hand.
   *
   * @returns the number of its next change in the ring
   */
  now(revision: number, present: Present): number | undefined {
    const { feed, ring } = this.#host;
    return feed.isCurrent && revision <= present.revision ? ring.find(revision) : undefined;
  }

  /**
   * Finds it out.
   *
   * @returns the number of its next change in the ring, or why it cannot go on
   * @throws KvError `store_unavailable`, `bucket_not_found`
   */
  find(revision: number): Promise<number | ResetReason> {
    return this.#tried(async () => {
      // Another gateway can be ahead of this one.
      if (revision > (await this.#present.get())) return "future";
      const found = this.#inRing(revision);
      if (found !== undefined) return found;
      if (revision <= this.#unprovable) return "too_old";
      await this.#inTurn(() => this.#extend(revision));
      return this.#inRing(revision) ?? "too_old";
    });
  }

  /** While the feed makes up for a loss the ring does not know yet what it has missed. */
  #inRing(revision: number): number | undefined {
    const { feed, ring } = this.#host;
    if (!feed.isCurrent)
      throw new KvError("store_unavailable", "the bucket cannot be followed now");
    return ring.find(revision);
  }

  /** Does something while the feed is current, and again when that was lost meanwhile. */
  async #tried<T>(task: () => Promise<T>): Promise<T> {
    const { feed } = this.#host;
    for (let attempt = 1; ; attempt++) {
      await this.#host.whenCurrent();
      try {
        return await task();
      } catch (error) {
        const isPassing = error instanceof KvError && error.code === "store_unavailable";
        if (!isPassing || attempt === ATTEMPTS || feed.hasEnded) throw error;
      }
    }
  }

  /** Many come at once: what one has read is there for the others. */
  async #inTurn(task: () => Promise<void>): Promise<void> {
    const turn = this.#extending.then(task);
    this.#extending = turn.catch(() => undefined);
    await turn;
  }

  /** Reads what happened behind a revision, up to where the ring knows it, unless that has become known meanwhile. */
  async #extend(revision: number): Promise<void> {
    const { feed, ring, origin } = this.#host;
    if (revision <= this.#unprovable || ring.find(revision) !== undefined) return;
    const { floor } = ring;
    const target = ring.gapAround(revision)?.to ?? floor;
    const moments: Moment[] = [];
    const builder = new EventBuilder((event) => {
      if (event.changes.length > 0) moments.push(new Moment(origin, event, true));
    });
    const batches = await feed.bucket.since(revision);
    const isProven = batches !== undefined && (await this.#take(batches, builder, target));
    await feed.verify();
    if (!isProven) {
      this.#unprovable = Math.max(this.#unprovable, revision);
      return;
    }
    builder.flush();
    if (revision >= floor) ring.narrowGap(revision);
    else if (ring.floor === floor) ring.extendBack(moments, revision);
  }

  /** @returns false when something is missing, or it is too much */
  async #take(
    batches: AsyncGenerator<StoredEntry[], void, void>,
    builder: EventBuilder,
    target: number,
  ): Promise<boolean> {
    let bytes = 0;
    try {
      for await (const batch of batches) {
        for (const { suffix, entry, batch: part } of batch) {
          if (entry.revision > target) return true;
          builder.add(entry.revision, { ...entry, suffix }, part);
          bytes += entry.size;
          if (bytes > MOST) return false;
        }
      }
    } catch (error) {
      if (error instanceof KvError && error.code === "revision_not_found") return false;
      throw error;
    }
    return true;
  }
}
