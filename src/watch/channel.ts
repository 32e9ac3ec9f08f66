/**
 * All watches of one bucket on this gateway: one feed, one decoding and one frame per change, many sockets.
 *
 *     joins ──► reads what is stored ──► catches up by the ring ──► live
 *        └── goes on at a position ──────────┘                       │
 *                     ▲                                              │ more waits for its socket than may
 *                     └── resets, once its socket has drained ◄──────┘
 *
 * The ring holds what has happened lately, whether somebody watches or not. A watch that has caught up with it becomes a member
 * of a shard when nothing waits for the others there either: so it gets every change once.
 */
import { closeCodes } from "../protocol/close-codes.ts";
import type { ResetReason } from "../protocol/messages.ts";
import { encodePosition, parsePosition } from "../protocol/position.ts";
import { KvError } from "../protocol/errors.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Feed, FeedEnd, FeedEvent, FeedListener } from "../store/feed.ts";
import type { FeedLease } from "../store/feeds.ts";
import type { Audience } from "./audience.ts";
import { Audiences } from "./audiences.ts";
import { CatchUp } from "./catch-up.ts";
import { readyFrame, resetFrame, staleFrame } from "./frames.ts";
import type { HubResources } from "./hub-resources.ts";
import { Moment, type Origin } from "./moment.ts";
import type { Paced } from "./pacer.ts";
import { Readings, type Reading, type ReadingHost } from "./readings.ts";
import { Resumption, type Present, type ResumptionHost } from "./resumption.ts";
import { Ring } from "./ring.ts";
import type { ShardHost } from "./shard.ts";
import type { End, WatchOptions, WatchSocket } from "./watch.ts";
import { Watcher, type WatcherHost } from "./watcher.ts";

/** Bytes for one socket after which a turn ends early. */
const TURN = 256 * 1024;

