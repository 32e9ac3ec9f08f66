import type { Frame } from "./frames.ts";

/** Where frames go: a socket, as far as an outbox needs to know it. */
export interface Sink {
  /** Bytes that the sink has taken and not yet passed on. */
  readonly backlog: number;
  /** Takes frames, in order, as one write. */
  write(frames: readonly Frame[]): void;
}

export interface OutboxLimits {
  /** Above this backlog of the sink, in bytes, frames wait here, where newer ones can replace them. */
  sinkBacklog: number;
  /** Bytes that may wait here; beyond, the outbox overflows. */
  waiting: number;
}

/**
 * What one watcher has still to get. While its socket keeps up, everything passes through, all of one turn of the event
 * loop in one write. When it does not, frames wait, and of each key only the newest: that is what a watcher of a
 * key-value store needs, and it keeps the memory of a slow one bounded. Order is by the newest revision of each key.
 */
export class Outbox {
  readonly #sink: Sink;
  readonly #limits: OutboxLimits;
  readonly #conflates: boolean;
  /** Frames of this turn that the sink has room for. */
  #turn: Frame[] = [];
  #turnBytes = 0;
  /** Frames that it has no room for, by key where newer ones replace older ones, else by an own number. */
  readonly #waiting = new Map<string | number, Frame>();
  #waitingBytes = 0;
  #number = 0;
  #overflowed = false;
  #whenClear: (() => Frame | undefined) | undefined;

  /** @param conflates whether a newer frame of a key may replace an older one; not when every revision counts */
  constructor(sink: Sink, limits: OutboxLimits, conflates: boolean) {
    this.#sink = sink;
    this.#limits = limits;
    this.#conflates = conflates;
  }

  /** Bytes that are held here. */
  get bytes(): number {
    return this.#turnBytes + this.#waitingBytes;
  }

  /** Whether more waited than the limit allows. Nothing is taken any more; the watcher has to start over. */
  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** Whether the sink keeps up. */
  get isClear(): boolean {
    return (
      this.#waiting.size === 0 && this.#sink.backlog + this.#turnBytes <= this.#limits.sinkBacklog
    );
  }

  /** Takes a frame. It leaves with the next {@link flush} that finds room. */
  push(frame: Frame): void {
    if (this.#overflowed) return;
    if (this.isClear) {
      this.#turn.push(frame);
      this.#turnBytes += frame.bytes.length;
      return;
    }
    const slot = this.#conflates && frame.key !== undefined ? frame.key : this.#number++;
    const older = this.#waiting.get(slot);
    if (older !== undefined) {
      this.#waiting.delete(slot);
      this.#waitingBytes -= older.bytes.length;
    }
    this.#waiting.set(slot, frame);
    this.#waitingBytes += frame.bytes.length;
    if (this.#waitingBytes > this.#limits.waiting) this.#overflow();
  }

  /**
   * Sends one more frame as soon as nothing waits: a mark that must not overtake, or be overtaken by, what was pushed
   * before it. The frame is made when its time has come.
   */
  pushWhenClear(make: () => Frame | undefined): void {
    this.#whenClear = make;
  }

  /** Hands over what the sink has room for. To be called at the end of a turn, and when the sink drains. */
  flush(): void {
    // A sink that passes everything on at once never drains: so as long as it has room, it gets more.
    do {
      const frames = this.#next();
      if (frames.length === 0) return;
      this.#sink.write(frames);
    } while (this.#waiting.size > 0 && this.#sink.backlog <= this.#limits.sinkBacklog);
  }

  /** What the sink has room for, taken out of here. */
  #next(): Frame[] {
    const frames = this.#turn;
    let room = this.#limits.sinkBacklog - this.#sink.backlog - this.#turnBytes;
    this.#turn = [];
    this.#turnBytes = 0;
    for (const [slot, frame] of this.#waiting) {
      if (room < 0) break;
      frames.push(frame);
      this.#waiting.delete(slot);
      this.#waitingBytes -= frame.bytes.length;
      room -= frame.bytes.length;
    }
    if (this.#waiting.size === 0 && this.#whenClear !== undefined) {
      const mark = this.#whenClear();
      this.#whenClear = undefined;
      if (mark !== undefined) frames.push(mark);
    }
    return frames;
  }

  #overflow(): void {
    this.#overflowed = true;
    this.#turn = [];
    this.#turnBytes = 0;
    this.#waiting.clear();
    this.#waitingBytes = 0;
    this.#whenClear = undefined;
  }
}
