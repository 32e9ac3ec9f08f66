import type { Audience } from "./audience.ts";
import type { Frame } from "./frames.ts";
import type { Paced, Pacer } from "./pacer.ts";
import { Sequence } from "./turn.ts";
import type { Watcher } from "./watcher.ts";

/** What a shard needs to know of its bucket. */
export interface ShardHost {
  readonly resources: { readonly pacer: Pacer };
  /** Everything up to its position has been pushed. */
  readonly feed: { readonly position: number };
  /** A shard is about to hand over what waits. */
  onTurn(): void;
}

/** How many watches get what has happened in the same turn: few, so that none of them waits for many others. */
const SIZE = 128;

/** Live watches of an audience that are in the same shard. */
export class Members {
  readonly audience: Audience;
  readonly shard: Shard;
  readonly watchers = new Set<Watcher>();
  /** What they get with the next turn. */
  pending: Sequence | undefined;

  constructor(audience: Audience, shard: Shard) {
    this.audience = audience;
    this.shard = shard;
  }
}

/**
 * A part of a bucket's live watches, with turns of its own. What happens waits for the shard's turn and is joined then, once for all
 * who get the same.
 */
export class Shard implements Paced {
  readonly #host: ShardHost;
  readonly #waiting = new Set<Members>();
  #start = Sequence.empty();
  #size = 0;
  #flushed: number;

  constructor(host: ShardHost) {
    this.#host = host;
    this.#flushed = host.feed.position;
  }

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  get hasRoom(): boolean {
    return this.#size < SIZE;
  }

  /** Revision up to which its members have got everything, as far as they have room for it. */
  get position(): number {
    return this.#waiting.size > 0 ? this.#flushed : this.#host.feed.position;
  }

  /** Takes a watch that has got everything up to the present: so nothing may wait for the others then. */
  add(watcher: Watcher): void {
    this.flush();
    const { audience } = watcher;
    let members = audience.members.get(this);
    if (members === undefined) {
      members = new Members(audience, this);
      audience.members.set(this, members);
    }
    members.watchers.add(watcher);
    watcher.members = members;
    this.#size += 1;
  }

  delete(watcher: Watcher): void {
    const members = watcher.members!;
    watcher.members = undefined;
    members.watchers.delete(watcher);
    this.#size -= 1;
    if (members.watchers.size > 0) return;
    members.audience.members.delete(this);
    this.#waiting.delete(members);
  }

  /** Has some members get a frame with the next turn. @returns bytes that each of them gets then */
  push(members: Members, frame: Frame): number {
    if (this.#waiting.size === 0) this.#host.resources.pacer.schedule(this);
    this.#waiting.add(members);
    members.pending = (members.pending ?? this.#start).with(frame);
    return members.pending.length;
  }

  /** Hands all that waits over. */
  flush(): void {
    if (this.#waiting.size === 0) return;
    this.#host.onTurn();
    this.#flushed = this.#host.feed.position;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    this.#start = Sequence.empty();
    for (const members of waiting) {
      const { pending } = members;
      members.pending = undefined;
      if (pending === undefined) continue;
      for (const watcher of members.watchers) watcher.take(pending);
    }
  }
}
