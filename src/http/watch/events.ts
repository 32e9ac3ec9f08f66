import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Begin, End, WatchHandle, WatchSocket } from "../../watch/watch.ts";
import { closeCodes } from "../../protocol/close-codes.ts";
import { errorEvent } from "./control-frames.ts";
import type { OpenSocket, Seat, Sockets } from "./sockets.ts";

/** What makes an answer a stream of events that nobody on the way keeps back or stores. */
export const eventHeaders = {
  "Content-Type": "text/event-stream",
  "Cache-Control": "no-store",
  "X-Accel-Buffering": "no",
} as const;

/** Says how many milliseconds a client waits before it comes again. */
const OPENING = Buffer.from("retry: 1000\n\n");
/** A comment, which keeps proxies from taking the connection for dead. */
const PING = Buffer.from(": ping\n\n");
/** Beats through which nothing has left, after which a client is dead. */
const STUCK = 2;

/** A watch as server-sent events. */
export class EventStream implements OpenSocket, WatchSocket {
  readonly format = "sse";
  readonly seat: Seat;
  slot = 0;
  readonly #outgoing: ServerResponse;
  readonly #tcp: Socket;
  readonly #sockets: Sockets;
  #watch: WatchHandle | undefined;
  #stuck = 0;

  /**
   * @param tcp connection of the answer, which has it for itself from now on
   * @param headers of the answer, beside those that make it a stream of events
   * @param sockets where room was reserved for it: the seat
   */
  constructor(
    outgoing: ServerResponse,
    tcp: Socket,
    headers: Readonly<Record<string, string>> | undefined,
    sockets: Sockets,
    seat: Seat,
  ) {
    this.#outgoing = outgoing;
    this.#tcp = tcp;
    this.#sockets = sockets;
    this.seat = seat;
    // Its end is the connection's. Not in chunks, each write of the hub needs no wrapping and goes to the connection as it is.
    outgoing.removeHeader("Transfer-Encoding");
    outgoing.writeHead(200, { ...headers, ...eventHeaders, Connection: "close" });
    tcp.on("drain", () => this.#onDrain());
    outgoing.on("error", () => outgoing.destroy());
    outgoing.on("close", () => this.#onClose());
    outgoing.write(OPENING);
    sockets.opened(this);
  }

  get backlog(): number {
    return this.#tcp.writableLength;
  }

  watch(begin: Begin): void {
    this.#watch = begin(this);
  }

  write(bytes: Buffer): void {
    if (!this.#outgoing.writableEnded) this.#tcp.write(bytes);
  }

  end(_watch: WatchHandle | undefined, { code, reason, error, retryable }: End): void {
    const fallback = code === closeCodes.goingAway ? "shutting_down" : "store_unavailable";
    this.write(errorEvent({ code: error ?? fallback, message: reason, retryable }));
    this.#outgoing.end();
  }

  dismiss(end: End): void {
    this.end(undefined, end);
  }

  goAway(): void {
    this.end(undefined, {
      code: closeCodes.goingAway,
      reason: "this gateway is shutting down: connect again",
      retryable: true,
    });
  }

  terminate(): void {
    this.#outgoing.destroy();
  }

  beat(): void {
    if (this.backlog > 0) {
      this.#stuck += 1;
      if (this.#stuck > STUCK) this.terminate();
      return;
    }
    this.#stuck = 0;
    this.write(PING);
  }

  #onDrain(): void {
    this.#stuck = 0;
    this.#watch?.drained();
  }

  #onClose(): void {
    this.#sockets.closed(this);
    this.#watch?.close();
  }
}
