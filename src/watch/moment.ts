import type { Change, FeedEvent } from "../store/feed.ts";
import { changeMembers, frameOf, type Dialect, type Frame } from "./frames.ts";

/** The bucket of which frames tell. */
export interface Origin {
  readonly bucketName: string;
  /** Writes the name of an event in a stream of server-sent events; undefined gives it none. */
  position(revision: number): string | undefined;
}

/** What a change costs in memory beside its value, in bytes, roughly. */
const OVERHEAD = 600;

/**
 * What became visible at once, with the frames that tell of it. They are made when somebody wants them, and once.
 */
export class Moment {
  changes: readonly Change[];
  readonly revision: number;
  /**
   * For a delete that was found out late: the revision up to which the feed had seen everything when it lost touch. Whoever
   * has seen everything up to there, or to an earlier one, has to hear of it.
   */
  readonly lostAt: number | undefined;
  readonly #origin: Origin;
  readonly #isNamed: boolean;
  /** By dialect, and by what the frame is of. */
  #frames: Map<string, Frame> | undefined;
  /** The frames of all changes in the dialect that was asked for last. */
  #all: { dialect: string; frames: readonly Frame[] } | undefined;

  /**
   * @param isNamed whether its revision may be used as a position: not while the feed makes up for a loss
   * @param lostAt see {@link lostAt}
   */
  constructor(origin: Origin, { changes, revision }: FeedEvent, isNamed: boolean, lostAt?: number) {
    this.#origin = origin;
    this.changes = changes;
    this.revision = revision;
    this.#isNamed = isNamed;
    this.lostAt = lostAt;
  }

  /** Bytes of memory, roughly. */
  get bytes(): number {
    let bytes = 0;
    for (const { size, key } of this.changes) bytes += size + 2 * key.length + OVERHEAD;
    return bytes;
  }

  /** Whether somebody who has seen everything up to a revision has not seen all of this. */
  isBehind(revision: number): boolean {
    return this.lostAt === undefined ? this.revision > revision : this.lostAt >= revision;
  }

  /**
   * The frames of some changes, given by their places. Several are one transaction, except to plain clients, who do not know
   * those, and in another wording, which has none.
   *
   * @param which in order; undefined for all changes
   */
  frames(dialect: Dialect, which?: readonly number[]): readonly Frame[] {
    const { length } = this.changes;
    if (which !== undefined && which.length < length) return this.#make(dialect, which);
    if (this.#all?.dialect !== dialect.key) {
      const places = Array.from({ length }, (_, i) => i);
      this.#all = { dialect: dialect.key, frames: this.#make(dialect, places) };
    }
    return this.#all.frames;
  }

  /**
   * Copies values that are part of something larger: what came from the network in one piece would be kept as a whole for the
   * sake of a few bytes of it.
   */
  keep(): void {
    if (this.changes.every(({ value }) => value.buffer.byteLength <= 2 * value.length)) return;
    this.changes = this.changes.map((change) => ({ ...change, value: Buffer.from(change.value) }));
  }

  /** Forgets the frames: what is kept for long are the changes only. */
  settle(): void {
    this.#frames = undefined;
    this.#all = undefined;
  }

  #make(dialect: Dialect, places: readonly number[]): readonly Frame[] {
    if (places.length === 1 || dialect.format === "plain" || dialect.wording !== undefined)
      return places.map((place) => this.#update(dialect, place));
    return [this.#transaction(dialect, places)];
  }

  #update(dialect: Dialect, place: number): Frame {
    return this.#once(`${dialect.key}${place}`, () => {
      const change = this.changes[place]!;
      return frameOf(
        dialect,
        dialect.wording?.update(change) ??
          `"type":"kv_update","bucket":"${this.#origin.bucketName}",${changeMembers(change, dialect.values)}`,
        [change.key],
        this.#name(dialect),
      );
    });
  }

  #transaction(dialect: Dialect, places: readonly number[]): Frame {
    return this.#once(`${dialect.key}${places.join()}`, () => {
      const changes = places.map((place) => this.changes[place]!);
      const events = changes.map((change) => `{${changeMembers(change, dialect.values)}}`);
      return frameOf(
        dialect,
        `"type":"kv_transaction","bucket":"${this.#origin.bucketName}","revision":${this.revision},"events":[${events.join()}]`,
        changes.map(({ key }) => key),
        this.#name(dialect),
      );
    });
  }

  #name({ format }: Dialect): string | undefined {
    const isNamed = format === "sse" && this.#isNamed && this.lostAt === undefined;
    return isNamed ? this.#origin.position(this.revision) : undefined;
  }

  #once(key: string, make: () => Frame): Frame {
    this.#frames ??= new Map();
    let frame = this.#frames.get(key);
    if (frame === undefined) {
      frame = make();
      this.#frames.set(key, frame);
    }
    return frame;
  }
}