export class Channel
  implements FeedListener, WatcherHost, ReadingHost, ResumptionHost, ShardHost, Origin, Paced
{
  readonly bucketName: string;
  readonly resources: HubResources;
  readonly ring: Ring;
  readonly #onIdle: () => void;
  readonly #onEnd: () => void;
  readonly #watchers = new Set<Watcher>();
  readonly #audiences = new Audiences(this);
  /** Who needs the ring to keep what they have still to get. */
  readonly #catchingUp = new Set<Watcher>();
  /** Those of them who get the next part with the next turn. */
  #following: Watcher[] = [];
  /** What happened since the last turn. */
  #turn: Moment[] = [];
  /** Revision up to which anybody can have got everything. */
  #flushed = 0;
  /** While the feed makes up for a loss: up to where it had seen everything. */
  #lostAt: number | undefined;
  #staleReason = "";
  #waiting: (() => void)[] = [];
  #lease: FeedLease | undefined;
  #readings: Readings | undefined;
  #resumption: Resumption | undefined;
  #bookmarks: NodeJS.Timeout | undefined;
  #end: End | undefined;

  /**
   * @param onIdle called when the last watch has gone
   * @param onEnd called once when the feed is over and all watches have been ended
   */
  constructor(name: string, resources: HubResources, onIdle: () => void, onEnd: () => void) {
    this.bucketName = name;
    this.resources = resources;
    this.ring = new Ring(resources.rings);
    this.#onIdle = onIdle;
    this.#onEnd = onEnd;
  }

  /** Hands over the feed that this channel listens to. */
  start(lease: FeedLease): void {
    this.#lease = lease;
    // Its end can come first.
    if (this.#end !== undefined) {
      lease.close();
      return;
    }
    const { feed } = lease;
    // Where it was when it lost touch is not known.
    if (!feed.isCurrent) this.#lostAt = -1;
    this.ring.restart(feed.position);
    this.#readings = new Readings(this);
    this.#resumption = new Resumption(this);
    this.#bookmarks = setInterval(() => this.#pushBookmarks(), this.resources.bookmarks).unref();
  }

  /** Watches that there are. */
  get size(): number {
    return this.#watchers.size;
  }

  get hasStarted(): boolean {
    return this.#lease !== undefined;
  }

  /** Whether all watches have been ended, so that there can be no new ones. */
  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  get feed(): Feed {
    return this.#lease!.feed;
  }

  get bucket(): Bucket {
    return this.feed.bucket;
  }

  get origin(): Origin {
    return this;
  }

  position(revision: number): string {
    return encodePosition({ epoch: this.bucket.epoch, revision });
  }

  /** What a watch that begins now must not miss. @throws KvError `store_unavailable`, `bucket_not_found` */
  present(): Promise<Present> {
    return this.#resumption!.present();
  }

  /** @param present of before the watch began: what happened since is for it to hear */
  join(options: WatchOptions, socket: WatchSocket, present: Present): Watcher {
    const audience = this.#audiences.join(options, socket.format);
    const watcher = new Watcher(this, audience, socket);
    this.#watchers.add(watcher);
    if (this.#end !== undefined) watcher.end(this.#end);
    else if (options.since !== undefined) this.#resume(watcher, options.since, present);
    else if (options.include === "updates") this.#follow(watcher, present.next, 0);
    else this.#begin(watcher);
    return watcher;
  }

  leave(watcher: Watcher): void {
    if (!this.#watchers.delete(watcher)) return;
    this.#audiences.dismiss(watcher);
    this.#audiences.leave(watcher.audience);
    this.#caughtUp(watcher);
    if (this.#watchers.size === 0 && this.#end === undefined) this.#onIdle();
  }

  /** Ends the feed and every watch. */
  close(code: number, reason: string): void {
    this.#finish({ code, reason, retryable: true });
    this.#lease?.close();
  }

  onEvent(event: FeedEvent): void {
    const isLate = event.changes.some((change) => change.isLate === true);
    const lostAt = isLate ? (this.#lostAt ?? this.#flushed) : undefined;
    const moment = new Moment(this, event, this.#lostAt === undefined, lostAt);
    this.ring.push(moment);
    const length = this.#audiences.push(moment);
    if (length === 0) return;
    this.#turn.push(moment);
    if (length > TURN) this.#audiences.flush();
  }

  onStale(reason: string): void {
    // Anything that happens before the start is not known at all.
    if (this.#lease === undefined) return;
    this.#lostAt ??= this.feed.position;
    this.#staleReason = reason;
    this.#audiences.pushStale(reason);
  }

  onCurrent(): void {
    if (this.#lease === undefined) return;
    if (this.#lostAt !== undefined) this.ring.addGap(this.#lostAt, this.feed.position);
    this.#lostAt = undefined;
    this.#audiences.flush();
    for (const watcher of this.#watchers) this.#announce(watcher);
    this.#wakeWaiting();
  }

  onEnd(why: FeedEnd): void {
    this.#finish(
      why === "bucket_gone"
        ? this.#gone
        : {
            code: closeCodes.overloaded,
            reason: "changes were missed: watch again",
            retryable: true,
          },
    );
    this.#lease?.close();
    this.#onEnd();
  }

  whenCurrent(): Promise<void> {
    if (this.#lostAt === undefined || this.#end !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  onRead(watcher: Watcher, { from }: Reading): void {
    watcher.reading = undefined;
    this.#follow(watcher, from, 0);
  }

  /** A watch cannot go on where it is, because too much has happened since. */
  onBehind(watcher: Watcher): void {
    const { audience } = watcher;
    watcher.cursor = undefined;
    watcher.reading = undefined;
    this.#caughtUp(watcher);
    this.#audiences.dismiss(watcher);
    watcher.discard();
    if (audience.isPlain || audience.wantsHistory) {
      watcher.end({
        code: closeCodes.overloaded,
        reason: "too slow: more changed than can wait",
        retryable: true,
      });
      return;
    }
    watcher.whenClear(() => {
      if (watcher.isClosed) return;
      this.#tellReset(watcher, "lagged");
      this.#catchingUpWith(watcher);
      this.#readings!.beginSlowly(watcher);
    });
  }

  onOverflow(watcher: Watcher): void {
    this.resources.counters.overflows += 1;
    this.onBehind(watcher);
  }

  onFailed(watcher: Watcher, error: unknown): void {
    if (error instanceof KvError && error.code === "bucket_not_found") {
      watcher.end(this.#gone);
      return;
    }
    watcher.end({
      code: closeCodes.overloaded,
      reason: "the bucket could not be read: watch again",
      retryable: true,
    });
  }

  /** A turn of those who catch up. */
  flush(): void {
    if (this.#end !== undefined) return;
    this.onTurn();
    this.#advance();
  }

  onTurn(): void {
    this.#flushed = this.feed.position;
    for (const moment of this.#turn) moment.settle();
    this.#turn = [];
  }

  #begin(watcher: Watcher): void {
    this.#catchingUpWith(watcher);
    this.#readings!.begin(watcher);
  }

  #resume(watcher: Watcher, since: string, present: Present): void {
    const position = parsePosition(since);
    if (position?.epoch !== Date.parse(this.bucket.epoch)) {
      this.#startOver(watcher, "epoch_changed");
      return;
    }
    const { revision, hash } = position;
    if (hash !== undefined && hash !== watcher.audience.hash) {
      this.#startOver(watcher, "filter_changed");
      return;
    }
    const next = this.#resumption!.now(revision, present);
    if (next !== undefined) this.#follow(watcher, next, revision);
    else void this.#resumeLater(watcher, revision);
  }

  async #resumeLater(watcher: Watcher, revision: number): Promise<void> {
    this.#catchingUpWith(watcher);
    const { isPlain, dialect } = watcher.audience;
    if (this.#lostAt !== undefined && !isPlain)
      watcher.write(staleFrame(dialect, this.#staleReason).bytes, 0);
    try {
      const found = await this.#resumption!.find(revision);
      if (typeof found === "string") this.#startOver(watcher, found);
      else this.#follow(watcher, found, revision);
    } catch (error) {
      this.onFailed(watcher, error);
    }
  }

  #startOver(watcher: Watcher, reason: ResetReason): void {
    if (watcher.isClosed) return;
    this.#tellReset(watcher, reason);
    this.#begin(watcher);
  }

  #tellReset(watcher: Watcher, reason: ResetReason): void {
    this.resources.counters.resets[reason] += 1;
    if (!watcher.audience.isPlain)
      watcher.write(resetFrame(watcher.audience.dialect, reason).bytes, 0);
  }

  #catchingUpWith(watcher: Watcher): void {
    if (watcher.isClosed || this.#catchingUp.has(watcher)) return;
    this.#catchingUp.add(watcher);
    this.ring.pin();
  }

  #caughtUp(watcher: Watcher): void {
    if (this.#catchingUp.delete(watcher)) this.ring.unpin();
  }

  /** Takes a watch on from a change in the ring. */
  #follow(watcher: Watcher, next: number, after: number): void {
    if (watcher.isClosed) return;
    this.#catchingUpWith(watcher);
    watcher.cursor = { next, after };
    this.#following.push(watcher);
    this.resources.pacer.schedule(this);
  }

  /** Sends the next part to those who catch up. */
  #advance(): void {
    const following = this.#following;
    if (following.length === 0) return;
    this.#following = [];
    const isCurrent = this.#lostAt === undefined;
    const catchUp = new CatchUp(
      this.ring,
      isCurrent ? (audience) => this.#positionOf(audience, this.#flushed) : undefined,
    );
    for (const watcher of following) {
      const { cursor } = watcher;
      if (watcher.isClosed || cursor === undefined) continue;
      if (!this.ring.reachesBack(cursor.next)) this.onBehind(watcher);
      else if (!watcher.isClear) watcher.whenClear(() => this.#goOn(watcher));
      else if (catchUp.advance(watcher, cursor)) this.#admit(watcher);
      else this.#goOn(watcher);
    }
    catchUp.settle();
  }

  #goOn(watcher: Watcher): void {
    if (watcher.isClosed) return;
    this.#following.push(watcher);
    this.resources.pacer.schedule(this);
  }

  #admit(watcher: Watcher): void {
    watcher.cursor = undefined;
    this.#caughtUp(watcher);
    if (watcher.isClosed) return;
    const { audience } = watcher;
    // The first one is told so by its kv_ready, which needs no bookmark behind it.
    if (!audience.isLive) audience.told = Math.max(audience.told, this.#flushed);
    this.#audiences.admit(watcher);
    // It is ready once the feed is current again.
    if (this.#lostAt !== undefined && !audience.isPlain)
      watcher.write(staleFrame(audience.dialect, this.#staleReason).bytes, 0);
  }

  /** Tells a live watch that it has all up to the present. */
  #announce(watcher: Watcher): void {
    const { audience, members } = watcher;
    if (members === undefined || audience.isPlain) return;
    watcher.mark(() => {
      // Nothing waits for the watch now, but something may wait for its shard's turn.
      const revision = members.shard.position;
      this.#flushed = Math.max(this.#flushed, revision);
      return readyFrame(audience.dialect, this.#positionOf(audience, revision), watcher.count);
    });
  }

  #pushBookmarks(): void {
    if (this.#lostAt !== undefined || this.#end !== undefined) return;
    const revision = this.feed.position;
    this.#audiences.pushBookmarks(revision, (audience) => this.#positionOf(audience, revision));
  }

  #positionOf({ hash }: Audience, revision: number): string {
    return encodePosition({ epoch: this.bucket.epoch, revision }, hash);
  }

  get #gone(): End {
    return {
      code: closeCodes.bucketGone,
      reason: `bucket "${this.bucketName}" was deleted`,
      error: "bucket_not_found",
      retryable: false,
    };
  }

  #finish(end: End): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    clearInterval(this.#bookmarks);
    for (const watcher of [...this.#watchers]) watcher.end(end);
    this.#wakeWaiting();
    this.ring.close();
  }

  #wakeWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
