/** Faults that a review found, each as the behaviour that it broke. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { headers } from "nats";
import { beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { Feed } from "../../src/store/feed.ts";
import { Feeds } from "../../src/store/feeds.ts";
import { IndexBudget } from "../../src/store/index-budget.ts";
import { JetStream, type StreamInfo } from "../../src/store/jetstream.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";
import { openWatch, watchUrl } from "../support/watch-client.ts";

let gateway: TestGateway;
let foreign: ForeignClient;
let count = 0;

beforeAll(async () => {
  gateway = await startGateway();
  foreign = await connectForeign(gateway.server.url);
  return async () => {
    await foreign.close();
    await gateway.close();
  };
});

interface NewBucket {
  name: string;
  url: string;
}

async function newBucket(settings: object = {}, on = gateway): Promise<NewBucket> {
  const name = `r${count++}`;
  const answer = await callJson("POST", `${on.api}/buckets`, { name, ...settings });
  expect(answer.status).toBe(201);
  return { name, url: `${on.api}/buckets/${name}` };
}

const put = (bucket: NewBucket, key: string, value: unknown, query = ""): Promise<Answer> =>
  callJson("PUT", `${bucket.url}/keys/${key}${query}`, value);
const get = (bucket: NewBucket, key: string): Promise<Answer> =>
  call("GET", `${bucket.url}/keys/${key}`);
const list = (bucket: NewBucket, query = ""): Promise<Answer> =>
  call("GET", `${bucket.url}/keys${query}`);

describe("keys", () => {
  test("named like a transaction's own messages are keys like any other", async () => {
    const bucket = await newBucket();
    for (const key of ["_jetbucket/carrier", "_jetbucket=2Fcarrier"])
      await put(bucket, key, "mine");
    const operations = [
      { op: "check", key: "absent", revision: 0 },
      { op: "create", key: "made", value: 1 },
    ];
    expect(await callJson("POST", `${bucket.url}/transactions`, { operations })).toMatchObject({
      status: 200,
    });
    expect((await list(bucket)).body.keys).toEqual([
      "_jetbucket/carrier",
      "_jetbucket=2Fcarrier",
      "made",
    ]);
    for (const key of ["_jetbucket/carrier", "_jetbucket=2Fcarrier"]) {
      expect((await get(bucket, key)).body).toMatchObject({ key, value: "mine" });
    }
  });

  test("outlive the compaction of another client's key that reads like them", async () => {
    const bucket = await newBucket();
    await put(bucket, "page=10", "mine");
    const kv = await foreign.kvm.open(`APP_${bucket.name}`);
    await kv.put("page=10", "theirs");
    await kv.delete("page=10");
    expect((await callJson("POST", `${bucket.url}/compact`, { older_than: 0 })).body).toEqual({
      removed: 1,
    });
    expect((await get(bucket, "page=10")).body).toMatchObject({ value: "mine" });
  });
});

describe("what another client wrote", () => {
  /** Publishes with headers that no client library would send. */
  async function publishRaw(subject: string, head: string): Promise<void> {
    const socket = connect(gateway.server.port, "127.0.0.1");
    socket.write('CONNECT {"verbose":false,"headers":true}\r\n');
    socket.write(`HPUB ${subject} ${head.length} ${head.length + 1}\r\n${head}1\r\nPING\r\n`);
    await new Promise<void>((resolve) => {
      socket.on("data", (data) => {
        if (data.includes("PONG")) resolve();
      });
    });
    socket.destroy();
  }

  test("with a time to live beyond all dates disturbs nobody", async () => {
    const bucket = await newBucket({ history: 2 });
    const watch = await openWatch(watchUrl(gateway.api, bucket.name));
    await eventually(() => watch.ready.length).toBe(1);
    const endless = headers();
    endless.set("Nats-TTL", "9000000000000");
    await foreign.nats.request(`$KV.APP_${bucket.name}.endless`, "1", {
      headers: endless,
      timeout: 2_000,
    });
    await put(bucket, "after", 1);
    await eventually(() => watch.updates.some(({ key }) => key === "after")).toBe(true);
    expect(watch.ready).toHaveLength(1);
    expect((await get(bucket, "after")).status).toBe(200);
  });

  test.each([
    ["a name that is none", "NATS/1.0\r\nMy Header: x\r\n\r\n"],
    ["a status", "NATS/1.0 100 Idle Heartbeat\r\n\r\n"],
    ["the status of an end", "NATS/1.0 204 EOB\r\n\r\n"],
  ])("with %s in its headers disturbs nobody", async (_, head) => {
    const bucket = await newBucket({ history: 2 });
    const watch = await openWatch(watchUrl(gateway.api, bucket.name));
    await put(bucket, "before", 1);
    await publishRaw(`$KV.APP_${bucket.name}.odd`, head);
    await put(bucket, "after", 1);
    const read = await Promise.all([
      get(bucket, "odd"),
      get(bucket, "after"),
      get(bucket, "before"),
    ]);
    expect(read.slice(1).map(({ status }) => status)).toEqual([200, 200]);
    await eventually(() => watch.updates.map(({ key }) => key)).toEqual(["before", "odd", "after"]);
    expect((await list(bucket)).body.keys).toEqual(["after", "before", "odd"]);
    expect(watch.ready).toHaveLength(1);
    const later = await openWatch(watchUrl(gateway.api, bucket.name));
    await eventually(() => later.ready.length).toBe(1);
    expect(later.updates).toHaveLength(3);
  });
});

