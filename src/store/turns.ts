import type { Bucket } from "./bucket.ts";

/** Lets one after the other do something, for each key. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Waits until all who came before are done, however they ended, then runs. */
  async take<T>(key: string, run: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const own = before.then(run, run);
    this.#last.set(key, own);
    try {
      return await own;
    } finally {
      if (this.#last.get(key) === own) this.#last.delete(key);
    }
  }

  /** As {@link take}, for several keys together. */
  takeAll<T>(keys: readonly string[], run: () => Promise<T>): Promise<T> {
    // In an order of their own: else two could wait for each other.
    const ordered = [...new Set(keys)].sort();
    return ordered.reduceRight((inner, key) => () => this.take(key, inner), run)();
  }
}

const turns = new WeakMap<Bucket, Turns>();

/**
 * The turns of those who read keys of a bucket and then write on the condition that nobody else did, so that those of this gateway
 * do not race each other. Others may come between all the same.
 */
export function turnsOf(bucket: Bucket): Turns {
  let own = turns.get(bucket);
  if (own === undefined) {
    own = new Turns();
    turns.set(bucket, own);
  }
  return own;
}
