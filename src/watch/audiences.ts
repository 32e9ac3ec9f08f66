import { Audience } from "./audience.ts";
import type { Change } from "../store/feed.ts";
import { FilterIndex } from "./filters.ts";
import { bookmarkFrame, staleFrame, type Frame } from "./frames.ts";
import type { Moment } from "./moment.ts";
import { Shard, type ShardHost } from "./shard.ts";
import type { Format, WatchOptions } from "./watch.ts";
import type { Watcher } from "./watcher.ts";

/** The audiences of a bucket, and the shards of its live watches. */
export class Audiences {
  readonly #host: ShardHost;
  readonly #byKey = new Map<string, Audience>();
  readonly #filters = new FilterIndex<Audience>();
  readonly #shards = new Set<Shard>();

  constructor(host: ShardHost) {
    this.#host = host;
  }

  /** The audience of a new watch. Each call needs one of {@link leave}. */
  join(options: WatchOptions, format: Format): Audience {
    const key = Audience.keyOf(options, format);
    let audience = this.#byKey.get(key);
    if (audience === undefined) {
      audience = new Audience(options, format);
      this.#byKey.set(key, audience);
      this.#filters.add(audience, audience.patterns);
    }
    audience.size += 1;
    return audience;
  }

  leave(audience: Audience): void {
    audience.size -= 1;
    if (audience.size > 0) return;
    this.#byKey.delete(audience.key);
    this.#filters.delete(audience);
  }

  /** Makes a watch live that has got everything up to the present. */
  admit(watcher: Watcher): void {
    const shard = this.#withRoom() ?? new Shard(this.#host);
    shard.add(watcher);
    // Those who were in it may have left just now, and it with them.
    this.#shards.add(shard);
  }

  /** A watch is not live any more, if it was. */
  dismiss(watcher: Watcher): void {
    const shard = watcher.members?.shard;
    shard?.delete(watcher);
    if (shard?.isEmpty === true) this.#shards.delete(shard);
  }

  /** Takes what happened, for those who want it. @returns bytes that one of them gets with the next turn, at most */
  push(moment: Moment): number {
    const { changes, revision, lostAt } = moment;
    let most = 0;
    const push = (audience: Audience, frames: readonly Frame[]): void => {
      for (const frame of frames) most = Math.max(most, this.#add(audience, frame));
      if (lostAt === undefined) audience.told = revision;
    };
    if (changes.length === 1) {
      this.#filters.forEachMatch(changes[0]!.suffix, (audience) => {
        if (audience.isLive) push(audience, moment.frames(audience.dialect));
      });
    } else {
      for (const [audience, places] of this.#placesOf(changes))
        push(audience, moment.frames(audience.dialect, places));
    }
    return most;
  }

  /** Tells all who can hear it that changes may be late. */
  pushStale(reason: string): void {
    for (const audience of this.#byKey.values()) {
      if (audience.isPlain || !audience.isLive) continue;
      this.#add(audience, staleFrame(audience.dialect, reason));
      for (const { watchers } of audience.members.values())
        for (const watcher of watchers) watcher.unmark();
    }
  }

  /** Tells those who have heard nothing for long how far the bucket has come. */
  pushBookmarks(revision: number, position: (audience: Audience) => string): void {
    for (const audience of this.#byKey.values()) {
      if (audience.isPlain || !audience.isLive || audience.told >= revision) continue;
      this.#add(audience, bookmarkFrame(audience.dialect, position(audience)));
      audience.told = revision;
    }
  }

  /** Hands all that waits over to the members. */
  flush(): void {
    for (const shard of this.#shards) shard.flush();
  }

  #withRoom(): Shard | undefined {
    for (const shard of this.#shards) if (shard.hasRoom) return shard;
    return undefined;
  }

  #add(audience: Audience, frame: Frame): number {
    let most = 0;
    for (const [shard, members] of audience.members)
      most = Math.max(most, shard.push(members, frame));
    return most;
  }

  /** Which of some changes each audience wants. */
  #placesOf(changes: readonly Change[]): Map<Audience, number[]> {
    const found = new Map<Audience, number[]>();
    changes.forEach(({ suffix }, place) => {
      this.#filters.forEachMatch(suffix, (audience) => {
        if (!audience.isLive) return;
        const places = found.get(audience);
        if (places === undefined) found.set(audience, [place]);
        else places.push(place);
      });
    });
    return found;
  }
}
