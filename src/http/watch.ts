/** Watches as WebSockets: takes upgrade requests, and connects each socket with the hub. */
import { STATUS_CODES, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";
import type { Socket } from "node:net";
import type { Logger } from "pino";
import { WebSocketServer, type WebSocket } from "ws";
import { closeCodes, SUBPROTOCOL } from "../protocol/close-codes.ts";
import { KvError } from "../protocol/errors.ts";
import { everyKey, parsePattern } from "../protocol/keys.ts";
import { limits } from "../protocol/limits.ts";
import { includes, type Include } from "../protocol/messages.ts";
import type { Frame } from "../watch/frames.ts";
import type { Hub } from "../watch/hub.ts";
import type { WatchOptions, WatchSocket } from "../watch/watch.ts";
import { errorHeaders, publicError } from "./errors.ts";
import { decodePart, queryTexts } from "./input.ts";
import type { OriginPolicy } from "./origins.ts";
import { newRequestId } from "./request-id.ts";

export interface WatchServerOptions {
  hub: Hub;
  log: Logger;
  origins: OriginPolicy;
  /** Milliseconds between pings; a socket that misses two pongs in a row is dead. Default: 25 s. */
  pingInterval?: number;
}

const DEFAULT_PING_INTERVAL = 25_000;
/** A peer that does not answer a close within this many milliseconds is cut off. */
const CLOSE_TIMEOUT = 2_000;
/** Bytes that a close reason can have. */
const REASON_LENGTH = 123;

export class WatchServer {
  readonly #hub: Hub;
  readonly #log: Logger;
  readonly #origins: OriginPolicy;
  readonly #sockets = new Map<WebSocket, { missed: number }>();
  readonly #heartbeat: NodeJS.Timeout;
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: limits.clientFrame,
    perMessageDeflate: false,
    clientTracking: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });

  constructor(options: WatchServerOptions) {
    this.#hub = options.hub;
    this.#log = options.log;
    this.#origins = options.origins;
    this.#heartbeat = setInterval(
      () => this.#ping(),
      options.pingInterval ?? DEFAULT_PING_INTERVAL,
    );
  }

  /** Takes the upgrade requests of an HTTP server. */
  listen(server: Server): void {
    this.#server.on("wsClientError", (error, socket) => {
      this.#refuse(
        socket,
        new KvError("invalid_request", `no WebSocket handshake: ${error.message}`),
      );
    });
    server.on("upgrade", (request, socket, head) => {
      if (request.headers.upgrade?.toLowerCase() !== "websocket") {
        serveWithoutUpgrade(server, request, socket, head);
        return;
      }
      // Whatever is thrown in here would otherwise end the process.
      socket.on("error", () => socket.destroy());
      this.#upgrade(request, socket, head).catch((error: unknown) => this.#refuse(socket, error));
    });
  }

  /** Stops the heartbeat and cuts off who is still there. The hub has told everybody to go elsewhere before. */
  close(): void {
    clearInterval(this.#heartbeat);
    for (const socket of this.#sockets.keys()) socket.terminate();
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { bucket, options } = parseRequest(request);
    const { host, origin } = request.headers;
    if (host !== undefined && !this.#origins.allowsHost(host)) {
      throw new KvError("forbidden", `this gateway does not answer as ${host}`);
    }
    if (origin !== undefined && !this.#origins.allows(origin)) {
      throw new KvError(
        "forbidden",
        `pages of ${origin} may not watch: add the origin to JETBUCKET_ALLOWED_ORIGINS`,
      );
    }
    const prepared = await this.#hub.prepare(bucket);
    this.#server.handleUpgrade(request, socket, head, (ws) => {
      const state = { missed: 0 };
      this.#sockets.set(ws, state);
      const watch = prepared.attach(options, watchSocket(ws, request.socket));
      socket.on("drain", () => watch.drained());
      ws.on("pong", () => (state.missed = 0));
      ws.on("message", () => ws.close(closeCodes.badRequest, "this watch takes no messages"));
      ws.on("error", (error) => this.#log.debug({ err: error }, "watch socket failed"));
      ws.on("close", () => {
        this.#sockets.delete(ws);
        watch.close();
      });
    });
  }

  /** Refuses an upgrade with a real HTTP answer. */
  #refuse(socket: Duplex, thrown: unknown): void {
    const id = newRequestId();
    const error = publicError(thrown, this.#log, id);
    const body = JSON.stringify(error.toBody(id));
    const headers = {
      ...errorHeaders(error),
      "X-Request-Id": id,
      "Content-Length": Buffer.byteLength(body),
      Connection: "close",
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    socket.end(
      `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status] ?? ""}\r\n${lines.join("\r\n")}\r\n\r\n${body}`,
    );
  }

  #ping(): void {
    for (const [socket, state] of this.#sockets) {
      if (state.missed >= 2) {
        socket.terminate();
        continue;
      }
      state.missed += 1;
      if (socket.readyState === socket.OPEN) socket.ping();
    }
  }
}

/**
 * Serves a request that offers another upgrade, to HTTP/2 for instance, as Java's client and `curl --http2` do with every
 * first request. A server may ignore the offer, but node:http hands over the connection instead: so it is given back,
 * with the request as it was but for the offer.
 */
function serveWithoutUpgrade(
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
      const options = value.split(",").map((option) => option.trim());
      value = options.filter((option) => !/^(?:upgrade|http2-settings)$/i.test(option)).join(", ");
    }
    lines.push(`${name}: ${value}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), head]));
  server.emit("connection", socket);
}

const route = /^\/api\/v1\/kv\/buckets\/([^/]+)\/watch$/;

function parseRequest(request: IncomingMessage): { bucket: string; options: WatchOptions } {
  const [path = "", query = ""] = (request.url ?? "").split(/\?(.*)/s);
  const match = route.exec(path);
  if (match === null) throw new KvError("not_found", `there is nothing to watch at ${path}`);
  const keys = queryTexts(query, "key", "invalid_filter");
  if (keys.length > limits.filtersPerWatch) {
    throw new KvError("invalid_filter", `a watch takes at most ${limits.filtersPerWatch} filters`);
  }
  return {
    bucket: decodePart(match[1]!, "invalid_bucket_name"),
    options: {
      patterns: keys.length === 0 ? [everyKey] : keys.map(parsePattern),
      include: parseInclude(queryTexts(query, "include", "invalid_request")[0]),
    },
  };
}

function parseInclude(value: string | undefined): Include {
  if (value === undefined) return "snapshot";
  const include = includes.find((known) => known === value);
  if (include === undefined) {
    throw new KvError(
      "invalid_request",
      `"include" is one of ${includes.join(", ")}, not ${JSON.stringify(value)}`,
      {
        details: { field: "include" },
      },
    );
  }
  return include;
}

/**
 * What the hub sees of a socket. Finished frames go to the TCP socket directly, beside the control frames of `ws`: with
 * compression off a frame is its header and payload, so it can be built once for everybody.
 */
function watchSocket(ws: WebSocket, socket: Socket): WatchSocket {
  return {
    isExtended: ws.protocol === SUBPROTOCOL,
    get backlog() {
      return socket.writableLength;
    },
    write(frames: readonly Frame[]) {
      if (ws.readyState !== ws.OPEN) return;
      if (frames.length > 1) socket.cork();
      for (const frame of frames) socket.write(frame.bytes);
      if (frames.length > 1) socket.uncork();
    },
    close(code, reason) {
      ws.close(code, Buffer.from(reason).subarray(0, REASON_LENGTH).toString());
      setTimeout(() => ws.terminate(), CLOSE_TIMEOUT).unref();
    },
  };
}
