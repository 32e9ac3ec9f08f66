/**
 * All watches of one bucket on this gateway: one feed, one decoding and one frame per change, many sockets.
 *
 * A watch joins in three steps. It registers while the feed runs, so that every change from then on is either
 * delivered or remembered in `recent`. It reads what is there (snapshot or history) from the stream, up to a barrier:
 * the last revision that the reading covers. Then it gets the remembered changes behind the barrier, and is live.
 * Watches that join at the same time with the same filters share one reading. Whose socket does not keep up with it goes
 * on in a second lane, behind what it was sent, so that the others need not wait.
 */
import { closeCodes } from "../protocol/close-codes.ts";
import { KvError } from "../protocol/errors.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Change, Feed, FeedEnd, FeedListener } from "../store/feed.ts";
import type { FeedLease } from "../store/feeds.ts";
import { FilterIndex } from "./filters.ts";
import { readyFrame, staleFrame, updateFrame, type Frame } from "./frames.ts";
import { encodePosition } from "../protocol/position.ts";
import { Recent } from "./recent.ts";
import type { Progress, Watch } from "./watch.ts";

/** Bytes of changes that are remembered while watches catch up. */
const RECENT_BYTES = 64 * 1024 * 1024;
/** How long a socket may hold up a reading before it has to go on in the slow lane, in milliseconds. */
const QUICK_PATIENCE = 100;
/**
 * How long it may stand still there before it is given up. Less than the time for which JetStream keeps the consumer of
 * a reading that nobody goes on with.
 */
const PATIENCE = 5_000;

/** Watches that catch up one group after the other, so that the readings under way are two, however many watches wait. */
interface Lane {
  readonly patience: number;
  /** Where watches go that do not keep up here; without it they are ended. */
  readonly slower?: Lane;
  waiting: Watch[];
  isBusy: boolean;
}

