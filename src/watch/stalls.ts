import type { WatchSocket } from "./watch.ts";

/** A watch that may be held up by its socket. */
export interface Holdable {
  readonly socket: WatchSocket;
  /** Whether something waits for the socket. */
  readonly isHeldUp: boolean;
  /** The socket has stood still for too long. */
  onStalled(): void;
}

interface Progress {
  readonly watches: Set<Holdable>;
  /** Least that the socket was seen to have to pass on. */
  backlog: number;
  /** When it was last seen to pass on anything. */
  movedAt: number;
}

/** Looks in the time for which a socket may stand still. */
const LOOKS = 6;

/** Finds sockets that pass nothing on although something waits for them: their clients read nothing. */
export class Stalls {
  readonly #patience: number;
  readonly #sockets = new Map<WatchSocket, Progress>();
  #timer: NodeJS.Timeout | undefined;

  /** @param patience milliseconds for which a socket may stand still */
  constructor(patience: number) {
    this.#patience = patience;
  }

  /** Has an eye on a watch that is held up, for as long as it is. */
  watch(watch: Holdable): void {
    const known = this.#sockets.get(watch.socket);
    if (known !== undefined) {
      known.watches.add(watch);
      return;
    }
    this.#sockets.set(watch.socket, {
      watches: new Set([watch]),
      backlog: watch.socket.backlog,
      movedAt: performance.now(),
    });
    this.#timer ??= setInterval(() => this.#look(), this.#patience / LOOKS).unref();
  }

  /** A socket has passed everything on. */
  moved(socket: WatchSocket): void {
    const known = this.#sockets.get(socket);
    if (known !== undefined) known.movedAt = performance.now();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#sockets.clear();
  }

  #look(): void {
    const now = performance.now();
    for (const [socket, progress] of this.#sockets) {
      const { watches } = progress;
      for (const watch of watches) if (!watch.isHeldUp) watches.delete(watch);
      if (watches.size === 0) {
        this.#sockets.delete(socket);
        continue;
      }
      const { backlog } = socket;
      if (backlog < progress.backlog) progress.movedAt = now;
      progress.backlog = backlog;
      if (now - progress.movedAt < this.#patience) continue;
      this.#sockets.delete(socket);
      for (const watch of watches) watch.onStalled();
    }
    if (this.#sockets.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
