import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { EntryBody, KeyList } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { startTestNats } from "../support/nats.ts";
import { openWatch, refusedWatch, watchUrl, type WatchClient } from "../support/watch-client.ts";

async function bucketOn(gateway: TestGateway, settings: object = {}): Promise<string> {
  const answer = await callJson("POST", `${gateway.api}/buckets`, { name: "b", ...settings });
  expect(answer.status).toBe(201);
  return `${gateway.api}/buckets/b`;
}

interface Timed {
  answer: Answer;
  ms: number;
}

async function timed(request: () => Promise<Answer>): Promise<Timed> {
  const started = performance.now();
  const answer = await request();
  return { answer, ms: performance.now() - started };
}

function expectUnavailable({ answer }: Timed): void {
  expect(answer).toMatchObject({
    status: 503,
    body: { code: "store_unavailable", retryable: true },
  });
  expect(Number(answer.headers.get("Retry-After"))).toBeGreaterThan(0);
}

async function storedIn(bucket: string): Promise<Record<string, unknown>> {
  let listing = await call("GET", `${bucket}/keys`);
  // A listing may be refused a little longer than other requests: until changes are followed again.
  await eventually(async () => (listing = await call("GET", `${bucket}/keys`)).status).toBe(200);
  const { keys } = listing.body as KeyList;
  const entries = keys.map(async (key): Promise<[string, unknown]> => {
    const { body } = await call("GET", `${bucket}/keys/${key}`);
    return [key, (body as EntryBody).value];
  });
  return Object.fromEntries(await Promise.all(entries));
}

const stateOfProcess = (pid: number): string =>
  execFileSync("ps", ["-o", "state=", "-p", String(pid)], { encoding: "utf8" });

const stateOf = (client: WatchClient): Record<string, unknown> => Object.fromEntries(client.state);