export class Channel implements FeedListener {
  readonly name: string;
  readonly #onEnd: () => void;
  readonly #watches = new Set<Watch>();
  readonly #filters = new FilterIndex<Watch>();
  readonly #recent = new Recent(RECENT_BYTES);
  readonly #catchingUp = new Set<Watch>();
  readonly #lane: Lane = {
    patience: QUICK_PATIENCE,
    slower: { patience: PATIENCE, waiting: [], isBusy: false },
    waiting: [],
    isBusy: false,
  };
  #dirty = new Set<Watch>();
  #lease: FeedLease | undefined;
  #end: ((watch: Watch) => void) | undefined;

  /** @param onEnd called once when the feed is over and all watches have been ended */
  constructor(name: string, onEnd: () => void) {
    this.name = name;
    this.#onEnd = onEnd;
  }

  /** Hands over the feed that this channel listens to. */
  start(lease: FeedLease): void {
    this.#lease = lease;
    // Its end can come first.
    if (this.#end !== undefined) lease.close();
  }

  get size(): number {
    return this.#watches.size;
  }

  join(watch: Watch): void {
    if (this.#end !== undefined) {
      this.#end(watch);
      return;
    }
    this.#watches.add(watch);
    this.#filters.add(watch, watch.options.patterns);
    if (watch.options.include === "updates") {
      watch.barrier = this.feed.position;
      this.#goLive(watch);
      return;
    }
    this.#catchingUp.add(watch);
    this.#queue(watch, this.#lane);
  }

  leave(watch: Watch): void {
    if (!this.#watches.delete(watch)) return;
    this.#filters.delete(watch, watch.options.patterns);
    this.#dirty.delete(watch);
    this.#caughtUp(watch);
  }

  /** Ends the feed and every watch. */
  close(code: number, reason: string): void {
    this.#lease!.close();
    this.#endAll((watch) => watch.end(code, reason));
  }

  get feed(): Feed {
    return this.#lease!.feed;
  }

  onChange(change: Change): void {
    let frame: Frame | undefined;
    const make = (): Frame => (frame ??= updateFrame(this.name, change));
    if (this.#catchingUp.size > 0) this.#recent.push({ change, frame: make() });
    this.#filters.forEachMatch(change.suffix, (watch) => {
      if (watch.isLive && isBehindBarrier(watch, change)) this.#push(watch, make());
    });
  }

  onStale(reason: string): void {
    const frame = staleFrame(reason);
    for (const watch of this.#watches) {
      if (watch.isLive && watch.socket.isExtended) this.#push(watch, frame);
    }
  }

  onCurrent(): void {
    for (const watch of this.#watches) if (watch.isLive) this.#announce(watch);
  }

  onEnd(why: FeedEnd): void {
    this.#endAll((watch) => {
      if (why === "bucket_gone") endGone(watch, this.name);
      else watch.end(closeCodes.overloaded, "changes were missed: watch again");
    });
    this.#lease?.close();
    this.#onEnd();
  }

  #endAll(end: (watch: Watch) => void): void {
    this.#end = end;
    for (const watch of [...this.#watches]) end(watch);
  }

  #queue(watch: Watch, lane: Lane): void {
    watch.reading = readingOf(watch);
    lane.waiting.push(watch);
    if (!lane.isBusy) void this.#catchUp(lane);
  }

  #caughtUp(watch: Watch): void {
    this.#catchingUp.delete(watch);
    if (this.#catchingUp.size === 0) this.#recent.clear();
  }

  async #catchUp(lane: Lane): Promise<void> {
    lane.isBusy = true;
    while (lane.waiting.length > 0) {
      const { reading } = lane.waiting[0]!;
      const group = new Set(lane.waiting.filter((watch) => watch.reading === reading));
      lane.waiting = lane.waiting.filter((watch) => !group.has(watch));
      try {
        await this.#read(group, lane);
      } catch (error) {
        for (const watch of group) {
          if (error instanceof KvError && error.code === "bucket_not_found")
            endGone(watch, this.name);
          else watch.end(closeCodes.overloaded, "the bucket could not be read: watch again");
        }
      }
      for (const watch of group) this.#caughtUp(watch);
    }
    lane.isBusy = false;
  }

  /** Reads what is stored for watches that want the same of it, and takes them live. */
  async #read(group: Set<Watch>, lane: Lane): Promise<void> {
    const [{ options, progress }] = [...group] as [Watch];
    const { patterns, include } = options;
    const { start, sent } = progress ?? { start: this.feed.position, sent: 0 };
    let reached = sent;
    await this.#paced(group, lane, { start, sent });
    if (group.size === 0) return;
    let barrier = Math.max(this.feed.position, sent);
    for await (const batch of this.bucket.read(patterns, include === "history" ? "all" : "last")) {
      for (const { entry } of batch) {
        barrier = Math.max(barrier, entry.revision);
        if (entry.revision <= sent) continue;
        reached = entry.revision;
        // A delete that came while this is read may be of a key that was sent before: only older ones can be left out.
        if (include === "snapshot" && entry.operation === "delete" && entry.revision <= start) {
          continue;
        }
        const frame = updateFrame(this.name, entry);
        for (const watch of group) this.#push(watch, frame);
        // A batch can be more than an outbox may hold, even that of a socket that keeps up.
        if (isHeldUp(group)) await this.#paced(group, lane, { start, sent: reached });
        if (group.size === 0) return;
      }
      await this.#paced(group, lane, { start, sent: reached });
      if (group.size === 0) return;
    }
    if (!this.#recent.reachesBack(barrier)) {
      throw new KvError("store_unavailable", "more changed while catching up than is remembered");
    }
    for (const watch of group) {
      if (watch.isClosed) continue;
      watch.barrier = barrier;
      for (const { change, frame } of this.#recent) {
        if (isBehindBarrier(watch, change) && wants(watch, change)) this.#push(watch, frame);
      }
      this.#goLive(watch);
    }
  }

  get bucket(): Bucket {
    return this.feed.bucket;
  }

  /**
   * Waits until all of a group keep up. Who does not for long leaves the group: for the slower lane, where it goes on
   * behind what it was sent, or for good.
   */
  async #paced(group: Set<Watch>, lane: Lane, progress: Progress): Promise<void> {
    await Promise.all(
      Array.from(group, async (watch) => {
        watch.flush();
        await watch.clear(lane.patience);
      }),
    );
    for (const watch of group) {
      if (!watch.isClosed && watch.outbox.isClear) continue;
      group.delete(watch);
      if (watch.isClosed) continue;
      if (lane.slower === undefined) {
        watch.end(closeCodes.overloaded, "too slow to take the snapshot");
      } else {
        watch.progress = progress;
        this.#queue(watch, lane.slower);
      }
    }
  }

  #goLive(watch: Watch): void {
    watch.isLive = true;
    this.#announce(watch);
  }

  /** Tells that a watch has all up to the present. */
  #announce(watch: Watch): void {
    if (watch.socket.isExtended) {
      watch.outbox.pushWhenClear(() => {
        const revision = Math.max(this.feed.position, watch.barrier);
        return readyFrame(encodePosition({ epoch: this.bucket.epoch, revision }), watch.count);
      });
    }
    this.#touch(watch);
  }

  #push(watch: Watch, frame: Frame): void {
    if (watch.isClosed) return;
    watch.push(frame);
    if (watch.outbox.overflowed) watch.end(closeCodes.overloaded, "too slow");
    else this.#touch(watch);
  }

  /** Everything that one turn of the event loop brings leaves together at its end. */
  #touch(watch: Watch): void {
    if (this.#dirty.size === 0) {
      setImmediate(() => {
        const dirty = this.#dirty;
        this.#dirty = new Set();
        for (const each of dirty) each.flush();
      });
    }
    this.#dirty.add(watch);
  }
}

/** What a watch needs to have read: watches with the same answer share a reading. */
function readingOf({ options, progress }: Watch): string {
  const patterns = options.patterns.map((pattern) => pattern.text);
  return JSON.stringify([options.include, patterns, progress]);
}

function isHeldUp(group: Set<Watch>): boolean {
  for (const watch of group) if (watch.isClosed || !watch.outbox.isClear) return true;
  return false;
}

/** Whether a change came after what the watch got by reading. Deletes that the feed found out later always did. */
function isBehindBarrier(watch: Watch, change: Change): boolean {
  return change.revision > watch.barrier || change.isLate === true;
}

function wants(watch: Watch, change: Change): boolean {
  return watch.options.patterns.some((pattern) => pattern.matches(change.suffix));
}

function endGone(watch: Watch, bucket: string): void {
  watch.end(closeCodes.bucketGone, `bucket "${bucket}" was deleted`, "bucket_not_found");
}