describe("reads of the same moment", () => {
  test("are all answered, however large the values are together", async () => {
    const connection = await StoreConnection.open({ servers: [gateway.server.url] });
    onTestFinished(() => connection.close());
    const { name } = await newBucket();
    const bucket = await new Buckets(connection).open(name);
    // More than JetStream puts into one answer.
    const keys = Array.from({ length: 80 }, (_, i) => `k${i}`);
    const value = { bytes: new Uint8Array(1_000_000), type: "bytes" } as const;
    for (const key of keys) await bucket.put(key, value);
    const found = await Promise.all(keys.map((key) => bucket.find(key)));
    expect(found.filter((entry) => entry === undefined)).toEqual([]);
  });

  test("of a page end early when the values are large, and the cursor goes on", async () => {
    const bucket = await newBucket();
    const value = "x".repeat(900_000);
    for (let i = 10; i < 50; i++) await call("PUT", `${bucket.url}/keys/k${i}`, value);
    const seen: string[] = [];
    let pages = 0;
    for (let cursor = ""; pages === 0 || cursor !== ""; pages++) {
      const { body } = await list(bucket, `?values=true${cursor && `&cursor=${cursor}`}`);
      seen.push(...(body.keys as string[]));
      cursor = (body.next_cursor as string | undefined) ?? "";
    }
    expect(pages).toBeGreaterThan(1);
    expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => `k${i + 10}`));
  });

  test("by a cache are not kept without asking again", async () => {
    const bucket = await newBucket();
    await put(bucket, "k", 1);
    const { headers: found } = await call("GET", `${bucket.url}/keys/k?raw=true`);
    expect(found.get("Last-Modified")).not.toBeNull();
    expect(found.get("Cache-Control")).toBe("no-cache");
  });
});

describe("a listing", () => {
  test("is whole when the index outgrows its memory meanwhile", async () => {
    const connection = await StoreConnection.open({ servers: [gateway.server.url] });
    const buckets = new Buckets(connection, 300_000);
    onTestFinished(async () => {
      await buckets.close();
      await connection.close();
    });
    const { name } = await newBucket();
    const bucket = await buckets.open(name);
    const write = (key: string): Promise<unknown> =>
      bucket.put(key, { bytes: new Uint8Array(1), type: "bytes" });
    await Promise.all(Array.from({ length: 1000 }, (_, i) => write(`first-${i}`)));
    const done = new AbortController();
    const counts: number[] = [];
    const listing = (async () => {
      while (!done.signal.aborted) counts.push((await buckets.keys(bucket, {})).keys.length);
    })();
    for (let i = 0; i < 300; i++) {
      const some = Array.from({ length: 16 }, (_, j) => write(`next-${i}-${j}-${"x".repeat(50)}`));
      await Promise.all(some);
    }
    done.abort();
    await listing;
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(1000);
  });

  test("recovers by itself when somebody deletes the feed's consumer", async () => {
    const bucket = await newBucket();
    await put(bucket, "a", 1);
    expect((await list(bucket)).status).toBe(200);
    const stream = `KV_APP_${bucket.name}`;
    for await (const { name } of foreign.jsm.consumers.list(stream))
      await foreign.jsm.consumers.delete(stream, name);
    await put(bucket, "b", 1);
    const first = await list(bucket);
    if (first.status !== 200) expect(first.body).toMatchObject({ code: "store_unavailable" });
    await expect
      .poll(async () => (await list(bucket)).body.keys, { timeout: 3_000 })
      .toEqual(["a", "b"]);
  });
});