describe("NATS killed and started again", () => {
  test("under load: requests fail fast with 503, then work, and watchers end with every key's latest state", async () => {
    const gateway = await startGateway();
    const { server } = gateway;
    const bucket = await bucketOn(gateway, { history: 3 });
    const clients = await Promise.all([
      openWatch(watchUrl(gateway.api, "b")),
      openWatch(watchUrl(gateway.api, "b"), { plain: true }),
      openWatch(watchUrl(gateway.api, "b", "include=updates")),
    ]);
    await eventually(() => clients[0].ready.length).toBe(1);

    let running = true;
    const during: Timed[] = [];
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let i = 0; running; i++) {
        const at = `${bucket}/keys/key.${(i * 7 + writer) % 25}`;
        const result = await timed(() =>
          i % 6 === 5 ? call("DELETE", at) : callJson("PUT", at, `${writer}.${i}`),
        );
        during.push(result);
        if (result.answer.status === 503) await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
    const succeeded = (): number => during.filter(({ answer }) => answer.status < 300).length;
    await eventually(succeeded).toBeGreaterThan(200);
    await server.kill();
    const away = performance.now();
    await eventually(
      () => during.filter(({ answer }) => answer.status === 503).length,
    ).toBeGreaterThan(300);
    expect(await call("GET", `${gateway.url}/ready`)).toMatchObject({ status: 503 });
    expect(await call("GET", `${gateway.url}/health`)).toMatchObject({ status: 200 });
    await server.restart();
    const outage = performance.now() - away;
    const before = succeeded();
    const restarted = performance.now();
    await eventually(succeeded).toBeGreaterThan(before);
    const recovery = performance.now() - restarted;
    await eventually(succeeded).toBeGreaterThan(before + 200);
    running = false;
    await Promise.all(writers);

    const failed = during.filter(({ answer }) => answer.status >= 300);
    for (const result of failed) expectUnavailable(result);
    const slowest = Math.max(...failed.map(({ ms }) => ms));
    expect(slowest).toBeLessThan(1_000);
    console.log(
      `NATS away ${Math.round(outage)} ms: ${failed.length} requests answered 503, the slowest after ${Math.round(slowest)} ms; first success ${Math.round(recovery)} ms after the restart`,
    );

    const stored = await storedIn(bucket);
    expect(Object.keys(stored).length).toBeGreaterThan(5);
    for (const client of clients) {
      await eventually(() => stateOf(client)).toEqual(stored);
      expect(client.closed).toBeUndefined();
      const revisions = client.updates.map(({ revision }) => revision);
      expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
    }
    const marks = (): string[] =>
      clients[0].frames.map(({ type }) => type).filter((type) => type !== "kv_update");
    await eventually(marks).toEqual(["kv_ready", "kv_stale", "kv_ready"]);
    expect(clients[1].frames.every(({ type }) => type === "kv_update")).toBe(true);
  });

  test("watchers learn of keys that another client changed, deleted and purged while the gateway was away from it", async () => {
    const server = await startTestNats();
    const gateway = await startGateway(server);
    const bucket = await bucketOn(gateway, { history: 2 });
    for (const key of ["kept", "changed", "deleted", "purged", "wiped"]) {
      await callJson("PUT", `${bucket}/keys/${key}`, "before");
    }
    const client = await openWatch(watchUrl(gateway.api, "b"));
    await eventually(() => client.ready.length).toBe(1);
    // The feed remembers what it needs only once it has read all keys: a change on the feed comes after that.
    await callJson("PUT", `${bucket}/keys/last`, "before");
    await eventually(() => client.state.size).toBe(6);

    // The server freezes for the gateway: what the other client does is done the moment it goes on.
    await server.kill();
    await server.restart();
    const foreign = await connectForeign(server.url);
    const kv = await foreign.kvm.open("APP_b");
    await kv.put("changed", '"after"');
    await kv.delete("deleted");
    await kv.purge("purged");
    // Without a trace in the stream, as an expired marker would leave it.
    await foreign.jsm.streams.purge("KV_APP_b", { filter: "$KV.APP_b.wiped" });
    await foreign.nats.drain();
    await server.kill();
    await server.restart();

    await eventually(() => stateOf(client), 15_000).toEqual({
      kept: "before",
      changed: "after",
      last: "before",
    });
    expect(client.closed).toBeUndefined();
  });

  test("keys that expired meanwhile are reported as deleted", async () => {
    const gateway = await startGateway();
    const bucket = await bucketOn(gateway, { ttl_seconds: 2, history: 2 });
    const client = await openWatch(watchUrl(gateway.api, "b"));
    await eventually(() => client.ready.length).toBe(1);
    for (const key of ["a", "b"]) await callJson("PUT", `${bucket}/keys/${key}`, 1);
    await eventually(() => client.state.size).toBe(2);
    await gateway.server.kill();
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await gateway.server.restart();
    await eventually(() => client.ready.length, 15_000).toBe(2);
    await eventually(() => stateOf(client), 15_000).toEqual({});
    expect(client.updates.slice(2)).toMatchObject([
      { operation: "delete" },
      { operation: "delete" },
    ]);
    await callJson("PUT", `${bucket}/keys/c`, 1);
    await eventually(() => stateOf(client)).toEqual({ c: 1 });
  });

  test("a bucket that was deleted and created again meanwhile closes its watches with 4404", async () => {
    const data = await startTestNats();
    const gateway = await startGateway(data);
    const bucket = await bucketOn(gateway);
    await callJson("PUT", `${bucket}/keys/old`, 1);
    const client = await openWatch(watchUrl(gateway.api, "b"));
    await eventually(() => client.ready.length).toBe(1);
    // On a port of its own the server cannot be reached by the gateway.
    await data.kill();
    const other = await startTestNats({ dataDir: data.dataDir });
    const foreign = await connectForeign(other.url);
    await foreign.jsm.streams.delete("KV_APP_b");
    const kv = await foreign.kvm.create("APP_b");
    for (const key of ["x", "y", "z"]) await kv.put(key, "1");
    await foreign.close();
    await other.kill();
    await data.restart();
    await eventually(() => client.closed, 15_000).toMatchObject({ code: 4404 });
    const next = await openWatch(watchUrl(gateway.api, "b"));
    await eventually(() => stateOf(next)).toEqual({ x: 1, y: 1, z: 1 });
  });
});

