import { connect as connectTcp, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from "vitest";
import { WebSocket } from "ws";
import type { KeyList, PutResult, UpdateFrame } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { sendRaw } from "../support/raw-http.ts";
import {
  openWatch,
  refusedWatch,
  watchUrl,
  type Frame,
  type WatchClient,
  type WatchClientOptions,
} from "../support/watch-client.ts";
import { startWatchStack } from "../support/watch-stack.ts";

let gateway: TestGateway;
let foreign: ForeignClient;
let count = 0;
/** A bucket that each test has for itself. */
let name: string;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
  foreign = await connectForeign(gateway.server.url);
});

afterAll(async () => {
  await foreign.close();
  await gateway.close();
});

async function newBucket(settings: object = {}): Promise<void> {
  name = `w${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
  expect((await callJson("POST", `${gateway.api}/buckets`, { name, ...settings })).status).toBe(
    201,
  );
}

beforeEach(() => newBucket());

const at = (key: string): string => `${bucket}/keys/${encodeURIComponent(key)}`;
const put = (key: string, value: unknown): Promise<Answer> => callJson("PUT", at(key), value);
const remove = (key: string): Promise<Answer> => call("DELETE", at(key));
const watch = (query = "", options: WatchClientOptions = {}): Promise<WatchClient> =>
  openWatch(watchUrl(gateway.api, name, query), options);
const consumersOf = async (): Promise<number> =>
  (await foreign.jsm.streams.info(`KV_APP_${name}`)).state.consumer_count;
const isReady = (client: WatchClient): Promise<void> =>
  eventually(() => client.ready.length).toBeGreaterThan(0);
const typesOf = (client: WatchClient): Frame["type"][] => client.frames.map(({ type }) => type);

describe("a watch begins", () => {
  test("with the current values, in order of revision, then says that it is ready", async () => {
    await put("a", 1);
    await put("b", 2);
    await put("gone", 3);
    await remove("gone");
    await put("a", 4);
    const client = await watch();
    await isReady(client);
    expect(client.pairs).toEqual([
      ["b", 2],
      ["a", 4],
    ]);
    expect(client.frames.at(-1)).toEqual({
      type: "kv_ready",
      position: expect.stringMatching(/^\S+$/) as string,
      count: 2,
    });
    await put("c", 5);
    await eventually(() => client.pairs.at(-1)).toEqual(["c", 5]);
  });

  test("with nothing but the readiness in an empty bucket", async () => {
    const client = await watch();
    await isReady(client);
    expect(client.frames).toMatchObject([{ type: "kv_ready", count: 0 }]);
  });

  test("with changes only, where updates are asked for", async () => {
    await put("a", 1);
    const client = await watch("include=updates");
    await isReady(client);
    await put("a", 2);
    await eventually(() => client.pairs).toEqual([["a", 2]]);
    expect(typesOf(client)).toEqual(["kv_ready", "kv_update"]);
  });

  test("with every stored revision, where the history is asked for", async () => {
    await newBucket({ history: 10 });
    for (const value of [1, 2]) await put("a", value);
    await remove("a");
    await put("a", 3);
    const client = await watch("include=history");
    await isReady(client);
    expect(client.frames.at(-1)).toMatchObject({ type: "kv_ready", count: 4 });
    expect(client.pairs).toEqual([
      ["a", 1],
      ["a", 2],
      ["a", undefined],
      ["a", 3],
    ]);
    await put("a", 4);
    await eventually(() => client.pairs.at(-1)).toEqual(["a", 4]);
  });

  test("without frames beside updates for clients that do not know the subprotocol", async () => {
    await put("a", 1);
    const client = await watch("", { plain: true });
    expect(client.socket.protocol).toBe("");
    await eventually(() => client.pairs).toEqual([["a", 1]]);
    await put("a", 2);
    await eventually(() => client.pairs.at(-1)).toEqual(["a", 2]);
    expect(typesOf(client)).toEqual(["kv_update", "kv_update"]);
  });

  test.each([1, 5])(
    "with all of a bucket whose values are large, at a history of %i",
    async (history) => {
      await newBucket({ history });
      const value = Buffer.alloc(900_000, 0xff);
      for (let i = 0; i < 12; i++) await call("PUT", at(`big.${i}`), value);
      const client = await watch();
      await eventually(() => client.ready.length + Number(client.closed !== undefined)).toBe(1);
      expect(client.closed).toBeUndefined();
      expect(client.updates).toHaveLength(12);
      for (const update of client.updates) expect((update.value as string).length).toBe(1_200_000);
      expect(((await call("GET", `${bucket}/keys`)).body as KeyList).count).toBe(12);
    },
  );
});

describe("an update", () => {
  let client: WatchClient;
  beforeEach(async () => {
    await newBucket({ history: 5 });
    client = await watch("include=updates");
    await isReady(client);
  });

  test.each([
    ["JSON null", "application/json", "null", null, "json"],
    ["JSON", "application/json", '{"a":[1]}', { a: [1] }, "json"],
    ["text that looks like JSON", "text/plain", '"text"', '"text"', "text"],
    ["bytes", "application/octet-stream", Uint8Array.of(0xff, 0), "/wA=", "base64"],
    ["nothing", "application/octet-stream", "", "", "text"],
  ])("of %s has exactly the fields of the contract", async (_what, type, body, value, encoding) => {
    const written = await call("PUT", at("ü/1"), body, { "Content-Type": type });
    await eventually(() => client.updates.length).toBe(1);
    expect(client.updates[0]).toEqual({
      type: "kv_update",
      bucket: name,
      key: "ü/1",
      value,
      encoding,
      operation: "put",
      revision: (written.body as PutResult).revision,
      created_at: expect.stringMatching(/^\d{4}-.*\.\d{3}Z$/) as string,
    });
  });

  test.each([
    ["delete", ""],
    ["purge", "?purge=true"],
  ])("of a %s says so, and has no value", async (reason, query) => {
    await put("k", 1);
    await call("DELETE", at("k") + query);
    await eventually(() => client.updates.length).toBe(2);
    expect(client.updates[1]).toEqual({
      type: "kv_update",
      bucket: name,
      key: "k",
      operation: "delete",
      reason,
      revision: client.updates[0]!.revision + 1,
      created_at: expect.any(String) as string,
    });
  });
});

test("a value that the bucket's TTL ends is reported as expired, and is gone", async () => {
  await newBucket({ ttl_seconds: 1 });
  const client = await watch();
  await isReady(client);
  await put("short", 1);
  await eventually(() => client.updates).toMatchObject([
    { key: "short", operation: "put" },
    { key: "short", operation: "delete", reason: "expired" },
  ]);
  expect((await call("GET", at("short"))).status).toBe(404);
});

describe("filters", () => {
  const keys = ["user.1", "user.1.name", "user-7", "users", "a b", "ü", "order.9"];

  test.each([
    [["user.*"], ["user.1"]],
    [["user.>"], ["user.1", "user.1.name"]],
    [["user-*"], ["user-7"]],
    [["*-*"], ["user-7"]],
    [["ü"], ["ü"]],
    [
      ["user.*", "order.>", "a b"],
      ["user.1", "a b", "order.9"],
    ],
    [["user.1", "user.1"], ["user.1"]],
    [["user.1", "user.*", ">"], keys],
    [["nothing.*"], []],
  ])(
    "%j let exactly %j through, of what is there and of what changes, each once",
    async (filters, wanted) => {
      for (const key of keys) await put(key, "before");
      const client = await watch(
        filters.map((text) => `key=${encodeURIComponent(text)}`).join("&"),
      );
      await isReady(client);
      expect(client.pairs).toEqual(wanted.map((key) => [key, "before"]));
      // The last change is wanted by all: when it is there, all before it are.
      const all = await watch();
      for (const key of keys) await put(key, "after");
      await eventually(() => all.pairs.filter(([, value]) => value === "after").length).toBe(
        keys.length,
      );
      const after = (): unknown[] => client.pairs.filter(([, value]) => value === "after");
      await eventually(after).toEqual(wanted.map((key) => [key, "after"]));
    },
  );
});

test("a watch without values gets keys and sizes, of what is there and of what changes", async () => {
  await put("a", "12345");
  const client = await watch("values=false");
  await isReady(client);
  await put("b", { x: 1 });
  await remove("a");
  await eventually(() => client.updates.length).toBe(3);
  expect(client.updates).toMatchObject([
    { key: "a", operation: "put", size: 7 },
    { key: "b", operation: "put", size: 7 },
    { key: "a", operation: "delete", reason: "delete" },
  ]);
  for (const update of client.updates) {
    expect(update).not.toHaveProperty("value");
    expect(update).not.toHaveProperty("encoding");
  }
});

test("500 watches with 500 different filters, opened at once, each get what they want, and only that", async () => {
  for (let at = 0; at < 500; at += 50)
    await Promise.all(Array.from({ length: 50 }, (_, i) => put(`user.${at + i}.name`, at + i)));
  const clients: WatchClient[] = [];
  for (let at = 0; at < 500; at += 100) {
    const some = Array.from({ length: 100 }, (_, i) => watch(`key=user.${at + i}.*`));
    clients.push(...(await Promise.all(some)));
  }
  for (const client of clients) await isReady(client);
  for (let i = 0; i < 500; i += 7) await put(`user.${i}.name`, "new");
  await put("user.499.name", "last");
  await eventually(() => clients[499]!.pairs.at(-1)).toEqual(["user.499.name", "last"]);
  for (const [i, client] of clients.slice(0, 499).entries()) {
    const changes = i % 7 === 0 ? [[`user.${i}.name`, "new"]] : [];
    expect(client.pairs).toEqual([[`user.${i}.name`, i], ...changes]);
  }
}, 30_000);

describe("a watch is refused by a real HTTP answer", () => {
  test.each([
    ["an unknown bucket", "nothing", "", 404, "bucket_not_found"],
    ["a bad bucket name", "a%2Fb", "", 400, "invalid_bucket_name"],
    ["a system bucket", "SYS_config", "", 400, "invalid_bucket_name"],
    ["a broken escape in the name", "%FF", "", 400, "invalid_bucket_name"],
    ["an unknown include", "b", "include=everything", 400, "invalid_request"],
    ["a bad filter", "b", "key=a.>.b", 400, "invalid_filter"],
    ["an empty filter", "b", "key=", 400, "invalid_filter"],
    ["a filter that is no UTF-8", "b", "key=%FF", 400, "invalid_filter"],
    ["too many filters", "b", "key=a&".repeat(65), 400, "invalid_filter"],
  ])("for %s", async (_what, where, query, status, code) => {
    const answer = await refusedWatch(watchUrl(gateway.api, where, query));
    expect(answer).toMatchObject({ status, body: { code, retryable: false } });
    expect(answer.headers["content-type"]).toBe("application/json");
  });

  test("for a path that cannot be watched", async () => {
    const url = gateway.url.replace("http", "ws");
    for (const path of [
      "/",
      "/health",
      `/api/v1/kv/buckets/${name}`,
      "/api/v1/kv/buckets//watch",
    ]) {
      expect(await refusedWatch(url + path)).toMatchObject({
        status: 404,
        body: { code: "not_found" },
      });
    }
  });

  test("for a page of another origin, and not for one of this machine", async () => {
    const url = watchUrl(gateway.api, name);
    for (const origin of ["https://evil.example.com", "null", "http://localhost.evil.com"]) {
      expect(await refusedWatch(url, { origin })).toMatchObject({
        status: 403,
        body: { code: "forbidden" },
      });
    }
    await isReady(await watch("", { origin: "http://localhost:5173" }));
  });

  test("for a plain request", async () => {
    expect(await call("GET", `${bucket}/watch`)).toMatchObject({
      status: 400,
      body: { code: "invalid_request" },
    });
  });

  test.each([
    ["without a key", "Sec-WebSocket-Version: 13"],
    ["with a broken key", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x"],
    [
      "of another version",
      "Sec-WebSocket-Version: 7\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ],
  ])("for a handshake %s", async (_what, headers) => {
    const path = `/api/v1/kv/buckets/${name}/watch`;
    const answer = await sendRaw(
      gateway.url,
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${headers}\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 .*"code":"invalid_request"/s);
  });
});

describe("a bucket that goes away", () => {
  const deleters: [string, () => Promise<unknown>][] = [
    ["the gateway", () => call("DELETE", bucket)],
    ["another client", () => foreign.jsm.streams.delete(`KV_APP_${name}`)],
  ];

  test.each(deleters)("by %s closes its watches with 4404 at once", async (_who, deleteIt) => {
    const clients = await Promise.all([
      watch(),
      watch("include=updates"),
      watch("", { plain: true }),
    ]);
    await put("k", 1);
    for (const client of clients) await eventually(() => client.updates.length).toBe(1);
    const started = performance.now();
    await deleteIt();
    for (const client of clients) {
      await eventually(() => client.closed).toMatchObject({ code: 4404 });
      expect(client.frames.at(-1)).toMatchObject({ type: "error", code: "bucket_not_found" });
    }
    expect(performance.now() - started).toBeLessThan(1_000);
    expect(await refusedWatch(watchUrl(gateway.api, name))).toMatchObject({ status: 404 });
  });

  test("and comes back can be watched again, whatever was known of the old one", async () => {
    for (let round = 0; round < 40; round++) {
      await put("k", round);
      const client = await watch();
      await eventually(() => client.state.get("k")).toBe(round);
      await call("DELETE", bucket);
      await callJson("POST", `${gateway.api}/buckets`, { name });
      const next = await watch();
      await put("new", round);
      await eventually(() => next.closed ?? next.pairs).toEqual([["new", round]]);
      await eventually(() => client.closed).toMatchObject({ code: 4404 });
      next.socket.terminate();
    }
  });

  test("by late news only, of an earlier one of its name, goes on to be watched", async () => {
    const client = await watch();
    await isReady(client);
    foreign.nats.publish(`$JS.EVENT.ADVISORY.STREAM.DELETED.KV_APP_${name}`, "{}");
    await foreign.nats.flush();
    await put("a", 1);
    await put("b", 2);
    await eventually(() => client.pairs).toEqual([
      ["a", 1],
      ["b", 2],
    ]);
    expect(client.closed).toBeUndefined();
  });

  test("and comes back is told of a shutdown, however long its old watches have been gone", async () => {
    const stack = await startWatchStack(gateway.server, { linger: 50 });
    const open = (): Promise<WatchClient> => openWatch(watchUrl(stack.api, name));
    const old = await open();
    await call("DELETE", bucket);
    await eventually(() => old.closed).toMatchObject({ code: 4404 });
    await callJson("POST", `${gateway.api}/buckets`, { name });
    const client = await open();
    await isReady(client);
    // What the hub keeps of the old bucket goes after as long as it keeps anything of another one.
    const own = name;
    await newBucket();
    const other = await openWatch(watchUrl(stack.api, name));
    other.socket.terminate();
    await eventually(consumersOf).toBe(0);
    name = own;
    const late = await open();
    await isReady(late);
    await stack.close();
    for (const each of [client, late]) {
      await eventually(() => each.closed).toMatchObject({ code: 1001 });
    }
  });
});

describe("a client", () => {
  test("that sends a message is closed with 4400", async () => {
    const client = await watch();
    client.socket.send('{"type":"hello"}');
    await eventually(() => client.closed).toMatchObject({ code: 4400 });
  });

  test("that sends a frame beyond 64 KiB is closed", async () => {
    const client = await watch();
    client.socket.send("x".repeat(64 * 1024 + 1));
    await eventually(() => client.closed).toMatchObject({ code: 1009 });
  });

  test("that sends garbage is closed, and nobody else notices", async () => {
    const [client, other] = await Promise.all([watch(), watch()]);
    (client.socket as unknown as { _socket: NodeJS.WritableStream })._socket.write(
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    );
    await eventually(() => client.closed?.code).toBeDefined();
    await put("k", 1);
    await eventually(() => other.updates.length).toBe(1);
  });

  test("that answers pings stays, one that does not is cut off", async () => {
    const { api } = await startWatchStack(gateway.server, { pingInterval: 50 });
    const alive = await openWatch(watchUrl(api, name));
    const dead = await openWatch(watchUrl(api, name), { autoPong: false });
    let pings = 0;
    alive.socket.on("ping", () => (pings += 1));
    await eventually(() => dead.closed).toMatchObject({ code: 1006 });
    const before = pings;
    await eventually(() => pings).toBeGreaterThan(before + 5);
    await put("k", 1);
    await eventually(() => alive.updates.length).toBe(1);
  });
});

setFlagsFromString("--expose_gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Fails unless a client got a gapless, ordered, unique sequence of updates that ends in the bucket's state. */
function expectOrdered(client: WatchClient): void {
  const revisions = client.updates.map(({ revision }) => revision);
  expect(client.closed).toBeUndefined();
  expect(revisions.findIndex((revision, i) => i > 0 && revision <= revisions[i - 1]!)).toBe(-1);
}

describe("from snapshot to live", () => {
  test("under full write load there is no gap, no duplicate, and the bucket's state at the end", async () => {
    await newBucket({ history: 8 });
    const kv = await foreign.kvm.open(`APP_${name}`);
    const keys = Array.from({ length: 40 }, (_, i) => `key.${i}`);
    let writing = true;
    let writes = 0;
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let i = writer; writing; i += 7) {
        const key = keys[i % keys.length]!;
        // Deletes among the writes: a snapshot must not bring a deleted key back.
        if (i % 5 === 0) await kv.delete(key);
        else await kv.put(key, JSON.stringify(++writes));
      }
    });
    const clients: WatchClient[] = [];
    const afterWrites = async (more: number): Promise<void> => {
      const until = writes + more;
      await vi.waitUntil(() => writes > until, { interval: 1, timeout: 10_000 });
    };
    try {
      for (let i = 0; i < 20; i++) {
        await afterWrites(40 * Math.random());
        clients.push(await watch(i % 4 === 3 ? "key=key.*&key=key.1" : ""));
      }
      await afterWrites(500);
    } finally {
      writing = false;
      await Promise.all(writers);
    }
    await kv.put("key.1", '"end"');

    const { state } = await foreign.jsm.streams.info(`KV_APP_${name}`);
    expect(state.last_seq).toBeGreaterThan(1_000);

    const stored = new Map<string, unknown>();
    for (const key of keys) {
      const entry = await kv.get(key);
      if (entry?.operation === "PUT") stored.set(key, entry.json());
    }
    const [reference] = clients as [WatchClient];
    for (const client of clients) {
      await eventually(() => client.state.get("key.1")).toBe("end");
      expectOrdered(client);
      expect(Object.fromEntries(client.state)).toEqual(Object.fromEntries(stored));
      // From its first live update on, each has got exactly what the first got, which was there all the time.
      const ready = client.frames.findIndex(({ type }) => type === "kv_ready");
      const live = client.frames.slice(ready + 1) as UpdateFrame[];
      const first = live[0]!.revision;
      expect(live).toEqual(reference.updates.filter(({ revision }) => revision >= first));
    }
  });

  test("keys that are all overwritten while a snapshot is read end with their last values", async () => {
    const keys = Array.from({ length: 7 }, (_, i) => `key.${i}`);
    const witness = await watch();
    for (let round = 0; round < 100; round++) {
      const client = await watch();
      for (const key of keys) await put(key, round);
      await eventually(() => [...client.state.values()]).toEqual(keys.map(() => round));
      client.socket.terminate();
    }
    expect(witness.updates).toHaveLength(700);
  });

  test("a key that is deleted while a snapshot is read does not stay", async () => {
    await newBucket({ history: 5 });
    const kv = await foreign.kvm.open(`APP_${name}`);
    for (let round = 0; round < 40; round++) {
      await kv.put("k", `${round}`);
      const [client] = await Promise.all([watch(), kv.delete("k"), kv.put("other", `${round}`)]);
      await eventually(() => client.state.get("other")).toBe(round);
      await isReady(client);
      expect(client.state.has("k")).toBe(false);
      client.socket.terminate();
    }
  });
});

describe("a socket that reads nothing", () => {
  /** A watch over bare TCP that never reads. */
  async function openDeaf(api = gateway.api): Promise<Socket> {
    const { port, hostname } = new URL(api);
    const socket = connectTcp(Number(port), hostname);
    const head = [
      `GET /api/v1/kv/buckets/${name}/watch HTTP/1.1`,
      "Host: localhost",
      "Connection: Upgrade",
      "Upgrade: websocket",
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

  test("costs bounded memory and does not hold up the others", async () => {
    const value = "x".repeat(100_000);
    // What is kept for those who come back is bounded, too, but that is not what this is about.
    const { api } = await startWatchStack(gateway.server, { ring: { usual: 1024 * 1024 } });
    await Promise.all([openDeaf(api), openDeaf(api), openDeaf(api)]);
    const client = await openWatch(watchUrl(api, name, "include=updates"));
    await isReady(client);
    collectGarbage();
    const before = process.memoryUsage().arrayBuffers;
    let slowest = 0;
    for (let i = 0; i < 400; i++) {
      const sent = performance.now();
      await put(`key.${i % 10}`, `${i}${value}`);
      await vi.waitUntil(() => client.updates.length === i + 1, { interval: 1, timeout: 5_000 });
      slowest = Math.max(slowest, performance.now() - sent);
      // Kept by the test only.
      client.updates[i]!.value = undefined;
    }
    // 40 MB went through; a deaf socket may hold some 4 MB, in frames that it shares with the others.
    await eventually(() => {
      collectGarbage();
      return process.memoryUsage().arrayBuffers - before;
    }).toBeLessThan(15 * 1024 * 1024);
    expect(slowest).toBeLessThan(1_000);
  });

  test("is cut off when more keys wait for it than its outbox holds, and nobody else", async () => {
    const deaf = await openDeaf();
    const other = await watch();
    await isReady(other);
    const value = "x".repeat(500_000);
    for (let i = 0; i < 40; i++) await put(`key.${i}`, value);
    await eventually(() => other.updates.length).toBe(40);
    let received = 0;
    const end = new Promise<number>((resolve) => {
      deaf.on("data", (chunk) => (received += chunk.length));
      deaf.on("error", () => undefined);
      deaf.on("close", () => resolve(received));
    });
    deaf.resume();
    expect(await end).toBeLessThan(40 * 500_000);
    await put("more", 1);
    await eventually(() => other.state.get("more")).toBe(1);
  });

  test("while a snapshot is read does not keep others from theirs", async () => {
    const value = "x".repeat(500_000);
    for (let i = 0; i < 40; i++) await put(`key.${i}`, value);
    const started = performance.now();
    await Promise.all([openDeaf(), openDeaf()]);
    const others = await Promise.all([watch(), watch(), watch("key=key.*")]);
    for (const other of others) {
      await isReady(other);
      expect(other.updates).toHaveLength(40);
    }
    expect(performance.now() - started).toBeLessThan(3_000);
  });

  test("for a while only gets the rest of its snapshot when it goes on, and what changed meanwhile", async () => {
    await newBucket({ history: 3 });
    const value = "x".repeat(500_000);
    for (let i = 0; i < 40; i++) await put(`key.${i}`, `${i}${value}`);
    const slow = await watch();
    slow.socket.pause();
    const other = await watch();
    await isReady(other);
    expect(other.state.size).toBe(40);
    // Before and behind what it has been sent by now.
    for (const i of [0, 1, 20, 39]) await remove(`key.${i}`);
    for (const i of [2, 21, 38]) await put(`key.${i}`, "new");
    await eventually(() => other.state.get("key.38")).toBe("new");
    slow.socket.resume();
    await isReady(slow);
    expect(slow.state.size).toBe(36);
    // Not by toEqual, which would print the values.
    for (const [key, value] of other.state) expect(slow.state.get(key) === value).toBe(true);
    expectOrdered(slow);
    await put("key.3", "live");
    for (const client of [slow, other]) {
      await eventually(() => client.state.get("key.3")).toBe("live");
    }
  });
});

describe("many sockets", () => {
  test("200 on one bucket share one consumer, and each gets each of 1000 updates once and in order", async () => {
    const clients = await Promise.all(Array.from({ length: 200 }, () => watch()));
    for (const client of clients) await isReady(client);
    await eventually(consumersOf).toBe(1);
    const started = performance.now();
    const keys = Array.from({ length: 50 }, (_, i) => `key.${i}`);
    for (let round = 0; round < 20; round++) {
      await Promise.all(keys.map((key) => put(key, round)));
    }
    for (const client of clients) {
      await eventually(() => client.updates.length).toBe(1000);
    }
    console.log(
      `200 sockets x 1000 updates: ${Math.round(performance.now() - started)} ms, consumers: ${await consumersOf()}`,
    );
    expect(await consumersOf()).toBe(1);
    const { state } = await foreign.jsm.streams.info(`KV_APP_${name}`);
    const all = Array.from({ length: 1000 }, (_, i) => state.last_seq - 999 + i);
    for (const client of clients) {
      expect(client.updates.map(({ revision }) => revision)).toEqual(all);
      expect(client.state.size).toBe(50);
      expect(new Set(client.state.values())).toEqual(new Set([19]));
    }
  }, 60_000);

  test("leave no consumer behind some time after the last has gone", async () => {
    const stack = await startWatchStack(gateway.server, { linger: 50 });
    const clients = await Promise.all(
      Array.from({ length: 5 }, () => openWatch(watchUrl(stack.api, name))),
    );
    for (const client of clients) await isReady(client);
    expect(await consumersOf()).toBe(1);
    for (const { socket } of clients) socket.terminate();
    await eventually(consumersOf).toBe(0);
  });

  test("that come and go at random leave a gateway that still delivers", async () => {
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const socket = new WebSocket(watchUrl(gateway.api, name), ["jetbucket.v1"]);
        socket.on("error", () => undefined);
        if (i % 3 === 0) socket.terminate();
        else if (i % 3 === 1) socket.once("open", () => socket.terminate());
        else socket.once("message", () => socket.close());
        await new Promise((resolve) => socket.once("close", resolve));
      }),
    );
    const client = await watch();
    await put("k", 1);
    await eventually(() => client.state.get("k")).toBe(1);
  });
});
