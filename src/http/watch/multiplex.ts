/** A WebSocket with many watches, each under an id of the client's choice. */
import type { Socket } from "node:net";
import type { WebSocket } from "ws";
import { closeCodes } from "../../protocol/close-codes.ts";
import { KvError } from "../../protocol/errors.ts";
import type { KeyPattern } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import type { Hub } from "../../watch/hub.ts";
import type { End, WatchHandle, WatchSocket } from "../../watch/watch.ts";
import { parseClientFrame } from "./client-frame.ts";
import { errorFrame, unwatchedFrame } from "./control-frames.ts";
import { parseWatchFrame, permitted, type WatchTarget } from "./request.ts";
import type { Seat, Sockets } from "./sockets.ts";
import { GatewaySocket } from "./web-socket.ts";

/** What the multiplexed sockets of a gateway share. */
export interface MultiplexDeps {
  hub: Hub;
  /** Turns whatever was thrown into an error that a client may see. */
  publicError(thrown: unknown): KvError;
  /** A watch was opened, or refused. */
  onWatch?(by: Seat, bucket: string, keys: readonly string[], error?: KvError): void;
}

/** Bytes of answers that may wait for a client before its next frames have to, until half of them have left. */
const ANSWERS = 64 * 1024;
/** Bytes that are held back at most, to be written in one piece with what follows in the same turn. */
const PIECE = 32 * 1024;
/** Watches that may be made ready at once before the client's next frames have to wait. */
const PREPARING = limits.watchesPerSocket;
/** Frames of a client that are taken in a turn of the heartbeat, 250 ms; the next ones wait. */
const FRAMES_PER_TURN = 512;

/** A watch from the moment on when its client asks for it. */
class MultiplexedWatch {
  readonly id: string;
  readonly filters: number;
  /** Length of the filters in UTF-8. */
  readonly filterBytes: number;
  /** There is none while the bucket is being made ready. */
  handle: WatchHandle | undefined;

  constructor(id: string, patterns: readonly KeyPattern[]) {
    this.id = id;
    this.filters = patterns.length;
    this.filterBytes = patterns.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
  }
}

export class MultiplexSocket extends GatewaySocket implements WatchSocket {
  readonly format = "extended";
  readonly #deps: MultiplexDeps;
  readonly #watches = new Map<string, MultiplexedWatch>();
  #filters = 0;
  #filterBytes = 0;
  /** Watches that are being made ready; one that its client has given up meanwhile counts, too. */
  #preparing = 0;
  /** The watch that the hub is taking just now: it may end it before it has said how it is called. */
  #attaching: MultiplexedWatch | undefined;
  #isCorked = false;
  /** Bytes of answers that have not left yet; what the watches bring does not count. */
  #unsent = 0;
  /** Nothing is read from the client, who does not read our answers or asks too much at once. */
  #isPaused = false;
  /** Whether that was so at any time since the last beat. */
  #wasPaused = false;
  /** Bytes that had left at the last beat. */
  #left = 0;
  #isThrottled = false;
  #turn = 0;
  #framesOfTurn = 0;

  constructor(ws: WebSocket, tcp: Socket, sockets: Sockets, seat: Seat, deps: MultiplexDeps) {
    super(ws, tcp, sockets, seat);
    this.#deps = deps;
    sockets.opened(this);
  }