test("while NATS is away, a new watch is refused with 503, and accepted afterwards", async () => {
  const gateway = await startGateway();
  const bucket = await bucketOn(gateway);
  const first = await openWatch(watchUrl(gateway.api, "b"));
  await eventually(() => first.ready.length).toBe(1);
  await gateway.server.kill();
  await eventually(() => first.frames.at(-1)).toMatchObject({ type: "kv_stale" });
  for (const include of ["snapshot", "updates", "history"]) {
    const answer = await refusedWatch(watchUrl(gateway.api, "b", `include=${include}`));
    expect(answer).toMatchObject({ status: 503, body: { code: "store_unavailable" } });
    expect(answer.headers["retry-after"]).toBeDefined();
  }
  await gateway.server.restart();
  await eventually(() => first.frames.at(-1)).toMatchObject({ type: "kv_ready" });
  const second = await openWatch(watchUrl(gateway.api, "b"));
  await callJson("PUT", `${bucket}/keys/k`, 1);
  for (const client of [first, second]) await eventually(() => stateOf(client)).toEqual({ k: 1 });
});

test("NATS that is frozen: requests are answered by 503 within a deadline, and work when it goes on", async () => {
  const gateway = await startGateway();
  const bucket = await bucketOn(gateway);
  await callJson("PUT", `${bucket}/keys/k`, 1);
  gateway.server.pause();
  // A signal takes effect a little later: a request sent at once may still be answered.
  await eventually(() => stateOfProcess(gateway.server.pid)).toMatch(/^T/);
  const results = await Promise.all([
    timed(() => call("GET", `${bucket}/keys/k`)),
    timed(() => callJson("PUT", `${bucket}/keys/k`, 2)),
    timed(() => call("GET", `${bucket}/keys`)),
    timed(() => call("GET", bucket)),
    timed(() => call("GET", `${gateway.url}/ready`)),
  ]);
  expect(results.map(({ answer }) => answer.status)).toEqual([503, 503, 503, 503, 503]);
  for (const result of results) {
    expectUnavailable(result);
    expect(result.ms).toBeLessThan(6_000);
  }
  gateway.server.resume();
  await eventually(async () => (await callJson("PUT", `${bucket}/keys/k`, 3)).status).toBe(200);
  expect((await call("GET", `${bucket}/keys/k`)).body).toMatchObject({ value: 3 });
});

test("a feed's consumer that an admin deletes is replaced: the watcher gets what came later", async () => {
  const gateway = await startGateway();
  const bucket = await bucketOn(gateway, { history: 5 });
  const foreign = await connectForeign(gateway.server.url);
  const client = await openWatch(watchUrl(gateway.api, "b"));
  await eventually(() => client.ready.length).toBe(1);
  await callJson("PUT", `${bucket}/keys/k`, 1);
  await eventually(() => client.updates.length).toBe(1);
  const consumers = await foreign.jsm.consumers.list("KV_APP_b").next();
  expect(consumers).toHaveLength(1);
  for (const consumer of consumers) await foreign.jsm.consumers.delete("KV_APP_b", consumer.name);
  for (const value of [2, 3]) await callJson("PUT", `${bucket}/keys/k`, value);
  await eventually(() => client.pairs, 20_000).toEqual([
    ["k", 1],
    ["k", 2],
    ["k", 3],
  ]);
  expect(client.closed).toBeUndefined();
  await callJson("PUT", `${bucket}/keys/k`, 4);
  await eventually(() => client.pairs.length).toBe(4);
  expect((await foreign.jsm.streams.info("KV_APP_b")).state.consumer_count).toBe(1);
});
