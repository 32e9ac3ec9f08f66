import type { WatchSocket } from "./watch.ts";

/**
 * How much may wait for clients that do not keep up: for each socket, and for all of them together. The watches of a
 * multiplexed socket share what it has.
 */
export class OutboxBudget {
  readonly #perSocket: number;
  readonly #total: number;
  readonly #sockets = new Map<WatchSocket, number>();
  #bytes = 0;

  /**
   * @param perSocket bytes
   * @param total bytes
   */
  constructor(perSocket: number, total: number) {
    this.#perSocket = perSocket;
    this.#total = total;
  }

  /** Bytes that wait now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes room for some bytes. @returns whether there was enough of it; it is taken in any case */
  take(socket: WatchSocket, bytes: number): boolean {
    const taken = (this.#sockets.get(socket) ?? 0) + bytes;
    this.#sockets.set(socket, taken);
    this.#bytes += bytes;
    return taken <= this.#perSocket && this.#bytes <= this.#total;
  }

  give(socket: WatchSocket, bytes: number): void {
    const taken = (this.#sockets.get(socket) ?? 0) - bytes;
    if (taken <= 0) this.#sockets.delete(socket);
    else this.#sockets.set(socket, taken);
    this.#bytes -= bytes;
  }
}
