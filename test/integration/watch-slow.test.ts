import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { connect as connectTcp, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { SUBPROTOCOL } from "../../src/protocol/close-codes.ts";
import type { WatchFrame } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { openMultiplex, openWatch, watchUrl, type WatchClient } from "../support/watch-client.ts";
import { startWatchStack, type WatchStack } from "../support/watch-stack.ts";

const KIB = 1024;
/** More than what fits into the buffers of the connection on the way to a client that reads nothing. */
const FLOOD = 16 * 1024 * KIB;
const VALUE = "x".repeat(64 * KIB);

let gateway: TestGateway;
let count = 0;
let name: string;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

beforeEach(async () => {
  name = `s${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
  await callJson("POST", `${gateway.api}/buckets`, { name });
});

const put = (key: string, value: unknown): Promise<Answer> =>
  callJson("PUT", `${bucket}/keys/${key}`, value);

const startStack = (options: Parameters<typeof startWatchStack>[1] = {}): Promise<WatchStack> =>
  startWatchStack(gateway.server, {
    outbox: { backlog: 64 * KIB, perSocket: 1024 * KIB },
    ...options,
  });

async function watch({ api }: WatchStack, query = ""): Promise<WatchClient> {
  const client = await openWatch(watchUrl(api, name, query));
  await eventually(() => client.ready.length).toBe(1);
  return client;
}

/** Writes values in turn to some keys, until nothing of it can be on the way any more. */
async function flood(keys: number): Promise<void> {
  const rounds = Math.ceil(FLOOD / VALUE.length / keys);
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < keys; i++) await put(`key.${i}`, `${round} ${VALUE}`);
  }
  await put("end", count);
}

async function stateOf(api: string): Promise<Map<string, unknown>> {
  const client = await openWatch(watchUrl(api, name));
  await eventually(() => client.ready.length).toBe(1);
  return client.state;
}

/** Fails unless a client ended with everything. Values are too long to be printed. */
async function expectWhole(client: WatchClient): Promise<void> {
  await eventually(() => client.state.get("end")).toBe(count);
  const state = await stateOf(gateway.api);
  expect([...client.state.keys()].sort()).toEqual([...state.keys()].sort());
  for (const [key, value] of state) expect(client.state.get(key) === value).toBe(true);
}

const conflatedBy = (frames: readonly WatchFrame[]): number =>
  frames.reduce((sum, frame) => sum + ("conflated" in frame ? (frame.conflated ?? 0) : 0), 0);
const resetsOf = (client: WatchClient): string[] =>
  client.frames.flatMap((frame) => (frame.type === "kv_reset" ? [frame.reason] : []));

describe("a watcher that reads nothing for a while", () => {
  test("gets the latest of each key, in order, and is told how many frames were replaced", async () => {
    const stack = await startStack();
    const client = await watch(stack);
    client.socket.pause();
    await flood(4);
    client.socket.resume();
    await expectWhole(client);
    expect(resetsOf(client)).toEqual([]);
    const revisions = client.updates.map(({ revision }) => revision);
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
    const { conflations, outboxBytes } = stack.hub.stats();
    expect(conflations).toBeGreaterThan(10);
    expect(conflatedBy(client.frames)).toBe(conflations);
    expect(outboxBytes).toBe(0);
    await put("live", 1);
    await eventually(() => client.state.get("live")).toBe(1);
  });

  test("starts over when more keys changed than may wait for it, and is told so", async () => {
    const stack = await startStack();
    const client = await watch(stack);
    await put("gone", 1);
    client.socket.pause();
    await flood(100);
    await call("DELETE", `${bucket}/keys/gone`);
    await eventually(() => stack.hub.stats().overflows).toBe(1);
    expect(stack.hub.stats().outboxBytes).toBe(0);
    client.socket.resume();
    await eventually(() => client.ready.length).toBe(2);
    await put("last", 1);
    await eventually(() => client.state.get("last")).toBe(1);
    expect(resetsOf(client)).toEqual(["lagged"]);
    // What came since the reset is all there is: nothing of before may be needed.
    const start = client.frames.findIndex(({ type }) => type === "kv_reset");
    const state = new Map<string, unknown>();
    for (const frame of client.frames.slice(start)) {
      if (frame.type !== "kv_update") continue;
      if (frame.operation === "put") state.set(frame.key, frame.value);
      else state.delete(frame.key);
    }
    const stored = await stateOf(gateway.api);
    expect([...state.keys()].sort()).toEqual([...stored.keys()].sort());
    for (const [key, value] of stored) expect(state.get(key) === value).toBe(true);
    await put("live", 1);
    await eventually(() => client.state.get("live")).toBe(1);
  });

  test.each([
    ["the history", "include=history", false],
    ["plain updates", "", true],
  ])("is closed with 1013 instead where it asked for %s", async (_what, query, plain) => {
    const { api, hub } = await startStack();
    const client = await openWatch(watchUrl(api, name, query), { plain });
    await put("first", 1);
    await eventually(() => client.updates.length).toBe(1);
    client.socket.pause();
    await flood(100);
    await eventually(() => hub.stats().overflows).toBe(1);
    client.socket.resume();
    await eventually(() => client.closed).toMatchObject({ code: 1013 });
    const revisions = client.updates.map(({ revision }) => revision);
    expect(revisions).toEqual(revisions.map((_, i) => revisions[0]! + i));
  });

  test("shares the bound with the other watches of its socket, of which one has to start over", async () => {
    const { api, hub } = await startStack();
    const client = await openMultiplex(api);
    client.watch({ id: "flooded", bucket: name, keys: ["key.*"] });
    client.watch({ id: "calm", bucket: name, keys: ["calm"] });
    await eventually(() => client.ready.length).toBe(2);
    client.socket.pause();
    await flood(100);
    await put("calm", 1);
    await eventually(() => hub.stats().overflows).toBe(1);
    client.socket.resume();
    await eventually(() => client.typesOf("flooded").includes("kv_reset")).toBe(true);
    await eventually(() => client.ready.length).toBe(3);
    expect(client.typesOf("calm")).toEqual(["kv_ready", "kv_update"]);
    expect(client.closed).toBeUndefined();
  });
});

describe("watchers that read nothing at all", () => {
  /** A watch over bare TCP that never reads. */
  async function openDeaf(api: string): Promise<Socket> {
    const { port, hostname } = new URL(api);
    const socket = connectTcp(Number(port), hostname);
    const head = [
      `GET /api/v1/kv/buckets/${name}/watch HTTP/1.1`,
      "Host: localhost",
      "Connection: Upgrade",
      "Upgrade: websocket",
      `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    await new Promise<void>((resolve) => {
      socket.write(`${head.join("\r\n")}\r\n\r\n`);
      socket.once("data", () => {
        socket.pause();
        resolve();
      });
    });
    onTestFinished(() => {
      socket.destroy();
    });
    return socket;
  }

  test("are closed after a while, and others are not", async () => {
    const stack = await startStack({ stall: 500 });
    const other = await watch(stack);
    await openDeaf(stack.api);
    await eventually(() => stack.hub.stats().watches).toBe(2);
    await flood(4);
    await eventually(() => stack.hub.stats().watches).toBe(1);
    await expectWhole(other);
    expect(other.closed).toBeUndefined();
    expect(stack.hub.stats().outboxBytes).toBe(0);
  });

  test("hold no more together than all may, and so cost others nothing", async () => {
    const total = 2 * 1024 * KIB;
    const stack = await startStack({ outbox: { backlog: 64 * KIB, total } });
    const other = await watch(stack);
    await Promise.all(Array.from({ length: 8 }, () => openDeaf(stack.api)));
    await eventually(() => stack.hub.stats().watches).toBe(9);
    let most = 0;
    const keys = 40;
    for (let i = 0; i < FLOOD / VALUE.length + 4 * keys; i++) {
      await put(`key.${i % keys}`, `${i} ${VALUE}`);
      most = Math.max(most, stack.hub.stats().outboxBytes);
    }
    await put("end", count);
    await expectWhole(other);
    expect(most).toBeGreaterThan(total / 2);
    expect(most).toBeLessThanOrEqual(total);
    expect(stack.hub.stats().overflows).toBeGreaterThan(0);
  });
});

test("a snapshot larger than may wait goes out at the pace of each client", async () => {
  const stack = await startStack();
  for (let i = 0; i < 200; i++) await put(`key.${i}`, VALUE);
  const slow = await openWatch(watchUrl(stack.api, name));
  slow.socket.pause();
  const quick = await watch(stack);
  expect(quick.updates).toHaveLength(200);
  for (let i = 0; i < 5; i++) await put(`key.${i}`, "new");
  await call("DELETE", `${bucket}/keys/key.7`);
  slow.socket.resume();
  await eventually(() => slow.ready.length).toBe(1);
  expect(slow.state.size).toBe(199);
  expect(slow.state.get("key.4")).toBe("new");
  const revisions = slow.updates.map(({ revision }) => revision);
  expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
  expect(resetsOf(slow)).toEqual([]);
});
