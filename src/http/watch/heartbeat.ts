/** Something that shows at each beat that it is alive. */
export interface Beating {
  /** Where the heartbeat keeps it; for the heartbeat only. */
  slot: number;
  beat(): void;
}

/** Parts of an interval, each with its share of the sockets. */
const SLOTS = 100;
/** Shortest time between two turns, in milliseconds. */
const SHORTEST_TURN = 20;

/**
 * One timer for all sockets. Each gets a beat per interval, but not all in the same turn of the event loop: ten thousand pings
 * at once would hold up everything else.
 */
export class Heartbeat<T extends Beating> {
  readonly #slots: Set<T>[];
  readonly #timer: NodeJS.Timeout;
  #waiting: (() => void)[] = [];
  #fill = 0;
  #turn = 0;

  /** @param interval milliseconds between two beats of the same socket */
  constructor(interval: number) {
    const slots = Math.max(1, Math.min(SLOTS, Math.floor(interval / SHORTEST_TURN)));
    this.#slots = Array.from({ length: slots }, () => new Set());
    this.#timer = setInterval(() => this.#next(), interval / slots);
  }

  /** Counts up with time: two equal values are at most a hundredth of an interval apart. */
  get turn(): number {
    return this.#turn;
  }

  add(member: T): void {
    // In turns rather than by the time of joining: those that come at once would beat at once.
    member.slot = this.#fill;
    this.#fill = (this.#fill + 1) % this.#slots.length;
    this.#slots[member.slot]!.add(member);
  }

  delete(member: T): void {
    this.#slots[member.slot]?.delete(member);
  }

  /** Calls back with the next turn. */
  whenNext(callback: () => void): void {
    this.#waiting.push(callback);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  *[Symbol.iterator](): Generator<T> {
    for (const slot of this.#slots) yield* slot;
  }

  #next(): void {
    this.#turn += 1;
    for (const member of this.#slots[this.#turn % this.#slots.length]!) member.beat();
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const callback of waiting) callback();
  }
}
