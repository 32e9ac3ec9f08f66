/**
 * The live keys of a bucket and their latest revisions, as its feed has seen them.
 *
 * It fills from two sides at once: the live feed, and a scan of what was there before. Until the scan is through, a
 * delete that the feed has brought is remembered, so that an older put from the scan does not bring the key back.
 */
export class KeyIndex {
  readonly #revisions = new Map<string, number>();
  #deleted: Map<string, number> | undefined = new Map();

  /** Live keys. */
  get size(): number {
    return this.#revisions.size;
  }

  /** Takes a put in; one that is older than what is known of the key changes nothing. */
  put(suffix: string, revision: number): void {
    const known = this.#revisions.get(suffix) ?? this.#deleted?.get(suffix) ?? 0;
    if (known < revision) this.#revisions.set(suffix, revision);
  }

  /** Takes a delete in. */
  delete(suffix: string, revision: number): void {
    if ((this.#revisions.get(suffix) ?? 0) > revision) return;
    this.#revisions.delete(suffix);
    this.#deleted?.set(suffix, revision);
  }

  /** The scan is through: from here on the feed alone tells. */
  settle(): void {
    this.#deleted = undefined;
  }

  /** The keys, written at or before a revision, that another index does not have. */
  *missingFrom(other: KeyIndex, upTo: number): Generator<string> {
    for (const [suffix, revision] of this.#revisions) {
      if (revision <= upTo && !other.#revisions.has(suffix)) yield suffix;
    }
  }
}
