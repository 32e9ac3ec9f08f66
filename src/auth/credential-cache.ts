/** Remembers what credentials were found to be, for those that were used lately, in bounded memory. */
export class CredentialCache<T> {
  readonly #size: number;
  #young = new Map<string, T>();
  #old = new Map<string, T>();

  /** @param size how many are remembered at most; those that were used lately, at least half as many */
  constructor(size: number) {
    this.#size = size / 2;
  }

  get(credential: string): T | undefined {
    const young = this.#young.get(credential);
    if (young !== undefined) return young;
    const old = this.#old.get(credential);
    if (old !== undefined) this.set(credential, old);
    return old;
  }

  set(credential: string, value: T): void {
    if (this.#young.size >= this.#size) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(credential, value);
  }

  delete(credential: string): void {
    this.#young.delete(credential);
    this.#old.delete(credential);
  }

  /** Forgets those that are meant. */
  forget(isMeant: (value: T) => boolean): void {
    for (const generation of [this.#young, this.#old]) {
      for (const [credential, value] of generation) {
        if (isMeant(value)) generation.delete(credential);
      }
    }
  }
}
