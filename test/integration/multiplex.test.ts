import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import type { ReadyFrame } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import {
  multiplexUrl,
  openMultiplex,
  openWatch,
  refusedWatch,
  watchUrl,
  type MultiplexClient,
} from "../support/watch-client.ts";
import { startWatchStack } from "../support/watch-stack.ts";

let gateway: TestGateway;
let count = 0;
/** A bucket that each test has for itself. */
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
});

afterAll(() => gateway.close());

async function newBucket(settings: object = {}): Promise<string> {
  const name = `m${++count}`;
  const answer = await callJson("POST", `${gateway.api}/buckets`, { name, ...settings });
  expect(answer.status).toBe(201);
  return name;
}

beforeEach(async () => {
  bucket = await newBucket();
});

const put = (key: string, value: unknown, name = bucket): Promise<Answer> =>
  callJson("PUT", `${gateway.api}/buckets/${name}/keys/${key}`, value);
const remove = (key: string, name = bucket): Promise<Answer> =>
  call("DELETE", `${gateway.api}/buckets/${name}/keys/${key}`);
const open = (): Promise<MultiplexClient> => openMultiplex(gateway.api);

function isReady(client: MultiplexClient, id: string): Promise<void> {
  return eventually(() => client.typesOf(id)).toContain("kv_ready");
}

function positionOf(client: MultiplexClient, id: string): string {
  const ready = client.of(id).find((frame): frame is ReadyFrame => frame.type === "kv_ready");
  return ready!.position;
}

async function figure(name: string): Promise<number> {
  const { body } = await call("GET", `${gateway.url}/metrics`);
  const match = new RegExp(`^${name.replace(/[{}]/g, "\\$&")} (\\S+)$`, "m").exec(String(body));
  return Number(match?.[1]);
}

