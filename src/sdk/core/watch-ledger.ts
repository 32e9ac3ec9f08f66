import { revisionOfPosition } from "../../protocol/position.ts";
import type { ChangeBody, Include } from "../../protocol/messages.ts";

/** A write: its revision, and when it was stored. */
interface Mark {
  readonly revision: number;
  readonly createdAt: string;
}

const nothing: Mark = { revision: 0, createdAt: "" };
/** Sorts behind every time: for a floor whose time is not known yet. */
const ANY_TIME = "\uffff";

/** A key that went while nobody looked. */
export interface Gone {
  key: string;
  /** The newest revision of the bucket that is known: the removal happened at it or before. */
  revision: number;
}

/**
 * What of a bucket the caller was told, so that a connection that starts over repeats nothing and hides nothing. (One that
 * resumes does neither by itself.)
 *
 * - A write is told once. It counts as told when its key, or at the start of a connection the whole bucket, is known at
 *   its revision or a later one. Revisions of a bucket that was deleted and created again begin at 1 anew: its writes
 *   are recognised by being younger than everything that is known.
 * - A key that was told to live, and that a snapshot does not name, is gone.
 *
 * Keys that were removed are not remembered for long, so memory is bounded by the keys that live.
 */
export class WatchLedger {
  readonly #include: Include;
  readonly #live = new Map<string, Mark>();
  /** Every write up to here was told, or was before the watch. */
  #floor = nothing;
  #newest = nothing;
  #wasComplete = false;
  #catchingUp = false;
  #isNew = false;
  /** Keys that the snapshot under way has named; undefined when none is. */
  #named: Set<string> | undefined;
  /** Removals that were told while catching up: what repeats it after a lost connection may be older. */
  readonly #removed = new Map<string, Mark>();

  constructor(include: Include) {
    this.#include = include;
  }

  /** A connection goes on where the last one ended. */
  resume(): void {
    this.#catchingUp = true;
    this.#named = undefined;
  }

  /** A connection starts over, or the server does; `isNew` when it is known that the bucket was created anew. */
  startOver(isNew = false): void {
    this.#catchingUp = true;
    // Once until it is complete: what was told of the new one since is known.
    if (isNew && !this.#isNew) {
      // All of it is news, and what was told of the old one may be gone.
      this.#isNew = true;
      this.#floor = this.#newest = nothing;
      this.#removed.clear();
      for (const key of this.#live.keys()) this.#live.set(key, nothing);
    }
    // The first connection of a watch of updates brings no snapshot.
    this.#named = this.#include === "updates" && !this.#wasComplete ? undefined : new Set();
  }

  /** Whether the caller has to hear of this. */
  take({ key, revision, created_at: createdAt, operation, inferred }: ChangeBody): boolean {
    const mark = { revision, createdAt };
    // When it went is not known: it says nothing about writes before. A connection that resumes may say it again.
    if (inferred) return this.#live.delete(key) || this.#include === "updates";
    this.#named?.add(key);
    if (covers(this.#live.get(key) ?? this.#removed.get(key), mark)) return false;
    if (this.#catchingUp && covers(this.#floor, mark)) return false;
    if (operation === "put") this.#live.set(key, mark);
    else {
      this.#live.delete(key);
      if (this.#catchingUp) this.#removed.set(key, mark);
    }
    // A lower revision that was not told can only be of a new bucket.
    this.#newest = mark;
    if (this.#floor.createdAt === ANY_TIME) this.#floor = { ...this.#floor, createdAt };
    // Removed keys are forgotten, so a history that starts over needs the exact place.
    if (this.#include === "history") this.#floor = mark;
    return true;
  }

  /** Everything up to a position was sent. Returns the keys that went unseen. */
  complete(position: string): Gone[] {
    const known = revisionOfPosition(position);
    const named = this.#named;
    this.#named = undefined;
    this.#removed.clear();
    this.#catchingUp = this.#isNew = false;
    this.#wasComplete = true;
    if (this.#newest !== nothing) this.#floor = this.#newest;
    else if (this.#include === "updates") this.#floor = { revision: known, createdAt: ANY_TIME };
    if (named === undefined) return [];
    const revision = Math.max(this.#newest.revision, known);
    const gone = [...this.#live.keys()].filter((key) => !named.has(key));
    return gone.map((key) => {
      this.#live.delete(key);
      return { key, revision };
    });
  }
}

function covers(known: Mark | undefined, mark: Mark): boolean {
  return (
    known !== undefined && mark.revision <= known.revision && mark.createdAt <= known.createdAt
  );
}
