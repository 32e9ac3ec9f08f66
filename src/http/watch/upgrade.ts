/** The handshake of WebSockets, and what comes of requests that want something else. */
import { STATUS_CODES, type IncomingMessage, type Server } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer, type ServerOptions, type WebSocket } from "ws";
import { SUBPROTOCOL } from "../../protocol/close-codes.ts";
import { KvError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { errorHeaders } from "../errors.ts";

/** A peer that does not answer a close within this many milliseconds is cut off. */
const CLOSE_TIMEOUT = 2_000;

const options: ServerOptions & { closeTimeout: number } = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  autoPong: false,
  maxPayload: limits.clientFrame,
  // A frame of the largest size in the smallest pieces would take many times its size to keep.
  maxFragments: 64,
  maxBufferedChunks: 1024,
  closeTimeout: CLOSE_TIMEOUT,
  handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
};

/** Makes WebSockets out of requests. */
export class Upgrader {
  readonly #server = new WebSocketServer(options);

  /** @param onRefused called when a request is no handshake, to answer it */
  constructor(onRefused: (socket: Duplex, error: KvError) => void) {
    this.#server.on("wsClientError", (error, socket) =>
      onRefused(socket, new KvError("invalid_request", `no WebSocket handshake: ${error.message}`)),
    );
  }

  /** @returns undefined when the request was no handshake, or its client has gone */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer): WebSocket | undefined {
    let upgraded: WebSocket | undefined;
    this.#server.handleUpgrade(request, socket, head, (ws) => (upgraded = ws));
    return upgraded;
  }
}

/** Whether a request offers the subprotocol under which there is more than plain updates. */
export function offersSubprotocol({ headers }: IncomingMessage): boolean {
  const offered = headers["sec-websocket-protocol"]?.split(",") ?? [];
  return offered.some((name) => name.trim() === SUBPROTOCOL);
}

/** Ends a connection that fails while it is being upgraded. */
export function destroyOnError(this: Duplex): void {
  this.destroy();
}

/** Refuses an upgrade with a real HTTP answer. */
export function refuseUpgrade(socket: Duplex, error: KvError, requestId: string): void {
  const body = JSON.stringify(error.toBody(requestId));
  const headers = {
    ...errorHeaders(error),
    "X-Request-Id": requestId,
    "Content-Length": Buffer.byteLength(body),
    Connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  socket.end(
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status] ?? ""}\r\n${lines.join("\r\n")}\r\n\r\n${body}`,
  );
}

/**
 * Serves a request that offers another upgrade, to HTTP/2 for instance, as Java's client and `curl --http2` do with every
 * first request. A server may ignore the offer, but node:http hands over the connection instead: so it is given back,
 * with the request as it was but for the offer.
 */
export function serveWithoutUpgrade(
  server: Server,
  { method, url, httpVersion, rawHeaders }: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): void {
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!;
    let value = rawHeaders[i + 1]!;
    if (/^(?:upgrade|http2-settings)$/i.test(name)) continue;
    if (/^connection$/i.test(name)) {
      const tokens = value.split(",").map((token) => token.trim());
      value = tokens.filter((token) => !/^(?:upgrade|http2-settings)$/i.test(token)).join(", ");
    }
    lines.push(`${name}: ${value}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), head]));
  server.emit("connection", socket);
}