describe("the past", () => {
  test("is not called complete when a key of then has been overwritten", async () => {
    const bucket = await newBucket();
    await put(bucket, "a", 1);
    await put(bucket, "k", 1);
    await delay(30);
    const then = new Date().toISOString();
    expect((await list(bucket, `?as_of=${then}`)).body).toMatchObject({ count: 2, complete: true });
    await delay(30);
    await put(bucket, "k", 2);
    expect((await list(bucket, `?as_of=${then}`)).body).toMatchObject({
      keys: ["a"],
      complete: false,
    });
  });

  test("can be listed with values while keys are overwritten", async () => {
    const bucket = await newBucket();
    const keys = Array.from({ length: 50 }, (_, i) => `k${i}`);
    await Promise.all(keys.map((key) => put(bucket, key, 0)));
    const done = new AbortController();
    const writing = Array.from({ length: 8 }, async (_, writer) => {
      for (let i = writer; !done.signal.aborted; i += 8) await put(bucket, keys[i % 50]!, i);
    });
    for (let i = 0; i < 12; i++) {
      const { revision } = (await put(bucket, "last", i)).body as { revision: number };
      const { status, body } = await list(bucket, `?values=true&as_of=${revision}`);
      expect(status).toBe(200);
      expect(body.entries).toHaveLength(body.count as number);
    }
    done.abort();
    await Promise.all(writing);
  });
});

describe("a value of a batch or a transaction", () => {
  test("is stored whole, whatever its members are called", async () => {
    const bucket = await newBucket();
    const value = '{"__proto__":{"a":1},"b":[{"__proto__":2}]}';
    const json = { "Content-Type": "application/json" };
    await call("POST", `${bucket.url}/batch`, `{"set":[{"key":"b","value":${value}}]}`, json);
    const operations = `[{"op":"put","key":"t","value":${value}}]`;
    await call("POST", `${bucket.url}/transactions`, `{"operations":${operations}}`, json);
    for (const key of ["b", "t"]) {
      const response = await fetch(`${bucket.url}/keys/${key}?raw=true`);
      expect(await response.text()).toBe(value);
    }
  });

  test("that is nested too deeply is the caller's mistake", async () => {
    const bucket = await newBucket();
    const deep = `${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`;
    const json = { "Content-Type": "application/json" };
    const operations = `[{"op":"put","key":"t","value":${deep}}]`;
    const refused = [
      call("POST", `${bucket.url}/transactions`, `{"operations":${operations}}`, json),
      call("PATCH", `${bucket.url}/keys/p`, deep, json),
    ];
    for (const answer of await Promise.all(refused)) {
      expect(answer).toMatchObject({ status: 400, body: { code: "invalid_request" } });
    }
  });
});

describe("a feed", () => {
  test("of a bucket that is deleted while it is watched leaves nothing behind", async () => {
    const join = vi.spyOn(Feeds.prototype, "join");
    onTestFinished(() => join.mockRestore());
    const bucket = await newBucket();
    const watch = await openWatch(watchUrl(gateway.api, bucket.name));
    await eventually(() => watch.ready.length).toBe(1);
    const feeds = join.mock.contexts[0] as Feeds;
    expect(feeds.isActive(bucket.name)).toBe(true);
    await call("DELETE", bucket.url);
    await eventually(() => watch.closed?.code).toBe(4404);
    expect(feeds.isActive(bucket.name)).toBe(false);
  });

  test("that is closed while it recovers leaves no consumer behind", async () => {
    const nats = await startTestNats();
    const connection = await StoreConnection.open({ servers: [nats.url] });
    onTestFinished(() => connection.close());
    const buckets = new Buckets(connection);
    await buckets.create({ name: "b" });
    let onInfo: (() => void) | undefined;
    class Hooked extends JetStream {
      override async streamInfo(stream: string): Promise<StreamInfo> {
        const info = await super.streamInfo(stream);
        onInfo?.();
        return info;
      }
    }
    const feed = await Feed.start(
      new Hooked(connection),
      await buckets.open("b"),
      new IndexBudget(1_000_000),
    );
    await feed.keys();
    const closed = new Promise<void>((resolve) => {
      onInfo = () => {
        feed.close();
        resolve();
      };
    });
    await nats.restart();
    await closed;
    await delay(200);
    const other = await connectForeign(nats.url);
    expect((await other.jsm.streams.info("KV_APP_b")).state.consumer_count).toBe(0);
  });
});