describe("one socket", () => {
  test("carries watches of many buckets, each frame with the id of its watch in front", async () => {
    const other = await newBucket();
    await put("a", 1);
    await put("x", 10, other);
    const client = await open();
    const texts: string[] = [];
    client.socket.on("message", (data: Buffer) => texts.push(data.toString()));
    client.watch({ id: "1", bucket });
    client.watch({ id: "second", bucket: other });
    await isReady(client, "1");
    await isReady(client, "second");
    await put("a", 2);
    await put("x", 11, other);
    await eventually(() => client.pairsOf("1")).toEqual([
      ["a", 1],
      ["a", 2],
    ]);
    await eventually(() => client.pairsOf("second")).toEqual([
      ["x", 10],
      ["x", 11],
    ]);
    for (const text of texts) expect(text).toMatch(/^\{"id":"(?:1|second)","type":"/);
    expect(client.of("1")[0]).toMatchObject({ type: "kv_update", bucket, key: "a", revision: 1 });
  });

  test("carries the same bucket under several ids, with filters, without values, and with history", async () => {
    bucket = await newBucket({ history: 5 });
    await put("a.1", 1);
    await put("b.1", 1);
    await put("a.1", 2);
    const client = await open();
    client.watch({ id: "all", bucket });
    client.watch({ id: "a", bucket, keys: ["a.*"] });
    client.watch({ id: "keys", bucket, values: false });
    client.watch({ id: "history", bucket, include: "history" });
    client.watch({ id: "updates", bucket, include: "updates", keys: ["b.1", "c.>"] });
    for (const id of ["all", "a", "keys", "history", "updates"]) await isReady(client, id);
    await put("b.1", "text");
    await eventually(() => client.pairsOf("all")).toEqual([
      ["b.1", 1],
      ["a.1", 2],
      ["b.1", "text"],
    ]);
    await eventually(() => client.pairsOf("updates")).toEqual([["b.1", "text"]]);
    await eventually(() => client.pairsOf("history")).toEqual([
      ["a.1", 1],
      ["b.1", 1],
      ["a.1", 2],
      ["b.1", "text"],
    ]);
    expect(client.pairsOf("a")).toEqual([["a.1", 2]]);
    await eventually(() => client.of("keys")).toHaveLength(4);
    const last = client.of("keys").at(-1);
    expect(last).toMatchObject({ key: "b.1", size: 6, operation: "put" });
    expect(last).not.toHaveProperty("value");
    expect(last).not.toHaveProperty("encoding");
  });

  test("takes a frame that came together with the request for the upgrade", async () => {
    await put("a", 1);
    const { port } = new URL(gateway.url);
    const socket = connect(Number(port), "localhost");
    onTestFinished(() => void socket.destroy());
    let received = "";
    socket.on("data", (data) => (received += data.toString("latin1")));
    const payload = Buffer.from(JSON.stringify({ type: "watch", id: "1", bucket }));
    // Masked by zeros, as any mask is one.
    const frame = Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
    const lines = [
      "GET /api/v1/kv/watch HTTP/1.1",
      "Host: localhost",
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Protocol: jetbucket.v1",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    socket.write(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), frame]));
    await eventually(() => received).toContain('{"id":"1","type":"kv_ready"');
  });

  test("goes on where a watch was, also of another socket", async () => {
    await put("a", 1);
    const first = await open();
    first.watch({ id: "1", bucket });
    await isReady(first, "1");
    const since = positionOf(first, "1");
    first.socket.terminate();
    await put("b", 2);
    await remove("a");
    const second = await open();
    second.watch({ id: "again", bucket, since });
    await isReady(second, "again");
    expect(second.pairsOf("again")).toEqual([
      ["b", 2],
      ["a", undefined],
    ]);
    expect(second.typesOf("again")).not.toContain("kv_reset");
  });

  test("is told to start over under the id of a watch that cannot go on", async () => {
    const other = await newBucket();
    await put("a", 1);
    const client = await open();
    client.watch({ id: "1", bucket: other });
    await isReady(client, "1");
    client.watch({ id: "2", bucket, since: positionOf(client, "1") });
    await isReady(client, "2");
    expect(client.of("2")).toMatchObject([
      { type: "kv_reset", reason: "epoch_changed" },
      { type: "kv_update", key: "a" },
      { type: "kv_ready" },
    ]);
  });

  test("has the changes of a transaction in one frame", async () => {
    const client = await open();
    client.watch({ id: "1", bucket });
    client.watch({ id: "one", bucket, keys: ["a"] });
    await isReady(client, "1");
    await isReady(client, "one");
    const answer = await callJson("POST", `${gateway.api}/buckets/${bucket}/transactions`, {
      operations: [
        { op: "put", key: "a", value: 1 },
        { op: "put", key: "b", value: 2 },
      ],
    });
    expect(answer.status).toBe(200);
    await eventually(() => client.of("1").at(-1)).toMatchObject({
      type: "kv_transaction",
      events: [{ key: "a" }, { key: "b" }],
    });
    await eventually(() => client.pairsOf("one")).toEqual([["a", 1]]);
  });

  test("that was closed leaves no watch behind", async () => {
    const before = await figure("jetbucket_watches");
    const client = await open();
    for (let i = 0; i < 20; i++) client.watch({ id: `${i}`, bucket });
    for (let i = 0; i < 20; i++) await isReady(client, `${i}`);
    expect(await figure("jetbucket_watches")).toBe(before + 20);
    client.socket.close();
    await expect.poll(() => figure("jetbucket_watches"), { timeout: 10_000 }).toBe(before);
  });
});

test("a watch of a bucket that does not change gets no bookmark behind its kv_ready", async () => {
  const { api } = await startWatchStack(gateway.server, { bookmarks: 30 });
  await put("a", 1);
  const client = await openMultiplex(api);
  client.watch({ id: "1", bucket });
  client.watch({ id: "2", bucket, keys: ["b"] });
  await isReady(client, "1");
  await isReady(client, "2");
  await delay(300);
  expect(client.typesOf("1")).toEqual(["kv_update", "kv_ready"]);
  expect(client.typesOf("2")).toEqual(["kv_ready"]);
  // They are still told when it does change.
  await put("a", 2);
  await eventually(() => client.typesOf("2")).toEqual(["kv_ready", "kv_bookmark"]);
});

describe("unwatch", () => {
  test("ends a watch: nothing with its id follows the answer", async () => {
    const client = await open();
    client.watch({ id: "1", bucket });
    client.watch({ id: "2", bucket });
    await isReady(client, "1");
    await isReady(client, "2");
    const writes = Promise.all(Array.from({ length: 100 }, (_, i) => put(`k${i}`, i)));
    client.unwatch("1");
    await writes;
    await eventually(() => client.pairsOf("2")).toHaveLength(100);
    const types = client.typesOf("1");
    expect(types.filter((type) => type === "unwatched")).toHaveLength(1);
    expect(types.at(-1)).toBe("unwatched");
  });

  test("frees the id for another watch", async () => {
    const other = await newBucket();
    await put("x", 1, other);
    const client = await open();
    for (let round = 0; round < 50; round++) {
      client.watch({ id: "1", bucket: round % 2 === 0 ? bucket : other });
      client.unwatch("1");
    }
    client.watch({ id: "1", bucket: other });
    await eventually(() => client.typesOf("1").filter((type) => type === "unwatched").length).toBe(
      50,
    );
    await eventually(() => client.typesOf("1").at(-1)).toBe("kv_ready");
    const types = client.typesOf("1");
    expect(types.slice(types.lastIndexOf("unwatched") + 1)).toEqual(["kv_update", "kv_ready"]);
    expect(types).not.toContain("error");
    await put("x", 2, other);
    await put("a", 2);
    await eventually(() => client.pairsOf("1").at(-1)).toEqual(["x", 2]);
  });

  test("of what is not watched is answered as well", async () => {
    const client = await open();
    client.unwatch("never");
    await eventually(() => client.frames).toEqual([{ id: "never", type: "unwatched" }]);
  });
});

describe("an error", () => {
  test.each([
    ["a bucket that is not there", { bucket: "missing" }, "bucket_not_found", false],
    ["a name that no bucket has", { bucket: "no such name" }, "invalid_bucket_name", false],
    ["a system bucket", { bucket: "SYS_x" }, "invalid_bucket_name", false],
    ["a filter that is none", { keys: ["a..>.b"] }, "invalid_filter", false],
    ["another include", { include: "everything" }, "invalid_request", false],
    ["a position that is none", { since: "nonsense" }, "invalid_request", false],
    ["a member that is not known", { filter: "a" }, "invalid_request", false],
  ])("of %s has the id, and leaves the others alone", async (_what, asked, code, retryable) => {
    const client = await open();
    client.watch({ id: "good", bucket });
    client.watch({ id: "bad", bucket, ...asked });
    await eventually(() => client.of("bad")).toEqual([
      { id: "bad", type: "error", code, message: expect.any(String) as string, retryable },
    ]);
    await isReady(client, "good");
    await put("a", 1);
    await eventually(() => client.pairsOf("good")).toEqual([["a", 1]]);
    // The id is free.
    client.watch({ id: "bad", bucket });
    await isReady(client, "bad");
  });

  test("of an id that is in use ends the watch that had it, and no other", async () => {
    const client = await open();
    client.watch({ id: "1", bucket });
    client.watch({ id: "2", bucket });
    await isReady(client, "1");
    await isReady(client, "2");
    client.watch({ id: "1", bucket });
    await eventually(() => client.of("1").at(-1)).toMatchObject({
      type: "error",
      code: "invalid_request",
    });
    await put("a", 1);
    await eventually(() => client.pairsOf("2")).toEqual([["a", 1]]);
    expect(client.typesOf("1")).toEqual(["kv_ready", "error"]);
    client.watch({ id: "1", bucket });
    await eventually(() => client.pairsOf("1")).toEqual([["a", 1]]);
  });

  test("of an id that is in use while its bucket is made ready ends both", async () => {
    const client = await open();
    client.watch({ id: "1", bucket });
    client.watch({ id: "1", bucket });
    client.watch({ id: "2", bucket });
    await isReady(client, "2");
    await put("a", 1);
    await eventually(() => client.pairsOf("2")).toEqual([["a", 1]]);
    expect(client.typesOf("1")).toEqual(["error"]);
  });

  test("tells of a deleted bucket, while the watches of others go on", async () => {
    const other = await newBucket();
    const client = await open();
    for (const id of ["1", "2"]) client.watch({ id, bucket });
    client.watch({ id: "other", bucket: other });
    for (const id of ["1", "2", "other"]) await isReady(client, id);
    await call("DELETE", `${gateway.api}/buckets/${bucket}`);
    for (const id of ["1", "2"]) {
      await eventually(() => client.of(id).at(-1)).toMatchObject({
        type: "error",
        code: "bucket_not_found",
        retryable: false,
      });
    }
    await put("x", 1, other);
    await eventually(() => client.pairsOf("other")).toEqual([["x", 1]]);
    expect(client.closed).toBeUndefined();
  });
});

describe("the socket is refused", () => {
  test("without the subprotocol, since there is no other form of its frames", async () => {
    expect(await refusedWatch(multiplexUrl(gateway.api), { plain: true })).toMatchObject({
      status: 400,
      body: { code: "invalid_request" },
    });
  });

  test("for a page of another origin, and for another host", async () => {
    const url = multiplexUrl(gateway.api);
    for (const options of [
      { origin: "https://evil.example.com" },
      { headers: { Host: "evil.example.com" } },
    ]) {
      expect(await refusedWatch(url, options)).toMatchObject({
        status: 403,
        body: { code: "forbidden" },
      });
    }
  });

  test("as a plain request, which says what it is", async () => {
    for (const headers of [{}, { Accept: "text/event-stream" }]) {
      expect(await call("GET", `${gateway.api}/watch`, undefined, headers)).toMatchObject({
        status: 400,
        body: { code: "invalid_request" },
      });
    }
    expect(await call("POST", `${gateway.api}/watch`)).toMatchObject({ status: 405 });
  });
});

describe("a client that is not to be trusted", () => {
  const huge = "x".repeat(65);
  test.each([
    ["text that is no JSON", "hello"],
    ["JSON that is no object", "[1]"],
    ["another type", '{"type":"subscribe","id":"1"}'],
    ["a frame without an id", '{"type":"watch","bucket":"b"}'],
    ["an id that is a number", '{"type":"unwatch","id":1}'],
    ["an id that is too long", JSON.stringify({ type: "unwatch", id: huge })],
    ["an id with other characters", '{"type":"unwatch","id":"\\u0000"}'],
    ["a binary frame", Buffer.from('{"type":"unwatch","id":"1"}')],
  ])("is closed with 4400 for %s, and what came behind it is not done", async (_what, frame) => {
    const client = await open();
    client.watch({ id: "1", bucket });
    await isReady(client, "1");
    client.send(frame);
    for (let i = 0; i < 100; i++) client.unwatch(`${i}`);
    await eventually(() => client.closed).toMatchObject({ code: 4400 });
    expect(client.typesOf("1")).toEqual(["kv_ready"]);
  });

  test("is closed with 1009 for a frame beyond 64 KiB, and may send one of just that", async () => {
    const client = await open();
    const frame = (length: number): string => {
      const start = '{"type":"unwatch","id":"1"';
      return `${start}${" ".repeat(length - start.length - 1)}}`;
    };
    client.send(frame(64 * 1024));
    await eventually(() => client.typesOf("1")).toEqual(["unwatched"]);
    client.send(frame(64 * 1024 + 1));
    await eventually(() => client.closed).toMatchObject({ code: 1009 });
  });

  test("may go away in the middle of a watch that begins", async () => {
    const before = await figure("jetbucket_watches");
    for (let round = 0; round < 30; round++) {
      const client = await open();
      for (let i = 0; i < 10; i++) client.watch({ id: `${i}`, bucket });
      if (round % 3 === 0) client.socket.terminate();
      else if (round % 3 === 1) client.socket.close();
      else client.unwatch("3");
      if (round % 3 === 2) client.socket.close();
      await once(client.socket, "close");
    }
    await expect.poll(() => figure("jetbucket_watches"), { timeout: 10_000 }).toBe(before);
    const client = await open();
    client.watch({ id: "1", bucket });
    await isReady(client, "1");
  });

  test("gets an answer to each of thousands of bad frames, and others do not notice", async () => {
    const other = await openWatch(watchUrl(gateway.api, bucket));
    const client = await open();
    const frames = 5_000;
    for (let i = 0; i < frames; i++) {
      client.send(`{"type":"watch","id":"${i}","bucket":"${bucket}","include":"x"}`);
    }
    const started = performance.now();
    await put("a", 1);
    await eventually(() => other.updates.length).toBe(1);
    expect(performance.now() - started).toBeLessThan(2_000);
    await eventually(() => client.frames.length, 20_000).toBe(frames);
    expect(new Set(client.frames.map(({ id }) => id)).size).toBe(frames);
    client.watch({ id: "good", bucket });
    await isReady(client, "good");
  }, 30_000);

  test("can come and go thousands of times on one socket", async () => {
    await put("a", 1);
    const before = await figure("jetbucket_watches");
    const client = await open();
    for (let i = 0; i < 3_000; i++) {
      client.watch({ id: `${i % 7}`, bucket, keys: [`k${i % 50}.*`] });
      client.unwatch(`${i % 7}`);
    }
    client.watch({ id: "last", bucket });
    await eventually(() => client.typesOf("last"), 20_000).toContain("kv_ready");
    await eventually(
      () => client.frames.filter(({ type }) => type === "unwatched").length,
      20_000,
    ).toBe(3_000);
    await expect.poll(() => figure("jetbucket_watches"), { timeout: 10_000 }).toBe(before + 1);
  }, 60_000);

  test("that sends and reads nothing of the answers is not read any more, either", async () => {
    const socket = new WebSocket(multiplexUrl(gateway.api), ["jetbucket.v1"]);
    onTestFinished(() => socket.terminate());
    socket.on("error", () => undefined);
    await once(socket, "open");
    socket.pause();
    const frame = `{"type":"unwatch","id":"${"x".repeat(64)}"}`;
    // The kernel's buffers fill up on both sides, then the gateway's bound is reached, and nothing leaves any more: for longer
    // than the gateway would wait only because there are so many.
    const full = 4 * 1024 * 1024;
    let still = 0;
    let before = 0;
    const pollsWithoutProgress = (): number => {
      while (socket.bufferedAmount < full) socket.send(frame);
      still = socket.bufferedAmount === before ? still + 1 : 0;
      before = socket.bufferedAmount;
      return still;
    };
    await eventually(pollsWithoutProgress, 50_000).toBeGreaterThan(150);
    const other = await open();
    other.watch({ id: "1", bucket });
    await isReady(other, "1");
  }, 60_000);

  test("that reads nothing of its watches holds up nobody, and costs a bounded amount", async () => {
    const other = await open();
    other.watch({ id: "1", bucket });
    await isReady(other, "1");
    const deaf = await open();
    for (let i = 0; i < 20; i++) deaf.watch({ id: `${i}`, bucket });
    for (let i = 0; i < 20; i++) await isReady(deaf, `${i}`);
    deaf.socket.pause();
    const value = "x".repeat(100_000);
    let slowest = 0;
    for (let i = 0; i < 100; i++) {
      const started = performance.now();
      await put(`k${i % 10}`, `${i}${value}`);
      await eventually(() => other.pairsOf("1").length).toBe(i + 1);
      slowest = Math.max(slowest, performance.now() - started);
    }
    expect(slowest).toBeLessThan(2_000);
    expect(await figure("jetbucket_outbox_bytes")).toBeLessThan(32 * 1024 * 1024);
    deaf.socket.resume();
    // Whatever it missed, it ends up with the last of each key under each id, or is told to start over.
    for (let i = 0; i < 20; i++) {
      await eventually(() => new Map(deaf.pairsOf(`${i}`)).get("k9") === `99${value}`, 20_000).toBe(
        true,
      );
    }
  }, 60_000);
});

test("a shutdown sends sockets elsewhere by 1001, those without a watch as well", async () => {
  const own = await startGateway(gateway.server);
  const idle = await openMultiplex(own.api);
  const busy = await openMultiplex(own.api);
  for (let i = 0; i < 5; i++) busy.watch({ id: `${i}`, bucket });
  for (let i = 0; i < 5; i++) await isReady(busy, `${i}`);
  await own.close();
  for (const client of [idle, busy]) {
    await eventually(() => client.closed).toMatchObject({ code: 1001 });
    expect(client.frames.some(({ type }) => type === "error")).toBe(false);
  }
});
