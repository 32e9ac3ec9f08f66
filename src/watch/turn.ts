import { joined, type Frame } from "./frames.ts";

/**
 * A sequence of frames, as a place in the tree of all sequences of a turn. Whoever gets the same frames comes to the same
 * place, and there they are joined once for all.
 */
export class Sequence {
  /** The sequence without its last frame; undefined when there are none. */
  readonly before: Sequence | undefined;
  readonly last: Frame | undefined;
  /** Entries and bytes of all its frames. */
  readonly entries: number;
  readonly length: number;
  #bytes: Buffer | undefined;
  /** Most sequences go on in one way only: the last way is found without a look-up. */
  #next: Sequence | undefined;
  #others: Map<Frame, Sequence> | undefined;

  private constructor(before?: Sequence, last?: Frame) {
    this.before = before;
    this.last = last;
    this.entries = (before?.entries ?? 0) + (last?.entries ?? 0);
    this.length = (before?.length ?? 0) + (last?.bytes.length ?? 0);
  }

  /** The beginning of a turn: no frames. */
  static empty(): Sequence {
    return new Sequence();
  }

  /** This sequence and one more frame. The same frame leads to the same sequence. */
  with(frame: Frame): Sequence {
    if (this.#next?.last === frame) return this.#next;
    let next = this.#others?.get(frame);
    if (next === undefined) {
      next = new Sequence(this, frame);
      if (this.#next !== undefined) (this.#others ??= new Map()).set(frame, next);
    }
    this.#next ??= next;
    return next;
  }

  get frames(): Frame[] {
    const frames: Frame[] = [];
    if (this.last !== undefined) frames.push(this.last);
    for (let at = this.before; at?.last !== undefined; at = at.before) frames.push(at.last);
    return frames.reverse();
  }

  /** All frames, one behind the other. */
  get bytes(): Buffer {
    return (this.#bytes ??= joined(this.frames));
  }
}
