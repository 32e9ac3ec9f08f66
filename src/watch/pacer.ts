/** Work that is put off to the end of a turn. */
export interface Paced {
  flush(): void;
}

/** Time between two turns, as a multiple of what the first of them took. */
const REST = 1;
/** Longest time between two turns, in milliseconds. */
const LONGEST_REST = 25;

/**
 * Decides when what has come up leaves. When there is little to do that is at the end of the event loop's turn. When a turn took
 * a while, the next one begins so much later that half of the time is left for other things, and what comes up
 * meanwhile leaves together: with many sockets a write to each of them is what costs, hardly what is in it.
 */
export class Pacer {
  #waiting = new Set<Paced>();
  #earliest = 0;
  #isArmed = false;

  /** Has something flushed with the next turn. */
  schedule(paced: Paced): void {
    this.#waiting.add(paced);
    if (this.#isArmed) return;
    this.#isArmed = true;
    const rest = this.#earliest - performance.now();
    if (rest <= 0) setImmediate(() => this.#run());
    else setTimeout(() => this.#run(), rest);
  }

  #run(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    this.#isArmed = false;
    const start = performance.now();
    for (const each of waiting) each.flush();
    const end = performance.now();
    this.#earliest = end + Math.min(REST * (end - start), LONGEST_REST);
  }
}
