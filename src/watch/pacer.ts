/** Work that is put off to the end of a turn. */
export interface Paced {
  flush(): void;
}

/** How long other things are left alone by what waits, in milliseconds. */
const TURN = 1;
/** Time that is left for other things, as a multiple of what was taken. */
const REST = 1;
/** Longest time that is left for other things while all that waits gets its turn, in milliseconds. */
const LONGEST_REST = 25;
/** How much of that time may be owed, in milliseconds: what comes up once in a while leaves without a rest. */
const CREDIT = 20;

/**
 * Decides when what has come up leaves. When there is little to do that is at the end of the event loop's turn. When there is much,
 * half of the time is left for other things, and what comes up meanwhile leaves together: with many sockets a write to each
 * of them is what costs, hardly what is in it. What waits takes its turns one after the other, so that the writes are spread over the
 * time, and none of them waits for all others once it is due.
 */
export class Pacer {
  readonly #waiting = new Set<Paced>();
  #isArmed = false;
  /** Time that is still to be left for other things, and when that was so. */
  #owed = 0;
  #at = 0;
  /** What one of those that wait takes, in milliseconds, of late. */
  #usual = 0;
  /** How many have waited at the same time, at most, since there was nothing to do. */
  #most = 0;

  /** Has something flushed with its next turn. */
  schedule(paced: Paced): void {
    this.#waiting.add(paced);
    if (!this.#isArmed) this.#arm();
  }

  #arm(): void {
    this.#isArmed = true;
    this.#pass();
    const rest = this.#owed - CREDIT;
    if (rest <= 0) setImmediate(() => this.#run());
    else setTimeout(() => this.#run(), rest);
  }

  #run(): void {
    this.#isArmed = false;
    const start = this.#pass();
    this.#most = Math.max(this.#most, this.#waiting.size);
    // What all of them take, as it looks: the longest rest is for as much.
    const all = Math.max(this.#usual * this.#most, LONGEST_REST / REST);
    let now = start;
    let count = 0;
    // Those that come up meanwhile wait.
    for (const each of [...this.#waiting]) {
      this.#waiting.delete(each);
      each.flush();
      count += 1;
      now = performance.now();
      if (now - start >= TURN) break;
    }
    const took = now - start;
    this.#usual += (took / count - this.#usual) / 8;
    this.#owed += took + (took * LONGEST_REST) / all;
    if (this.#waiting.size > 0) this.#arm();
    else this.#most = 0;
  }

  /** Lets the time pass. @returns what time it is */
  #pass(): number {
    const now = performance.now();
    this.#owed = Math.max(0, this.#owed - (now - this.#at));
    this.#at = now;
    return now;
  }
}
