import { withConflated, type Dialect, type Frame } from "./frames.ts";

/** Where frames go. */
export interface Sink {
  /** Whether it takes more now. */
  readonly hasRoom: boolean;
  /** Takes whole frames that count as some entries. */
  write(bytes: Buffer, entries: number): void;
}

/** What an outbox has to keep to. */
export interface OutboxRules {
  readonly dialect: Dialect;
  /** Whether a newer frame of a key may replace an older one; not when every revision counts. */
  readonly conflates: boolean;
  /** Takes room for some bytes that wait, or gives it back when negative. Returns whether there was enough. */
  reserve(bytes: number): boolean;
  /** A frame was replaced before it was sent. */
  onConflated(): void;
}

interface Slot {
  readonly frame: Frame;
  /** Keys of the frame of which no newer state waits. */
  current: number;
}

/** Bytes that are joined to one write. */
const CHUNK = 64 * 1024;

/**
 * What one watcher has still to get, when its socket does not keep up. Of each key only the newest frame waits: that is
 * what a watcher of a key-value store needs, and it bounds the memory of a slow one. Order is by the newest revision of each
 * key. A transaction waits whole, until newer frames have replaced all of it.
 *
 * There is none as long as a socket keeps up.
 */
export class Outbox {
  readonly #rules: OutboxRules;
  readonly #slots = new Set<Slot>();
  readonly #byKey = new Map<string, Slot>();
  #replaced = 0;
  #whenClear: (() => Frame) | undefined;

  constructor(rules: OutboxRules) {
    this.#rules = rules;
  }

  get isEmpty(): boolean {
    return this.#slots.size === 0 && this.#whenClear === undefined;
  }

  /** Takes a frame. @returns whether there was room for it; without, the watch cannot go on */
  push(frame: Frame): boolean {
    const slot: Slot = { frame, current: frame.keys.length };
    if (this.#rules.conflates) for (const key of frame.keys) this.#replace(key, slot);
    this.#slots.add(slot);
    return this.#rules.reserve(frame.bytes.length);
  }

  /**
   * Sends one more frame as soon as nothing waits: a mark that must not overtake, nor be overtaken by, what was pushed before
   * it. It is made when its time has come. Without a function a mark that waits is given up.
   */
  pushWhenClear(make: (() => Frame) | undefined): void {
    this.#whenClear = make;
  }

  /** Hands over what the sink has room for. */
  flush(sink: Sink): void {
    // A sink that passes everything on at once never drains: so as long as it has room, it gets more.
    while (this.#slots.size > 0 && sink.hasRoom) this.#send(sink);
    if (this.#slots.size > 0 || this.#whenClear === undefined) return;
    const { bytes, entries } = this.#whenClear();
    this.#whenClear = undefined;
    sink.write(bytes, entries);
  }

  /** Forgets everything. */
  clear(): void {
    for (const slot of this.#slots) this.#drop(slot);
    this.#whenClear = undefined;
  }

  #replace(key: string, slot: Slot): void {
    const older = this.#byKey.get(key);
    this.#byKey.set(key, slot);
    if (older === undefined) return;
    older.current -= 1;
    if (older.current > 0 || older === slot) return;
    this.#drop(older);
    this.#replaced += 1;
    this.#rules.onConflated();
  }

  #send(sink: Sink): void {
    const { dialect } = this.#rules;
    const chunk: Buffer[] = [];
    let length = 0;
    let entries = 0;
    for (const slot of this.#slots) {
      const { frame } = slot;
      const tells = this.#replaced > 0 && frame.entries > 0 && dialect.format !== "plain";
      const bytes = tells ? withConflated(frame, dialect, this.#replaced) : frame.bytes;
      if (tells) this.#replaced = 0;
      chunk.push(bytes);
      length += bytes.length;
      entries += frame.entries;
      this.#drop(slot);
      if (length >= CHUNK) break;
    }
    sink.write(chunk.length === 1 ? chunk[0]! : Buffer.concat(chunk), entries);
  }

  #drop(slot: Slot): void {
    this.#slots.delete(slot);
    for (const key of slot.frame.keys) if (this.#byKey.get(key) === slot) this.#byKey.delete(key);
    this.#rules.reserve(-slot.frame.bytes.length);
  }
}
