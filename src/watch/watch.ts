import type { ErrorCode } from "../protocol/errors.ts";
import type { KeyPattern } from "../protocol/keys.ts";
import type { Include } from "../protocol/messages.ts";
import { Outbox, type OutboxLimits, type Sink } from "./outbox.ts";
import { errorFrame, type Frame } from "./frames.ts";

/** The other end of a watch: a socket, as far as the hub needs to know it. */
export interface WatchSocket extends Sink {
  /** Whether it understands frames beside `kv_update` and `error`. */
  readonly isExtended: boolean;
  /** Ends the connection with a close code of protocol/close-codes.ts. */
  close(code: number, reason: string): void;
}

export interface WatchOptions {
  /** Keys to watch; a key is watched when one of them matches. */
  patterns: readonly KeyPattern[];
  include: Include;
}

/** How far the catching up of a watch has come. */
export interface Progress {
  /** Position of the feed when it began. */
  start: number;
  /** It has been sent what is stored up to this revision. */
  sent: number;
}

/**
 * One watcher of one bucket. It begins by catching up; once it is live, changes reach it directly.
 */
export class Watch {
  readonly options: WatchOptions;
  readonly socket: WatchSocket;
  readonly outbox: Outbox;
  /** Changes up to this revision were part of the catching up. */
  barrier = 0;
  /** Set while it catches up by itself, because it did not keep up with others. */
  progress: Progress | undefined;
  /** What it needs to have read, while it waits for that: watches with the same share one reading. */
  reading = "";
  isLive = false;
  isClosed = false;
  /** Entries pushed since it began. */
  count = 0;
  #onClear: (() => void) | undefined;

  constructor(options: WatchOptions, socket: WatchSocket, limits: OutboxLimits) {
    this.options = options;
    this.socket = socket;
    this.outbox = new Outbox(socket, limits, options.include !== "history");
  }

  push(frame: Frame): void {
    this.count += 1;
    this.outbox.push(frame);
  }

  /** Sends what waits. To be called when the socket drains, too. */
  flush(): void {
    if (this.isClosed) return;
    this.outbox.flush();
    if (this.outbox.isClear) this.#settle();
  }

  /** Resolves once the socket keeps up, the watch is closed, or a time in milliseconds has passed. */
  async clear(timeout: number): Promise<void> {
    if (this.isClosed || this.outbox.isClear) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeout);
      this.#onClear = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#onClear = undefined;
  }

  /** Ends it, with an error frame first where there is something to say. */
  end(code: number, reason: string, error?: ErrorCode): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (error !== undefined) this.socket.write([errorFrame(error, reason)]);
    this.socket.close(code, reason);
    this.#settle();
  }

  /** The socket is gone: nobody need wait for it any more. */
  close(): void {
    this.isClosed = true;
    this.#settle();
  }

  #settle(): void {
    this.#onClear?.();
  }
}
