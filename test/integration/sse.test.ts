import { connect } from "node:net";
import { once } from "node:events";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import {
  EventsClient,
  openEvents,
  requestEvents,
  type NoEvents,
} from "../support/events-client.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { openWatch, watchUrl } from "../support/watch-client.ts";

let gateway: TestGateway;
let count = 0;
/** A bucket that each test has for itself. */
let name: string;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
});

afterAll(() => gateway.close());

async function newBucket(settings: object = {}): Promise<void> {
  name = `s${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
  const answer = await callJson("POST", `${gateway.api}/buckets`, { name, ...settings });
  expect(answer.status).toBe(201);
}

beforeEach(() => newBucket());

const put = (key: string, value: unknown): Promise<Answer> =>
  callJson("PUT", `${bucket}/keys/${key}`, value);
const remove = (key: string): Promise<Answer> => call("DELETE", `${bucket}/keys/${key}`);
const events = (query = "", headers: Record<string, string> = {}): Promise<EventsClient> =>
  openEvents(`${bucket}/watch${query}`, headers);
const isReady = (client: EventsClient): Promise<void> =>
  eventually(() => client.types).toContain("kv_ready");

async function refused(query = "", headers: Record<string, string> = {}): Promise<NoEvents> {
  const answer = await requestEvents(`${bucket}/watch${query}`, headers);
  if (answer instanceof EventsClient) throw new Error("it was not refused");
  return answer;
}

describe("a stream of events", () => {
  test("has the frames of jetbucket.v1 as messages, with positions as ids", async () => {
    await put("a", 1);
    await put("b", "line\nbreak");
    const client = await events();
    await isReady(client);
    await put("a", 2);
    await eventually(() => client.pairs).toEqual([
      ["a", 1],
      ["b", "line\nbreak"],
      ["a", 2],
    ]);
    expect(client.types).toEqual(["kv_update", "kv_update", "kv_ready", "kv_update"]);
    const [first, second, ready, update] = client.events;
    for (const { type } of client.events) expect(type).toBe("message");
    // Nobody may go on in the middle of a snapshot.
    expect([first!.lastId, second!.lastId]).toEqual(["", ""]);
    expect(ready!.frame).toMatchObject({ position: ready!.lastId, count: 2 });
    expect(update!.lastId).not.toBe(ready!.lastId);
    expect(client.retry).toBe(1_000);
    expect(client.response.headers).toMatchObject({
      "content-type": "text/event-stream",
      "cache-control": "no-store",
    });
  });

  test("takes the options of the address", async () => {
    await newBucket({ history: 5 });
    await put("a.1", 1);
    await put("a.1", 2);
    await put("b.1", 3);
    const history = await events("?include=history&key=a.*");
    await isReady(history);
    expect(history.pairs).toEqual([
      ["a.1", 1],
      ["a.1", 2],
    ]);
    const keys = await events("?values=false&key=b.1&key=c");
    await isReady(keys);
    expect(keys.frames[0]).toMatchObject({ key: "b.1", size: 1, operation: "put" });
    expect(keys.frames[0]).not.toHaveProperty("value");
    const updates = await events("?include=updates");
    await isReady(updates);
    expect(updates.types).toEqual(["kv_ready"]);
  });

  test("has a transaction as one event", async () => {
    const client = await events();
    await isReady(client);
    await callJson("POST", `${bucket}/transactions`, {
      operations: [
        { op: "put", key: "a", value: { b: [1] } },
        { op: "put", key: "b", value: 2 },
      ],
    });
    await eventually(() => client.frames.at(-1)).toMatchObject({
      type: "kv_transaction",
      events: [
        { key: "a", value: { b: [1] } },
        { key: "b", value: 2 },
      ],
    });
  });

  test("comes as it is over the wire, without chunks, as curl -N shows it", async () => {
    await put("a", 1);
    const { port } = new URL(gateway.url);
    const socket = connect(Number(port), "localhost");
    onTestFinished(() => void socket.destroy());
    await once(socket, "connect");
    let text = "";
    socket.on("data", (data) => (text += data.toString()));
    socket.write(
      `GET /api/v1/kv/buckets/${name}/watch HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`,
    );
    await eventually(() => text).toContain("kv_ready");
    const [head, body] = text.split("\r\n\r\n") as [string, string];
    expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(head).not.toMatch(/transfer-encoding|content-length/i);
    expect(head).toMatch(/^connection: close$/im);
    expect(body).toMatch(
      /^retry: 1000\n\ndata: \{"type":"kv_update".*\}\n\nid: \S+\ndata: \{"type":"kv_ready".*\}\n\n$/s,
    );
  });

  test("is not wanted any more when its client goes: nothing stays behind", async () => {
    const figure = async (): Promise<string | undefined> =>
      /^jetbucket_sockets\{kind="events"\} (\d+)$/m.exec(
        String((await call("GET", `${gateway.url}/metrics`)).body),
      )?.[1];
    const client = await events();
    await isReady(client);
    await expect.poll(figure).not.toBe("0");
    client.cut();
    await expect.poll(figure, { timeout: 10_000 }).toBe("0");
  });

  test("whose client does not read holds up nobody, and has the latest when it goes on", async () => {
    const slow = await events();
    const other = await openWatch(watchUrl(gateway.api, name));
    await isReady(slow);
    slow.response.pause();
    const value = "x".repeat(100_000);
    for (let i = 0; i < 200; i++) await put(`k${i % 5}`, `${i}${value}`);
    await eventually(() => other.updates.length).toBe(200);
    slow.response.resume();
    await eventually(() => new Map(slow.pairs).get("k4") === `199${value}`, 20_000).toBe(true);
    expect(slow.frames.length).toBeLessThan(200);
    expect(slow.frames.some(({ conflated = 0 }) => conflated > 0)).toBe(true);
  }, 30_000);
});

describe("a client that comes again", () => {
  test("with Last-Event-ID goes on exactly where it was", async () => {
    await put("a", 1);
    const first = await events();
    await isReady(first);
    await put("b", 2);
    await put("c", 3);
    await eventually(() => first.pairs).toHaveLength(3);
    first.cut();
    await put("a", 3);
    await remove("b");
    const second = await events("", { "Last-Event-ID": first.lastId });
    await isReady(second);
    expect(second.pairs).toEqual([
      ["a", 3],
      ["b", undefined],
    ]);
    expect(second.types).not.toContain("kv_reset");
    // Each live change has an id of its own, and who was cut off there gets the next one.
    const third = await events("", { "Last-Event-ID": first.events.at(-2)!.lastId });
    await isReady(third);
    expect(third.pairs).toEqual([
      ["c", 3],
      ["a", 3],
      ["b", undefined],
    ]);
  });

  test("can say so in the address, where Last-Event-ID counts more, since it is newer", async () => {
    const first = await events();
    await isReady(first);
    const start = first.lastId;
    await put("a", 1);
    await put("b", 2);
    await eventually(() => first.pairs).toHaveLength(2);
    const second = await events(`?since=${start}`);
    await isReady(second);
    expect(second.pairs).toHaveLength(2);
    const third = await events(`?since=${start}`, { "Last-Event-ID": first.lastId });
    await isReady(third);
    expect(third.pairs).toEqual([]);
  });

  test("to a bucket that is another one now is told to forget what it has", async () => {
    await put("old", 1);
    const first = await events();
    await isReady(first);
    await call("DELETE", bucket);
    await callJson("POST", `${gateway.api}/buckets`, { name });
    await put("new", 1);
    const second = await events("", { "Last-Event-ID": first.lastId });
    await isReady(second);
    expect(second.types).toEqual(["kv_reset", "kv_update", "kv_ready"]);
    expect(second.events[0]).toMatchObject({ frame: { reason: "epoch_changed" }, lastId: "" });
    expect(second.pairs).toEqual([["new", 1]]);
  });

  test("with an id that is no position is told to start over, since a refusal would be for good", async () => {
    await put("a", 1);
    for (const id of ["x", "1-2-3-4", "mjwe1cwu-2, mjwe1cwu-3"]) {
      const client = await events("", { "Last-Event-ID": id });
      await isReady(client);
      expect(client.types).toEqual(["kv_reset", "kv_update", "kv_ready"]);
      expect(client.events[0]).toMatchObject({ frame: { reason: "epoch_changed" }, lastId: "" });
    }
  });

  test("with another set of filters is told to start over", async () => {
    await put("a", 1);
    const first = await events("?key=a");
    await isReady(first);
    const second = await events("?key=b", { "Last-Event-ID": first.lastId });
    await isReady(second);
    expect(second.frames[0]).toMatchObject({ type: "kv_reset", reason: "filter_changed" });
  });
});

describe("an error before the start is an ordinary answer", () => {
  test.each([
    ["an unknown include", "?include=all", {}, 400, "invalid_request"],
    ["a filter that is none", "?key=a..>.b", {}, 400, "invalid_filter"],
    ["values that are no flag", "?values=7", {}, 400, "invalid_request"],
    ["a position that is none", "?since=x", {}, 400, "invalid_request"],
    ["a plain request", "", { Accept: "*/*" }, 400, "invalid_request"],
    ["a page of another origin", "", { Origin: "https://evil.example.com" }, 403, "forbidden"],
    ["another host", "", { Host: "evil.example.com" }, 403, "forbidden"],
  ])("to %s", async (_what, query, headers, status, code) => {
    const answer = await refused(query, headers);
    expect(answer).toMatchObject({
      status,
      headers: { "content-type": "application/json" },
      body: { code, request_id: expect.any(String) as string },
    });
  });

  test("for a bucket that is not there", async () => {
    bucket = `${gateway.api}/buckets/missing`;
    expect(await refused()).toMatchObject({ status: 404, body: { code: "bucket_not_found" } });
  });

  test("to another method, with those that work", async () => {
    const answer = await call("POST", `${bucket}/watch`, "");
    expect(answer.status).toBe(405);
    expect(answer.headers.get("Allow")).toBe("GET, HEAD");
  });
});

test("a HEAD says what a GET would begin with, and ends", async () => {
  const answer = await call("HEAD", `${bucket}/watch`, undefined, { Accept: "text/event-stream" });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("Content-Type")).toBe("text/event-stream");
});

test("a page of an allowed origin may read the stream, and what is refused to it", async () => {
  const origin = "http://localhost:5173";
  const client = await events("", { Origin: origin });
  await isReady(client);
  expect(client.response.headers).toMatchObject({
    "access-control-allow-origin": origin,
    vary: "Origin",
  });
  const answer = await refused("?include=all", { Origin: origin });
  expect(answer.headers["access-control-allow-origin"]).toBe(origin);
});

describe("the end of a watch is an event, then the end of the stream", () => {
  test("when the bucket is deleted", async () => {
    const client = await events();
    await isReady(client);
    await call("DELETE", bucket);
    await eventually(() => client.isEnded).toBe(true);
    expect(client.events.at(-1)).toMatchObject({
      type: "message",
      frame: { type: "error", code: "bucket_not_found", retryable: false },
    });
    // An EventSource comes again, is refused, and gives up.
    expect(await refused()).toMatchObject({ status: 404 });
  });

  test("when the gateway shuts down, which does not wait for clients", async () => {
    const own = await startGateway(gateway.server);
    const client = await openEvents(`${own.api}/buckets/${name}/watch`);
    await isReady(client);
    const started = performance.now();
    await own.close();
    expect(performance.now() - started).toBeLessThan(1_500);
    await eventually(() => client.isEnded).toBe(true);
    expect(client.frames.at(-1)).toMatchObject({
      type: "error",
      code: "shutting_down",
      retryable: true,
    });
  });
});
