import { closeCodes } from "../protocol/close-codes.ts";
import type { Audience } from "./audience.ts";
import type { Frame } from "./frames.ts";
import type { HubResources } from "./hub-resources.ts";
import { Outbox, type Sink } from "./outbox.ts";
import type { Reading } from "./readings.ts";
import type { Members } from "./shard.ts";
import type { Holdable } from "./stalls.ts";
import type { Sequence } from "./turn.ts";
import type { End, WatchHandle, WatchSocket } from "./watch.ts";

/** Who has watches. */
export interface WatcherHost {
  readonly resources: HubResources;
  /** Forgets a watch. */
  leave(watcher: Watcher): void;
  /** More waits for a live watch than may. */
  onOverflow(watcher: Watcher): void;
}

/** How far somebody has come who catches up by the ring. */
export interface Cursor {
  /** Number of the next change. */
  next: number;
  /** What it has seen already: a transaction can lie on both sides of it. */
  after: number;
}

/**
 * A watch, from its beginning to its end. First it reads what is stored, if it wants to (`reading`), then it catches up with what
 * happened meanwhile (`cursor`), then it is live (`members`). There may be tens of thousands, so it holds as little as it can.
 */
export class Watcher implements WatchHandle, Sink, Holdable {
  readonly socket: WatchSocket;
  readonly audience: Audience;
  readonly #host: WatcherHost;
  isClosed = false;
  /** Entries sent since it began. */
  count = 0;
  reading: Reading | undefined;
  cursor: Cursor | undefined;
  /** With whom it gets what happens, once it is live. */
  members: Members | undefined;
  #outbox: Outbox | undefined;
  #onClear: (() => void) | undefined;

  constructor(host: WatcherHost, audience: Audience, socket: WatchSocket) {
    this.#host = host;
    this.audience = audience;
    this.socket = socket;
  }

  get hasRoom(): boolean {
    return this.socket.backlog <= this.#host.resources.outboxLimits.backlog;
  }

  /** Whether its socket keeps up: nothing waits here, and little in the socket. */
  get isClear(): boolean {
    return this.#outbox === undefined && this.hasRoom;
  }

  get isHeldUp(): boolean {
    return !this.isClosed && !this.isClear;
  }

  write(bytes: Buffer, entries: number): void {
    if (this.isClosed) return;
    this.count += entries;
    this.#host.resources.counters.deliveries += entries;
    this.socket.write(bytes);
  }

  /** Takes what happened in a turn, as a live watch. */
  take(sequence: Sequence): void {
    if (this.isClear) {
      this.write(sequence.bytes, sequence.entries);
      return;
    }
    const outbox = this.#hold();
    for (const frame of sequence.frames) {
      if (frame.isBookmark === true || outbox.push(frame)) continue;
      this.#host.onOverflow(this);
      return;
    }
    this.#flush();
  }

  /** Takes a mark that must not overtake, nor be overtaken by, what waits. It is made when its time has come. */
  mark(make: () => Frame): void {
    if (this.isClear) {
      this.write(make().bytes, 0);
      return;
    }
    this.#hold().pushWhenClear(make);
    this.#flush();
  }

  /** Gives up a mark that waits. */
  unmark(): void {
    this.#outbox?.pushWhenClear(undefined);
  }

  /** Forgets what waits. */
  discard(): void {
    this.#outbox?.clear();
    this.#outbox = undefined;
  }

  drained(): void {
    if (this.isClosed) return;
    this.#host.resources.stalls.moved(this.socket);
    this.#flush();
    this.#settle();
  }

  /** Calls back as soon as its socket keeps up, at once if it does so now, or when the watch ends. */
  whenClear(callback: () => void): void {
    if (this.isClosed || this.isClear) {
      callback();
      return;
    }
    this.#onClear = callback;
    this.#host.resources.stalls.watch(this);
  }

  /** Waits until its socket keeps up, the watch is closed, or a time in milliseconds has passed. */
  async clear(timeout: number): Promise<void> {
    if (this.isClosed || this.isClear) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeout);
      this.#onClear = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#onClear = undefined;
  }

  onStalled(): void {
    this.end({
      code: closeCodes.overloaded,
      reason: "nothing was read for too long: watch again",
      retryable: true,
    });
  }

  /** Ends it from this side. */
  end(end: End): void {
    if (this.isClosed) return;
    this.close();
    this.socket.end(this, end);
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.discard();
    this.#host.leave(this);
    // Who waits for it goes on without it.
    const callback = this.#onClear;
    this.#onClear = undefined;
    callback?.();
  }

  #hold(): Outbox {
    const { counters, outboxes, stalls } = this.#host.resources;
    if (this.#outbox !== undefined) return this.#outbox;
    const { dialect, wantsHistory } = this.audience;
    this.#outbox = new Outbox({
      dialect,
      conflates: !wantsHistory,
      reserve: (bytes) => {
        if (bytes >= 0) return outboxes.take(this.socket, bytes);
        outboxes.give(this.socket, -bytes);
        return true;
      },
      onConflated: () => (counters.conflations += 1),
    });
    stalls.watch(this);
    return this.#outbox;
  }

  #flush(): void {
    this.#outbox?.flush(this);
    if (this.#outbox?.isEmpty === true) this.#outbox = undefined;
  }

  #settle(): void {
    if (this.#onClear === undefined || !this.isClear) return;
    const callback = this.#onClear;
    this.#onClear = undefined;
    callback();
  }
}
