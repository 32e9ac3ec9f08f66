import type { Audience } from "./audience.ts";
import { joined, readyFrame, type Frame } from "./frames.ts";
import type { Moment } from "./moment.ts";
import type { Ring } from "./ring.ts";
import type { Cursor, Watcher } from "./watcher.ts";

/** Bytes that are sent at once to somebody who catches up. */
const CHUNK = 256 * 1024;

/** A part of what happened, for everybody of an audience who is at the same place. */
interface Chunk {
  readonly bytes: Buffer;
  readonly entries: number;
  /** Number of the next change. */
  readonly next: number;
  /** Together with the mark of readiness, by what that counts. */
  ready: { count: number; bytes: Buffer } | undefined;
}

/**
 * Brings watches up to the present by the ring. Those that were cut off together come back together, and all get the same bytes.
 * It lasts as long as a turn.
 */
export class CatchUp {
  readonly #ring: Ring;
  readonly #position: ((audience: Audience) => string) | undefined;
  readonly #chunks = new Map<Audience, Map<string, Chunk>>();
  readonly #moments = new Set<Moment>();

  /** @param position where the bucket is; undefined when that is not to be told now */
  constructor(ring: Ring, position: ((audience: Audience) => string) | undefined) {
    this.#ring = ring;
    this.#position = position;
  }

  /** Sends what comes next. @returns whether the watch has got all there is */
  advance(watcher: Watcher, cursor: Cursor): boolean {
    const { audience } = watcher;
    const chunk = this.#chunkAt(audience, cursor);
    cursor.next = chunk.next;
    cursor.after = 0;
    const isAtEnd = chunk.next === this.#ring.end;
    if (isAtEnd && !audience.isPlain && this.#position !== undefined) {
      watcher.write(this.#withReady(chunk, audience, watcher.count), chunk.entries);
    } else if (chunk.bytes.length > 0) {
      watcher.write(chunk.bytes, chunk.entries);
    }
    return isAtEnd;
  }

  /** Forgets the frames that were made. */
  settle(): void {
    for (const moment of this.#moments) moment.settle();
  }

  #chunkAt(audience: Audience, { next, after }: Cursor): Chunk {
    let chunks = this.#chunks.get(audience);
    if (chunks === undefined) {
      chunks = new Map();
      this.#chunks.set(audience, chunks);
    }
    const key = `${next} ${after}`;
    let chunk = chunks.get(key);
    if (chunk === undefined) {
      chunk = this.#make(audience, next, after);
      chunks.set(key, chunk);
    }
    return chunk;
  }

  #make(audience: Audience, start: number, after: number): Chunk {
    const frames: Frame[] = [];
    let length = 0;
    let entries = 0;
    let next = start;
    for (; next < this.#ring.end && length < CHUNK; next++) {
      for (const frame of this.#framesAt(audience, next, after)) {
        frames.push(frame);
        length += frame.bytes.length;
        entries += frame.entries;
      }
    }
    return { bytes: joined(frames), entries, next, ready: undefined };
  }

  #framesAt(audience: Audience, number: number, after: number): readonly Frame[] {
    const moment = this.#ring.at(number);
    const places: number[] = [];
    moment.changes.forEach(({ suffix, revision, isLate }, place) => {
      if ((revision > after || isLate === true) && audience.wants(suffix)) places.push(place);
    });
    if (places.length === 0) return [];
    this.#moments.add(moment);
    // Before the watch is ready no single change may become the place to come back to.
    return moment.frames(audience.dialect, places).map(withoutId);
  }

  #withReady(chunk: Chunk, audience: Audience, before: number): Buffer {
    const count = before + chunk.entries;
    if (chunk.ready?.count !== count) {
      const ready = readyFrame(audience.dialect, this.#position!(audience), count);
      chunk.ready = { count, bytes: Buffer.concat([chunk.bytes, ready.bytes]) };
    }
    return chunk.ready.bytes;
  }
}

function withoutId(frame: Frame): Frame {
  return frame.idLength === 0
    ? frame
    : { ...frame, bytes: frame.bytes.subarray(frame.idLength), idLength: 0 };
}
