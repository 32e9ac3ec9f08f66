import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { Writable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import type { WebSocket } from "ws";
import { anonymous } from "../../../../src/auth/principal.ts";
import { MultiplexSocket, type MultiplexDeps } from "../../../../src/http/watch/multiplex.ts";
import { Sockets } from "../../../../src/http/watch/sockets.ts";

/** A connection whose client takes as many pieces as the test says. The buffers of a real one are too large to never run dry. */
class SlowConnection extends Writable {
  bytesWritten = 0;
  readonly taken: string[] = [];
  #waiting: { text: string; done: () => void }[] = [];

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#waiting.push({ text: chunk.toString("latin1"), done });
  }

  override write(chunk: unknown, ...rest: unknown[]): boolean {
    this.bytesWritten += (chunk as Buffer).length;
    return (super.write as (...all: unknown[]) => boolean).call(this, chunk, ...rest);
  }

  take(): void {
    const piece = this.#waiting.shift();
    if (piece === undefined) return;
    this.taken.push(piece.text);
    piece.done();
  }
}

class FakeWebSocket extends EventEmitter {
  readonly OPEN = 1;
  readyState = 1;
  isPaused = false;
  isTerminated = false;

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  terminate(): void {
    this.isTerminated = true;
  }

  unwatch(id: string): void {
    this.emit("message", Buffer.from(JSON.stringify({ type: "unwatch", id })), false);
  }
}

function open(): { ws: FakeWebSocket; tcp: SlowConnection; socket: MultiplexSocket } {
  const sockets = new Sockets(1, 1_000_000);
  onTestFinished(() => sockets.close());
  const ws = new FakeWebSocket();
  const tcp = new SlowConnection();
  const socket = new MultiplexSocket(
    ws as unknown as WebSocket,
    tcp as unknown as Socket,
    sockets,
    sockets.reserve("multiplexed", anonymous),
    {} as MultiplexDeps,
  );
  return { ws, tcp, socket };
}

const data = Buffer.alloc(100_000, "x");

test("a client that reads slowly beside a watch that never rests is read, answered, and not taken for dead", async () => {
  const { ws, tcp, socket } = open();
  for (let i = 0; i < 4; i++) socket.write(data);
  for (let i = 0; i < 20; i++) {
    // The client takes a piece for each that comes, so that there is always something left.
    expect(ws.isPaused).toBe(false);
    ws.unwatch(`${i}`);
    socket.write(data);
    for (let piece = 0; piece < 2; piece++) {
      await turn();
      tcp.take();
    }
    expect(tcp.writableNeedDrain).toBe(true);
    socket.beat();
    ws.emit("pong");
  }
  while (tcp.writableLength > 0) {
    await turn();
    tcp.take();
  }
  expect(tcp.taken.filter((text) => text.includes('"unwatched"'))).toHaveLength(20);
  expect(ws.isTerminated).toBe(false);
});

test("a client is not read while many answers wait, and is alive as long as it takes some", async () => {
  const { ws, tcp, socket } = open();
  let sent = 0;
  while (!ws.isPaused && sent < 10_000) ws.unwatch(`${sent++}`);
  expect(tcp.writableLength).toBeLessThan(70 * 1024);
  // No pong comes, since nothing is read.
  for (let beats = 0; beats < 10; beats++) {
    await turn();
    tcp.take();
    socket.beat();
  }
  expect(ws.isTerminated).toBe(false);
  expect(ws.isPaused).toBe(true);
});

test("a client that takes none of many answers is cut off", async () => {
  const { ws, socket } = open();
  const id = "x".repeat(64);
  for (let i = 0; i < 1_000; i++) ws.unwatch(id);
  expect(ws.isPaused).toBe(true);
  for (let beats = 0; beats < 5; beats++) {
    await turn();
    socket.beat();
  }
  expect(ws.isTerminated).toBe(true);
});
