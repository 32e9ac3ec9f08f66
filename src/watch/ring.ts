import type { Moment } from "./moment.ts";

/** How many bytes of recent changes may be kept. */
export interface RingLimits {
  /** Of one bucket, usually. */
  usual: number;
  /** Of one bucket, while somebody catches up by it. */
  pinned: number;
  /** Of all buckets together. */
  total: number;
}

/** What the rings of a hub hold together. */
export class RingBudget {
  readonly limits: RingLimits;
  readonly #rings = new Set<Ring>();
  bytes = 0;

  constructor(limits: RingLimits) {
    this.limits = limits;
  }

  add(ring: Ring): void {
    this.#rings.add(ring);
  }

  delete(ring: Ring): void {
    this.#rings.delete(ring);
    this.bytes -= ring.bytes;
  }

  /** Keeps to the total: who holds most gives some. */
  keep(): void {
    while (this.bytes > this.limits.total) {
      let largest: Ring | undefined;
      for (const ring of this.#rings) if (ring.bytes > (largest?.bytes ?? 0)) largest = ring;
      if (largest === undefined) return;
      // Not just as much as is needed, or the next change would look for the largest one again.
      largest.trim(largest.bytes * 0.9);
    }
  }
}

/** A stretch of which the feed may have missed something that was removed before it could be read. */
interface Gap {
  /** Everything up to here was seen. */
  readonly from: number;
  /** Everything from here on was seen again. */
  to: number;
}

/**
 * The latest changes of a bucket, oldest first. Who has seen everything up to some revision can go on from here, as long as
 * the ring reaches back to it and the feed has missed nothing since.
 *
 * Changes are numbered in the order in which they came: that is what catching up goes by, because changes that were noticed late
 * have no revision of their own.
 */
export class Ring {
  readonly #budget: RingBudget;
  /** Places of moments that were forgotten are empty until the array is made anew. */
  #moments: (Moment | undefined)[] = [];
  /** Place of the oldest moment in the array. */
  #first = 0;
  /** Number of the array's first place. */
  #base = 0;
  #floor = 0;
  #gaps: Gap[] = [];
  #bytes = 0;
  #pins = 0;

  constructor(budget: RingBudget) {
    this.#budget = budget;
    budget.add(this);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Everything behind this revision is here. */
  get floor(): number {
    return this.#floor;
  }

  /** Number of the next change. */
  get end(): number {
    return this.#base + this.#moments.length;
  }

  /** Forgets what is here: nothing before a revision is known. */
  restart(floor: number): void {
    this.trim(0);
    this.#floor = Math.max(floor, this.#floor);
    this.#gaps = [];
  }

  push(moment: Moment): void {
    moment.keep();
    this.#moments.push(moment);
    this.#grow(moment.bytes);
    const { usual, pinned } = this.#budget.limits;
    this.trim(this.#pins > 0 ? pinned : usual);
    this.#budget.keep();
  }

  /**
   * Puts older changes before those that are here.
   *
   * @param moments all that happened behind `floor` and is not here
   */
  extendBack(moments: readonly Moment[], floor: number): void {
    this.#moments = [...moments, ...this.#moments.slice(this.#first)];
    this.#base += this.#first - moments.length;
    this.#first = 0;
    this.#floor = floor;
    for (const moment of moments) {
      moment.keep();
      this.#grow(moment.bytes);
    }
    this.#budget.keep();
  }

  /** Takes note that the feed may have missed something between two revisions. */
  addGap(from: number, to: number): void {
    if (to > from + 1) this.#gaps.push({ from, to });
  }

  /** The gap in which a revision lies, where not everything behind it is known. */
  gapAround(revision: number): Readonly<Gap> | undefined {
    return this.#gaps.find(({ from, to }) => from < revision && revision < to);
  }

  /** Takes note that behind a revision, in a gap, nothing was missed. */
  narrowGap(revision: number): void {
    for (const gap of this.#gaps) if (gap.from < revision && revision < gap.to) gap.to = revision;
  }

  /**
   * With which change somebody goes on who has seen everything up to a revision.
   *
   * @returns its number; undefined when that cannot be told for sure
   */
  find(revision: number): number | undefined {
    if (revision < this.#floor || this.gapAround(revision) !== undefined) return undefined;
    let low = this.#first;
    let high = this.#moments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#moments[middle]!.isBehind(revision)) high = middle;
      else low = middle + 1;
    }
    return this.#base + low;
  }

  /** Whether all changes from a number on are here. */
  reachesBack(number: number): boolean {
    return number >= this.#base + this.#first;
  }

  at(number: number): Moment {
    return this.#moments[number - this.#base]!;
  }

  /** Keeps more, because somebody catches up by it. Each call needs one of {@link unpin}. */
  pin(): void {
    this.#pins += 1;
  }

  unpin(): void {
    this.#pins -= 1;
    if (this.#pins === 0) this.trim(this.#budget.limits.usual);
  }

  /** Forgets the oldest until no more than some bytes are left. */
  trim(limit: number): void {
    while (this.#bytes > limit && this.#first < this.#moments.length) {
      const { bytes, revision, lostAt } = this.#moments[this.#first]!;
      this.#moments[this.#first] = undefined;
      this.#first += 1;
      this.#grow(-bytes);
      // Who lost touch together with the feed could not be told any more what went meanwhile.
      this.#floor = Math.max(this.#floor, revision, lostAt === undefined ? 0 : lostAt + 1);
    }
    if (this.#first > this.#moments.length / 2) {
      this.#moments = this.#moments.slice(this.#first);
      this.#base += this.#first;
      this.#first = 0;
    }
    if (this.#gaps.length > 0) this.#gaps = this.#gaps.filter(({ to }) => to > this.#floor);
  }

  /** Gives its part of the budget back. */
  close(): void {
    this.#budget.delete(this);
    this.#moments = [];
    this.#first = 0;
    this.#bytes = 0;
  }

  #grow(bytes: number): void {
    this.#bytes += bytes;
    this.#budget.bytes += bytes;
  }
}
