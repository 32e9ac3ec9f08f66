import type { Socket } from "node:net";
import type { WebSocket } from "ws";
import { closeCodes, SUBPROTOCOL } from "../../protocol/close-codes.ts";
import type { Begin, End, WatchHandle, WatchSocket } from "../../watch/watch.ts";
import { errorFrame } from "./control-frames.ts";
import type { Seat, Sockets } from "./sockets.ts";
import { GatewaySocket } from "./web-socket.ts";

/** A WebSocket with one watch. Its client has nothing to say. */
export class SingleSocket extends GatewaySocket implements WatchSocket {
  readonly format: "plain" | "extended";
  #watch: WatchHandle | undefined;

  constructor(ws: WebSocket, tcp: Socket, sockets: Sockets, seat: Seat) {
    super(ws, tcp, sockets, seat);
    this.format = ws.protocol === SUBPROTOCOL ? "extended" : "plain";
    sockets.opened(this);
  }

  watch(begin: Begin): void {
    this.#watch = begin(this);
  }

  end(_watch: WatchHandle, { code, reason, error, retryable }: End): void {
    if (error !== undefined) this.write(errorFrame({ code: error, message: reason, retryable }));
    this.close(code, reason);
  }

  onMessage(): void {
    this.close(closeCodes.badRequest, "this watch takes no messages");
  }

  onDrain(): void {
    this.#watch?.drained();
  }

  override onClose(): void {
    super.onClose();
    this.#watch?.close();
  }
}