describe("NATS", () => {
  test("that refuses the gateway's credentials for a while is used again afterwards", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "jetbucket-auth-"));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const start = (password: string, port = 0): Promise<TestNats> =>
      startTestNats({
        dataDir,
        port,
        extraConfig: `authorization { users: [{ user: "u", password: "${password}" }] }`,
      });
    const nats = await start("right");
    const { url } = await startGateway(nats, ["--nats-user", "u", "--nats-password", "right"]);
    const ready = async (): Promise<number> => (await call("GET", `${url}/ready`)).status;
    expect(await ready()).toBe(200);
    await nats.stop();
    const wrong = await start("wrong", nats.port);
    await delay(2_000);
    expect(await ready()).toBe(503);
    await wrong.close();
    await nats.restart();
    await expect.poll(ready, { timeout: 10_000 }).toBe(200);
  });
});

describe("writes that are flushed in groups", () => {
  async function startSynced(): Promise<TestGateway> {
    const probe = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => probe.once("listening", resolve));
    const { port } = probe.address() as AddressInfo;
    await new Promise((resolve) => probe.close(resolve));
    const nats = await startTestNats({
      syncInterval: "always",
      extraConfig: `http: "127.0.0.1:${port}"`,
    });
    return startGateway(nats, ["--nats-monitoring", `http://127.0.0.1:${port}`]);
  }

  test.each([1, 5])(
    "each get their own answer, with conditions, expiring and too large ones among them, history %i",
    async (history) => {
      const synced = await startSynced();
      const bucket = await newBucket({ history, max_value_size: 100 }, synced);
      const answers = await Promise.all(
        Array.from({ length: 200 }, async (_, i) => {
          const value = i % 50 === 7 ? "x".repeat(200) : i;
          const url = `${bucket.url}/keys/k${i % 40}${i % 5 === 0 ? "?ttl=60s" : ""}`;
          const condition: Record<string, string> = i % 7 === 3 ? { "If-None-Match": "*" } : {};
          return { i, value, ...(await callJson("PUT", url, value, condition)) };
        }),
      );
      expect(answers.filter(({ status }) => status === 413)).toHaveLength(4);
      const stored = answers.filter(({ status }) => status === 200);
      expect(stored[0]!.headers.get("Durability")).toBe("fsync");
      expect(new Set(stored.map(({ body }) => body.revision as number)).size).toBe(stored.length);
      for (let key = 0; key < 40; key++) {
        const last = stored
          .filter(({ i }) => i % 40 === key)
          .reduce((a, b) => (a.body.revision > b.body.revision ? a : b));
        const { body } = await get(bucket, `k${key}`);
        expect(body).toMatchObject({ value: last.value, revision: last.body.revision });
        expect(body.expires_at === undefined).toBe(last.body.expires_at === undefined);
      }
    },
  );

  test("are there afterwards when they were acknowledged, though NATS was killed meanwhile", async () => {
    const synced = await startSynced();
    const bucket = await newBucket({}, synced);
    const acknowledged = new Map<string, number>();
    const done = new AbortController();
    const writers = Array.from({ length: 32 }, async (_, writer) => {
      for (let i = 0; !done.signal.aborted; i++) {
        const { status, body } = await put(bucket, `k${writer}`, i);
        if (status === 200) acknowledged.set(`k${writer}`, body.revision as number);
        else await delay(20);
      }
    });
    await delay(500);
    await synced.server.kill();
    await delay(200);
    done.abort();
    await Promise.all(writers);
    await synced.server.restart();
    await expect
      .poll(async () => (await call("GET", `${synced.url}/ready`)).status, { timeout: 10_000 })
      .toBe(200);
    expect(acknowledged.size).toBe(32);
    for (const [key, revision] of acknowledged) {
      expect((await get(bucket, key)).body.revision).toBeGreaterThanOrEqual(revision);
    }
  });
});
