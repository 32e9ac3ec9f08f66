import { createServer, get, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { anonymous } from "../../../../src/auth/principal.ts";
import { EventStream } from "../../../../src/http/watch/events.ts";
import { Sockets } from "../../../../src/http/watch/sockets.ts";
import type { Begin, WatchSocket } from "../../../../src/watch/watch.ts";
import { eventually } from "../../../support/eventually.ts";

let sockets: Sockets;
let server: Server;
let stream: EventStream;
/** What a hub would have of the stream. */
let hub: { socket: WatchSocket | undefined; drains: number; closes: number };
let response: IncomingMessage;
let text: string;

beforeEach(async () => {
  sockets = new Sockets(10, 60_000);
  const own: typeof hub = { socket: undefined, drains: 0, closes: 0 };
  hub = own;
  text = "";
  const begin: Begin = (socket) => {
    own.socket = socket;
    return { count: 0, drained: () => (own.drains += 1), close: () => (own.closes += 1) };
  };
  server = createServer((_request, outgoing) => {
    const seat = sockets.reserve("events", anonymous);
    stream = new EventStream(outgoing, outgoing.socket!, { Vary: "Origin" }, sockets, seat);
    stream.watch(begin);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  response = await new Promise((resolve, reject) => {
    get({ port, host: "127.0.0.1" }, resolve).on("error", reject);
  });
  response.on("data", (data: Buffer) => (text += data.toString()));
  response.on("error", () => undefined);
});

afterEach(() => {
  sockets.close();
  server.closeAllConnections();
  server.close();
});

test("a stream begins with how long to wait before coming again, and passes bytes on as they are", async () => {
  hub.socket!.write(Buffer.from("data: 1\n\ndata: 2\n\n"));
  await eventually(() => text).toBe("retry: 1000\n\ndata: 1\n\ndata: 2\n\n");
  expect(response.headers).toMatchObject({ vary: "Origin", "content-type": "text/event-stream" });
  expect(hub.socket!.backlog).toBe(0);
});

test("a beat is a comment", async () => {
  stream.beat();
  await eventually(() => text).toBe("retry: 1000\n\n: ping\n\n");
  stream.beat();
  await eventually(() => text).toBe("retry: 1000\n\n: ping\n\n: ping\n\n");
});

test("a client that does not read has a backlog, tells when it has drained, and is cut off when it never does", async () => {
  response.pause();
  const bytes = Buffer.alloc(16 * 1024 * 1024, "x");
  hub.socket!.write(bytes);
  expect(hub.socket!.backlog).toBeGreaterThan(1024 * 1024);
  stream.beat();
  stream.beat();
  response.resume();
  await eventually(() => hub.drains).toBe(1);
  expect(hub.socket!.backlog).toBe(0);
  response.pause();
  hub.socket!.write(bytes);
  for (let i = 0; i < 3; i++) stream.beat();
  await eventually(() => hub.closes).toBe(1);
  expect(sockets.counts.events).toBe(0);
});

test("the end is said, nothing follows, and the hub is told once", async () => {
  stream.end(undefined, {
    code: 4404,
    reason: "gone",
    error: "bucket_not_found",
    retryable: false,
  });
  hub.socket!.write(Buffer.from("data: late\n\n"));
  stream.goAway();
  await eventually(() => response.complete).toBe(true);
  expect(text).toMatch(
    /\ndata: \{"type":"error","code":"bucket_not_found","message":"gone","retryable":false\}\n\n$/,
  );
  await eventually(() => hub.closes).toBe(1);
  expect(sockets.counts.events).toBe(0);
});
