import type { Change } from "../store/feed.ts";
import type { Frame } from "./frames.ts";

export interface RecentChange {
  change: Change;
  frame: Frame;
}

/** The latest changes of a bucket, kept while somebody catches up. Bounded by bytes: the oldest go first. */
export class Recent {
  readonly #limit: number;
  #changes: RecentChange[] = [];
  #first = 0;
  #bytes = 0;
  #forgotten = 0;

  /** @param limit bytes of frames */
  constructor(limit: number) {
    this.#limit = limit;
  }

  push(item: RecentChange): void {
    this.#changes.push(item);
    this.#bytes += item.frame.bytes.length;
    while (this.#bytes > this.#limit) {
      const oldest = this.#changes[this.#first++]!;
      this.#bytes -= oldest.frame.bytes.length;
      this.#forgotten = oldest.change.revision;
    }
    if (this.#first > 1024 && this.#first > this.#changes.length / 2) {
      this.#changes = this.#changes.slice(this.#first);
      this.#first = 0;
    }
  }

  /** Whether all changes behind a revision are here. */
  reachesBack(revision: number): boolean {
    return this.#forgotten <= revision;
  }

  *[Symbol.iterator](): Generator<RecentChange> {
    for (let i = this.#first; i < this.#changes.length; i++) yield this.#changes[i]!;
  }

  clear(): void {
    this.#changes = [];
    this.#first = 0;
    this.#bytes = 0;
    this.#forgotten = 0;
  }
}
