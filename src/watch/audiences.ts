import { Audience } from "./audience.ts";
import type { Change } from "../store/feed.ts";
import { FilterIndex } from "./filters.ts";
import { bookmarkFrame, staleFrame, type Frame } from "./frames.ts";
import type { Moment } from "./moment.ts";
import { Sequence } from "./turn.ts";
import type { Format, WatchOptions } from "./watch.ts";

/** The audiences of a bucket, and what its live watches get with the next turn. */
export class Audiences {
  readonly #byKey = new Map<string, Audience>();
  readonly #filters = new FilterIndex<Audience>();
  #start = Sequence.empty();
  #waiting = new Set<Audience>();

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
    this.#waiting.delete(audience);
  }

  /** Whether something waits for the end of the turn. */
  get hasPending(): boolean {
    return this.#waiting.size > 0;
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
        if (audience.members.size > 0) push(audience, moment.frames(audience.dialect));
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
      if (audience.isPlain || audience.members.size === 0) continue;
      this.#add(audience, staleFrame(audience.dialect, reason));
      for (const member of audience.members) member.unmark();
    }
  }

  /** Tells those who have heard nothing for long how far the bucket has come. */
  pushBookmarks(revision: number, position: (audience: Audience) => string): void {
    for (const audience of this.#byKey.values()) {
      if (audience.isPlain || audience.members.size === 0 || audience.told >= revision) continue;
      this.#add(audience, bookmarkFrame(audience.dialect, position(audience)));
      audience.told = revision;
    }
  }

  /** Hands all that waits over to the members. */
  flush(): void {
    const waiting = this.#waiting;
    if (waiting.size === 0) return;
    this.#waiting = new Set();
    this.#start = Sequence.empty();
    for (const audience of waiting) {
      const { pending } = audience;
      audience.pending = undefined;
      if (pending === undefined) continue;
      for (const member of audience.members) member.take(pending);
    }
  }

  #add(audience: Audience, frame: Frame): number {
    audience.pending = (audience.pending ?? this.#start).with(frame);
    this.#waiting.add(audience);
    return audience.pending.length;
  }

  /** Which of some changes each audience wants. */
  #placesOf(changes: readonly Change[]): Map<Audience, number[]> {
    const found = new Map<Audience, number[]>();
    changes.forEach(({ suffix }, place) => {
      this.#filters.forEachMatch(suffix, (audience) => {
        if (audience.members.size === 0) return;
        const places = found.get(audience);
        if (places === undefined) found.set(audience, [place]);
        else places.push(place);
      });
    });
    return found;
  }
}
