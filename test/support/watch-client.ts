import { onTestFinished } from "vitest";
import { WebSocket, type ClientOptions } from "ws";
import { SUBPROTOCOL } from "../../src/protocol/close-codes.ts";
import type { ReadyFrame, UpdateFrame, WatchFrame } from "../../src/protocol/messages.ts";

export type Frame = WatchFrame;

export interface Closed {
  code: number;
  reason: string;
}

/** A refused upgrade: what came instead of a socket. */
export interface Refusal {
  status: number;
  headers: Record<string, unknown>;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests read answers of every form
  body: any;
}

export interface WatchClientOptions extends ClientOptions {
  /** Without the subprotocol, as other systems' clients are. */
  plain?: boolean;
  /** More subprotocols to offer. */
  subprotocols?: readonly string[];
}

/** A watch socket that keeps all it is sent. */
export class WatchClient {
  readonly socket: WebSocket;
  readonly frames: Frame[] = [];
  closed: Closed | undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data: Buffer) => this.frames.push(JSON.parse(data.toString()) as Frame));
    socket.on("close", (code, reason) => (this.closed = { code, reason: reason.toString() }));
    socket.on("error", () => undefined);
  }

  /** The `kv_update` frames so far. */
  get updates(): UpdateFrame[] {
    return this.frames.filter((frame) => frame.type === "kv_update");
  }

  /** All changes so far, those of transactions one by one. */
  get changes(): UpdateFrame[] {
    return this.frames.flatMap((frame) => {
      if (frame.type === "kv_update") return [frame];
      if (frame.type !== "kv_transaction") return [];
      const { bucket } = frame;
      return frame.events.map((event) => ({ type: "kv_update" as const, bucket, ...event }));
    });
  }

  get ready(): ReadyFrame[] {
    return this.frames.filter((frame) => frame.type === "kv_ready");
  }

  /** Each key's latest value by what was received; a deleted key is not in it. */
  get state(): Map<string, unknown> {
    const state = new Map<string, unknown>();
    for (const { operation, key, value } of this.updates) {
      if (operation === "put") state.set(key, value);
      else state.delete(key);
    }
    return state;
  }

  /** Key and value of each update, deletes as `[key, undefined]`. */
  get pairs(): [string, unknown][] {
    return this.updates.map(({ key, value }) => [key, value]);
  }
}

/** What a client asks a multiplexed socket for. */
export interface WatchAsked {
  id: string;
  bucket: string;
  keys?: string[];
  include?: string;
  since?: string;
  values?: boolean;
}

/** A socket with many watches. */
export class MultiplexClient extends WatchClient {
  /** Sends a frame: an object as JSON, anything else as it is. */
  send(frame: object | string | Buffer): void {
    const isRaw = typeof frame === "string" || Buffer.isBuffer(frame);
    this.socket.send(isRaw ? frame : JSON.stringify(frame));
  }

  watch(asked: WatchAsked): void {
    this.send({ type: "watch", ...asked });
  }

  unwatch(id: string): void {
    this.send({ type: "unwatch", id });
  }

  /** What came for a watch. */
  of(id: string): Frame[] {
    return this.frames.filter((frame) => frame.id === id);
  }

  typesOf(id: string): Frame["type"][] {
    return this.of(id).map(({ type }) => type);
  }

  /** Key and value of each update of a watch, deletes as `[key, undefined]`. */
  pairsOf(id: string): [string, unknown][] {
    return this.of(id)
      .filter((frame) => frame.type === "kv_update")
      .map(({ key, value }) => [key, value]);
  }
}

/** Base address of the watch of a bucket: `http` of the API becomes `ws`. */
export function watchUrl(api: string, bucket: string, query = ""): string {
  return `${api.replace(/^http/, "ws")}/buckets/${bucket}/watch${query === "" ? "" : `?${query}`}`;
}

/** Address of the socket for many watches. */
export function multiplexUrl(api: string): string {
  return `${api.replace(/^http/, "ws")}/watch`;
}

/** Opens a watch; rejects when it is refused. Inside a test it is cut off with the test. */
export function openWatch(url: string, options: WatchClientOptions = {}): Promise<WatchClient> {
  return open(url, options, (socket) => new WatchClient(socket));
}

/** Opens a socket for many watches, as {@link openWatch} does. */
export function openMultiplex(
  api: string,
  options: WatchClientOptions = {},
): Promise<MultiplexClient> {
  return open(multiplexUrl(api), options, (socket) => new MultiplexClient(socket));
}

function open<T>(
  url: string,
  { plain = false, subprotocols = [], ...options }: WatchClientOptions,
  make: (socket: WebSocket) => T,
): Promise<T> {
  const offered = [...(plain ? [] : [SUBPROTOCOL]), ...subprotocols];
  const socket = new WebSocket(url, offered, options);
  const client = make(socket);
  try {
    onTestFinished(() => socket.terminate());
  } catch {
    // Opened outside a test.
  }
  return new Promise((resolve, reject) => {
    socket.once("open", () => resolve(client));
    socket.once("error", reject);
  });
}

/** Tries to open a watch that must be refused, and resolves with the HTTP answer. */
export function refusedWatch(url: string, options: WatchClientOptions = {}): Promise<Refusal> {
  const { plain = false, ...rest } = options;
  const socket = new WebSocket(url, plain ? [] : [SUBPROTOCOL], rest);
  return new Promise((resolve, reject) => {
    socket.once("open", () => {
      socket.terminate();
      reject(new Error("the watch was not refused"));
    });
    socket.once("error", reject);
    socket.once("unexpected-response", (_request, response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: JSON.parse(Buffer.concat(chunks).toString()),
        }),
      );
    });
  });
}
