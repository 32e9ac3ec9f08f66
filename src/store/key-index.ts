/** The most keys that a chunk holds; a full one is cut in two. */
const CHUNK = 512;
/** What a key costs beside its own characters, in bytes: its place in a chunk, its numbers, the string's header. */
const KEY_COST = 64;

interface Chunk {
  keys: string[];
  revisions: number[];
  /** Milliseconds since 1970, or 0 for never. */
  expiries: number[];
}

/**
 * The live keys of a bucket, sorted, with their latest revisions and the ends of their lives, as a feed has seen them.
 *
 * It fills from two sides at once: the live feed, and a scan of what was there before. Until the scan is through, a
 * delete that the feed has brought is remembered, so that an older put from the scan does not bring the key back.
 *
 * Keys lie in sorted chunks in a sorted list: a look-up is two binary searches, a page is a walk, and a million keys cost
 * little more than their characters.
 */
export class KeyIndex {
  readonly #chunks: Chunk[] = [];
  #deleted: Map<string, number> | undefined = new Map();
  #size = 0;
  #bytes = 0;

  /** Live keys. */
  get size(): number {
    return this.#size;
  }

  /** Memory that it takes, in bytes, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The latest revision of a key, or undefined when it is not there. */
  get(key: string): number | undefined {
    const chunk = this.#chunks[this.#chunkOf(key)];
    if (chunk === undefined) return undefined;
    const at = lowerBound(chunk.keys, key);
    return chunk.keys[at] === key ? chunk.revisions[at] : undefined;
  }

  /**
   * Takes a put in; one that is older than what is known of the key changes nothing.
   *
   * @param expiry milliseconds since 1970, or 0 for never
   */
  put(key: string, revision: number, expiry = 0): void {
    if (this.#deleted !== undefined && this.#deleted.size > 0) {
      if ((this.#deleted.get(key) ?? 0) > revision) return;
    }
    const place = this.#chunkOf(key);
    const chunk = this.#chunks[place];
    if (chunk === undefined) {
      this.#chunks.push({ keys: [key], revisions: [revision], expiries: [expiry] });
      this.#count(key, 1);
      return;
    }
    // Keys are often written in their order: then each belongs behind all others.
    const at = chunk.keys.at(-1)! < key ? chunk.keys.length : lowerBound(chunk.keys, key);
    if (chunk.keys[at] === key) {
      if (chunk.revisions[at]! > revision) return;
      chunk.revisions[at] = revision;
      chunk.expiries[at] = expiry;
      return;
    }
    chunk.keys.splice(at, 0, key);
    chunk.revisions.splice(at, 0, revision);
    chunk.expiries.splice(at, 0, expiry);
    this.#count(key, 1);
    if (chunk.keys.length > CHUNK) this.#split(place, chunk);
  }

  /** Takes a delete in; one that is older than what is known of the key changes nothing. */
  delete(key: string, revision: number): void {
    if (this.#deleted !== undefined) this.#deleted.set(key, revision);
    const place = this.#chunkOf(key);
    const chunk = this.#chunks[place];
    if (chunk === undefined) return;
    const at = lowerBound(chunk.keys, key);
    if (chunk.keys[at] !== key || chunk.revisions[at]! > revision) return;
    chunk.keys.splice(at, 1);
    chunk.revisions.splice(at, 1);
    chunk.expiries.splice(at, 1);
    this.#count(key, -1);
    if (chunk.keys.length === 0) this.#chunks.splice(place, 1);
  }

  /** Forgets everything, to give the memory back. */
  clear(): void {
    this.#chunks.length = 0;
    this.#deleted = undefined;
    this.#size = 0;
    this.#bytes = 0;
  }

  /** The scan is through: from here on the feed alone tells. */
  settle(): void {
    this.#deleted = undefined;
  }

  /**
   * The keys in order, without those whose time is over.
   *
   * @param from the first key to give, or the place where it would stand
   */
  *keys(from = "", now = Date.now()): Generator<string> {
    let place = this.#chunkOf(from);
    let at = lowerBound(this.#chunks[place]?.keys ?? [], from);
    for (; place < this.#chunks.length; place++) {
      const { keys, expiries } = this.#chunks[place]!;
      for (; at < keys.length; at++) {
        const expiry = expiries[at]!;
        if (expiry === 0 || expiry > now) yield keys[at]!;
      }
      at = 0;
    }
  }

  /** How many keys there are whose time is not over. */
  count(now = Date.now()): number {
    let count = this.#size;
    for (const { expiries } of this.#chunks) {
      for (const expiry of expiries) if (expiry !== 0 && expiry <= now) count -= 1;
    }
    return count;
  }

  /** The keys, written at or before a revision, that another index does not have. */
  *missingFrom(other: KeyIndex, upTo: number): Generator<string> {
    for (const { keys, revisions } of this.#chunks) {
      for (let at = 0; at < keys.length; at++) {
        if (revisions[at]! <= upTo && other.get(keys[at]!) === undefined) yield keys[at]!;
      }
    }
  }

  /** The chunk in which a key is or belongs: the last one that does not begin behind it. */
  #chunkOf(key: string): number {
    let low = 0;
    let high = this.#chunks.length;
    if (high > 0 && this.#chunks[high - 1]!.keys[0]! <= key) return high - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#chunks[middle]!.keys[0]! <= key) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  #split(place: number, chunk: Chunk): void {
    const half = chunk.keys.length >>> 1;
    this.#chunks.splice(place + 1, 0, {
      keys: chunk.keys.splice(half),
      revisions: chunk.revisions.splice(half),
      expiries: chunk.expiries.splice(half),
    });
  }

  #count(key: string, by: 1 | -1): void {
    this.#size += by;
    this.#bytes += by * (key.length + KEY_COST);
  }
}

/** The first place whose key is not before a key. */
export function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
