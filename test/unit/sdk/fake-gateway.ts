/** A small real HTTP and WebSocket server in a gateway's place, on a free port, closed with the test. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { WebSocketServer, type WebSocket } from "ws";

export interface SeenRequest {
  method: string;
  /** As it came over the wire, not decoded. */
  url: string;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  /** Sent as JSON, unless it is a string. */
  body?: unknown;
}

export interface FakeGateway {
  url: string;
  requests: SeenRequest[];
  upgrades: SeenRequest[];
  /** What clients sent over their sockets. */
  frames: Record<string, unknown>[];
}

export interface FakeGatewayOptions {
  /** Answers a request; "never" leaves it open. */
  answer?: (request: SeenRequest, attempt: number) => Answer | "never";
  /** Refuses an upgrade with an answer, or takes it by returning undefined. */
  refuse?: (request: SeenRequest, attempt: number) => Answer | undefined;
  /** Gets every socket that was taken. */
  onSocket?: (socket: WebSocket, attempt: number) => void;
  /** Gets every watch that is asked for, with what sends frames to it; `attempt` counts the sockets. */
  onWatch?: (watch: SeenWatch, attempt: number) => void;
}

/** A watch on the socket of a client. */
export interface SeenWatch {
  /** As it was asked for, without its type. */
  request: Record<string, unknown>;
  socket: WebSocket;
  send: (...frames: object[]) => void;
}

export async function startFakeGateway(options: FakeGatewayOptions = {}): Promise<FakeGateway> {
  const requests: SeenRequest[] = [];
  const upgrades: SeenRequest[] = [];
  const frames: Record<string, unknown>[] = [];
  const server = createServer((request, response) => {
    void read(request).then((seen) => {
      requests.push(seen);
      const answer = options.answer?.(seen, requests.length) ?? { body: {} };
      if (answer !== "never") send(response, answer);
    });
  });
  const sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => (offered.has("jetbucket.v1") ? "jetbucket.v1" : false),
  });
  server.on("upgrade", (request, socket, head) => {
    const seen = seenOf(request, Buffer.alloc(0));
    upgrades.push(seen);
    const refusal = options.refuse?.(seen, upgrades.length);
    if (refusal !== undefined) {
      const body = textOf(refusal);
      socket.end(
        `HTTP/1.1 ${refusal.status ?? 500} No\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
      return;
    }
    const attempt = upgrades.length;
    sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.on("message", (data: Buffer) => {
        const { type, ...asked } = JSON.parse(data.toString()) as Record<string, unknown>;
        frames.push({ type, ...asked });
        if (type !== "watch") return;
        const send = (...sent: object[]) => {
          for (const frame of sent) ws.send(JSON.stringify({ id: asked.id, ...frame }));
        };
        options.onWatch?.({ request: asked, socket: ws, send }, attempt);
      });
      options.onSocket?.(ws, attempt);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, requests, upgrades, frames };
}

async function read(request: IncomingMessage): Promise<SeenRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return seenOf(request, Buffer.concat(chunks));
}

function seenOf(request: IncomingMessage, body: Buffer): SeenRequest {
  return { method: request.method!, url: request.url!, headers: request.headers, body };
}

function send(response: ServerResponse, answer: Answer): void {
  response.writeHead(answer.status ?? 200, answer.headers);
  response.end(textOf(answer));
}

function textOf({ body }: Answer): string {
  return typeof body === "string" ? body : body === undefined ? "" : JSON.stringify(body);
}

/** A put as it travels in an answer or a frame. */
export function wireEntry(key: string, value: unknown, revision: number): Record<string, unknown> {
  return {
    key,
    value,
    encoding: "json",
    revision,
    created_at: createdAtOf(revision),
    operation: "put",
  };
}

export function createdAtOf(revision: number): string {
  return new Date(Date.UTC(2026, 0, 1) + revision * 1000).toISOString();
}

/** The position of a bucket that stands at a revision. */
export function positionOf(revision: number, epoch = "mjv0abcd"): string {
  return `${epoch}-${revision.toString(36)}`;
}

/** A put as a frame of a watch, without the id. */
export function updateFrame(key: string, revision: number, value: unknown = revision) {
  return { type: "kv_update", bucket: "b", ...wireEntry(key, value, revision) };
}

export function readyFrame(revision: number) {
  return { type: "kv_ready", position: positionOf(revision), count: 0 };
}
