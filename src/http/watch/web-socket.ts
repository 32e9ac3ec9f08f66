/** What the gateway's WebSockets have in common, at the least memory per socket. */
import type { Socket } from "node:net";
import type { RawData, WebSocket } from "ws";
import { closeCodes } from "../../protocol/close-codes.ts";
import type { End } from "../../watch/watch.ts";
import type { OpenSocket, Seat, Sockets } from "./sockets.ts";

/** Bytes that a close reason can have. */
const REASON_LENGTH = 123;
/** Beats without an answer to the ping before, after which a socket is dead. */
const MISSED = 2;
/** Bytes that may wait for a client while its pings are still answered: one that reads nothing could send them without end. */
const PONGS = 64 * 1024;
/** A ping frame without payload. */
const PING = Buffer.from([0x89, 0]);

/**
 * A WebSocket at the gateway. Finished frames go to the TCP socket directly, beside the control frames of `ws`: with
 * compression off a frame is its header and payload, so it can be built once for everybody.
 *
 * There may be tens of thousands, so its listeners are functions that all of them share, and its timer is the heartbeat.
 */
export abstract class GatewaySocket implements OpenSocket {
  readonly seat: Seat;
  slot = 0;
  protected readonly ws: WebSocket;
  protected readonly tcp: Socket;
  protected readonly sockets: Sockets;
  #missed = 0;

  /** @param sockets where room was reserved for it: the seat */
  constructor(ws: WebSocket, tcp: Socket, sockets: Sockets, seat: Seat) {
    this.seat = seat;
    this.ws = ws;
    this.tcp = tcp;
    this.sockets = sockets;
    (ws as Owned<WebSocket>)[OWNER] = this;
    (tcp as Owned<Socket>)[OWNER] = this;
    tcp.on("drain", onDrain);
    ws.on("ping", onPing);
    ws.on("pong", onPong);
    ws.on("message", onMessage);
    // The close that follows says it all.
    ws.on("error", ignore);
    ws.on("close", onClose);
  }

  /** Bytes that were written and have not left yet. */
  get backlog(): number {
    return this.tcp.writableLength;
  }

  get isOpen(): boolean {
    return this.ws.readyState === this.ws.OPEN;
  }

  write(bytes: Buffer): void {
    if (this.isOpen) this.tcp.write(bytes);
  }

  /** Ends it; what was written before still goes out first, if that does not take too long. */
  close(code: number, reason: string): void {
    this.ws.close(code, clipped(reason));
  }

  dismiss({ code, reason }: End): void {
    this.close(code, reason);
  }

  goAway(): void {
    this.close(closeCodes.goingAway, "this gateway is shutting down: connect again");
  }

  terminate(): void {
    this.ws.terminate();
  }

  beat(): void {
    if (this.#missed >= MISSED) {
      this.terminate();
      return;
    }
    this.#missed += 1;
    if (this.isOpen) this.tcp.write(PING);
  }

  /** The client sent a ping. */
  onPing(data: Buffer): void {
    if (this.isOpen && this.backlog <= PONGS) this.ws.pong(data);
  }

  /** The client answered a ping. */
  onPong(): void {
    this.#missed = 0;
  }

  /** The client sent a message. */
  abstract onMessage(data: Buffer, isBinary: boolean): void;
  /** Everything that was written has left. */
  abstract onDrain(): void;
  /** It is gone. Called once. */
  onClose(): void {
    this.sockets.closed(this);
  }
}

function clipped(reason: string): string {
  if (Buffer.byteLength(reason) <= REASON_LENGTH) return reason;
  // A character that is cut through would not be valid UTF-8, which a close reason has to be.
  return Buffer.from(reason)
    .subarray(0, REASON_LENGTH)
    .toString()
    .replace(/\uFFFD$/, "");
}

// By a property rather than a closure per listener.
const OWNER = Symbol("owner");
type Owned<T> = T & { [OWNER]?: GatewaySocket };

function onDrain(this: Owned<Socket>): void {
  this[OWNER]?.onDrain();
}

function onPing(this: Owned<WebSocket>, data: Buffer): void {
  this[OWNER]?.onPing(data);
}

function onPong(this: Owned<WebSocket>): void {
  this[OWNER]?.onPong();
}

function onMessage(this: Owned<WebSocket>, data: RawData, isBinary: boolean): void {
  // With the binary type of ws that is the default, and stays it here.
  this[OWNER]?.onMessage(data as Buffer, isBinary);
}

function onClose(this: Owned<WebSocket>): void {
  this[OWNER]?.onClose();
}

function ignore(): void {
  // Nothing to do.
}
