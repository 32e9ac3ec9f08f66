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
}
