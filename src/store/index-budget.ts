import type { KeyIndex } from "./key-index.ts";

/** The memory that all key indexes of a gateway may take together. */
export class IndexBudget {
  readonly #limit: number;
  readonly #indexes = new Set<KeyIndex>();

  /** @param limit bytes */
  constructor(limit: number) {
    this.#limit = limit;
  }

  add(index: KeyIndex): void {
    this.#indexes.add(index);
  }

  remove(index: KeyIndex): void {
    this.#indexes.delete(index);
  }

  /** Bytes in use, about. */
  get bytes(): number {
    let bytes = 0;
    for (const index of this.#indexes) bytes += index.bytes;
    return bytes;
  }

  get isSpent(): boolean {
    return this.bytes > this.#limit;
  }
}