  /** Several watches may write in one turn of the event loop: that leaves in one piece. */
  override write(bytes: Buffer, onSent?: () => void): void {
    if (!this.isOpen) return;
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.tcp.cork();
      corked.push(this);
      if (corked.length === 1) process.nextTick(uncorkAll);
    }
    this.tcp.write(bytes, onSent);
    // What is held back here would look as if the client did not take it.
    if (this.backlog > PIECE) this.uncork();
  }

  override beat(): void {
    const left = this.tcp.bytesWritten - this.backlog;
    // Its pong may be behind what we do not read. That it takes something, or is not waited for at all, will do instead.
    if (this.#wasPaused && (left > this.#left || this.#unsent <= ANSWERS / 2)) this.onPong();
    this.#left = left;
    this.#wasPaused = this.#isPaused;
    super.beat();
  }

  uncork(): void {
    if (!this.#isCorked) return;
    this.#isCorked = false;
    this.tcp.uncork();
  }

  end(handle: WatchHandle, { code, reason, error, retryable }: End): void {
    if (code === closeCodes.goingAway) {
      this.goAway();
      return;
    }
    const watch = this.#watchOf(handle) ?? this.#attaching;
    if (watch === undefined || !this.#remove(watch)) return;
    const errorCode = error ?? "store_unavailable";
    this.#answer(errorFrame({ id: watch.id, code: errorCode, message: reason, retryable }));
    // Its client does not read, and so will not read that either.
    const isStuck = code === closeCodes.overloaded && this.tcp.writableNeedDrain;
    if (isStuck && this.#watches.size === 0) this.close(code, reason);
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    // What came together with the frame that ended it.
    if (!this.isOpen) return;
    this.#throttle();
    const frame = isBinary ? undefined : parseClientFrame(data.toString());
    if (frame === undefined) {
      this.close(closeCodes.badRequest, "a frame is JSON text of type watch or unwatch with an id");
    } else if (frame.type === "unwatch") {
      this.#unwatch(frame.id);
    } else {
      this.#watch(frame.id, frame.request);
    }
  }

  onDrain(): void {
    for (const { handle } of this.#watches.values()) handle?.drained();
  }

  override onClose(): void {
    super.onClose();
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    this.sockets.releaseWatches(watches.length);
    for (const { handle } of watches) handle?.close();
  }

  #watch(id: string, request: unknown): void {
    const older = this.#watches.get(id);
    if (older !== undefined) {
      // With one of them left nobody could tell which of them the error and the frames are about.
      this.#remove(older);
      this.#refuse(id, new KvError("invalid_request", `watch "${id}" was there already: it ends`));
      return;
    }
    let watch: MultiplexedWatch;
    let target: WatchTarget | undefined;
    try {
      target = permitted(parseWatchFrame(request), this.seat.principal.grants);
      watch = new MultiplexedWatch(id, target.options.patterns);
      this.#reserve(watch);
    } catch (error) {
      this.#refuse(id, error, target);
      return;
    }
    this.#watches.set(id, watch);
    void this.#open(watch, target);
  }

  #unwatch(id: string): void {
    const watch = this.#watches.get(id);
    if (watch !== undefined) this.#remove(watch);
    // Also when there is none: it may have ended by itself just now.
    this.#answer(unwatchedFrame(id));
  }

  async #open(watch: MultiplexedWatch, { bucket, options }: WatchTarget): Promise<void> {
    const { id } = watch;
    this.#preparing += 1;
    if (this.#preparing >= PREPARING) this.#pause();
    try {
      const prepared = await this.#deps.hub.prepare(bucket);
      // Its client gave it up, or the socket is gone; there may be another one of that id.
      if (this.#watches.get(id) !== watch) return;
      this.#attaching = watch;
      const handle = prepared.attach({ ...options, id }, this);
      watch.handle = handle;
      this.#tell({ bucket, options });
      if (this.#watches.get(id) !== watch) handle.close();
    } catch (error) {
      if (this.#remove(watch)) this.#refuse(id, error, { bucket, options });
    } finally {
      this.#attaching = undefined;
      this.#preparing -= 1;
      this.#resume();
    }
  }

  /** Takes the room for one more watch. @throws KvError `too_many_watches` */
  #reserve({ filters, filterBytes }: MultiplexedWatch): void {
    const { watchesPerSocket, filtersPerSocket, filterBytesPerSocket } = limits;
    if (this.#watches.size >= watchesPerSocket) {
      throw new KvError("too_many_watches", `a socket has at most ${watchesPerSocket} watches`);
    }
    if (this.#filters + filters > filtersPerSocket) {
      throw new KvError(
        "too_many_watches",
        `the watches of a socket have at most ${filtersPerSocket} filters together`,
      );
    }
    if (this.#filterBytes + filterBytes > filterBytesPerSocket) {
      throw new KvError(
        "too_many_watches",
        `the filters of a socket have at most ${filterBytesPerSocket} bytes together`,
      );
    }
    this.sockets.reserveWatch();
    this.#filters += filters;
    this.#filterBytes += filterBytes;
  }

  /** Takes a watch off. Nothing of it is sent any more. @returns false when it was not there any more */
  #remove(watch: MultiplexedWatch): boolean {
    if (this.#watches.get(watch.id) !== watch) return false;
    this.#watches.delete(watch.id);
    this.#filters -= watch.filters;
    this.#filterBytes -= watch.filterBytes;
    this.sockets.releaseWatches(1);
    watch.handle?.close();
    return true;
  }

  #watchOf(handle: WatchHandle): MultiplexedWatch | undefined {
    for (const watch of this.#watches.values()) if (watch.handle === handle) return watch;
    return undefined;
  }

  #refuse(id: string, thrown: unknown, target?: WatchTarget): void {
    const error = this.#deps.publicError(thrown);
    const { code, message, retryable } = error;
    this.#answer(errorFrame({ id, code, message, retryable }));
    if (target !== undefined) this.#tell(target, error);
  }

  #tell({ bucket, options: { patterns } }: WatchTarget, error?: KvError): void {
    this.#deps.onWatch?.(
      this.seat,
      bucket,
      patterns.map(({ text }) => text),
      error,
    );
  }

  /** Who asks without reading the answers has to wait until they have left. */
  #answer(bytes: Buffer): void {
    if (!this.isOpen) return;
    this.#unsent += bytes.length;
    this.write(bytes, () => {
      this.#unsent -= bytes.length;
      this.#resume();
    });
    if (this.#unsent > ANSWERS) this.#pause();
  }

  #throttle(): void {
    const { heartbeat } = this.sockets;
    if (heartbeat.turn !== this.#turn) {
      this.#turn = heartbeat.turn;
      this.#framesOfTurn = 0;
    }
    this.#framesOfTurn += 1;
    if (this.#framesOfTurn < FRAMES_PER_TURN || this.#isThrottled) return;
    this.#isThrottled = true;
    this.#pause();
    heartbeat.whenNext(() => {
      this.#isThrottled = false;
      this.#resume();
    });
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#wasPaused = true;
    this.ws.pause();
  }

  #resume(): void {
    if (!this.#isPaused || this.#isThrottled) return;
    if (this.#preparing >= PREPARING || this.#unsent > ANSWERS / 2) return;
    this.#isPaused = false;
    this.ws.resume();
  }
}

/** Sockets that were written to in this turn of the event loop. */
let corked: MultiplexSocket[] = [];

function uncorkAll(): void {
  const sockets = corked;
  corked = [];
  for (const socket of sockets) socket.uncork();
}
