import { configureAttio, JetbucketError, kv } from "jetbucket/attio";
import { createClient } from "jetbucket/node";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import getAllUsers from "./seeds/attio.ts";

let gateway: TestGateway;
let count = 0;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());
beforeEach(() => {
  bucket = `attio-${count++}`;
  configureAttio({ serverUrl: gateway.url, bucket });
});

const stored = () => createClient({ serverUrl: gateway.url }).kv().bucket(bucket);

test("the page's example asks the other service once, and from then on the cache", async () => {
  const real = fetch;
  const asked: string[] = [];
  vi.stubGlobal("fetch", (...args: Parameters<typeof fetch>) => {
    const url = args[0] as string;
    if (!url.startsWith("https://api.emailsequence.com/")) return real(...args);
    asked.push(url);
    return Promise.resolve(Response.json([{ name: "Ada" }]));
  });
  try {
    expect(await getAllUsers()).toEqual([{ name: "Ada" }]);
    expect(await getAllUsers()).toEqual([{ name: "Ada" }]);
  } finally {
    vi.unstubAllGlobals();
  }
  expect(asked).toEqual(["https://api.emailsequence.com/v1/users"]);
  const { expiresAt = "" } = await stored().get("users");
  expect(Date.parse(expiresAt) - Date.now()).toBeGreaterThan(29 * 24 * 3_600_000);
});

test("the page's other lines do what it says", async () => {
  await kv.set("key", "value", { ttlInSeconds: 60 });
  expect(await kv.get("key")).toEqual({ value: "value" });
  await kv.delete("key");
  expect(await kv.get("key")).toBeNull();
});

describe("before the first set there is no bucket", () => {
  test("and reads and deletes find nothing", async () => {
    expect(await kv.get("key")).toBeNull();
    expect(await kv.mget(["a", "b"])).toEqual({ a: null, b: null });
    await kv.delete("key");
    await expect(stored().get("key")).rejects.toMatchObject({ code: "bucket_not_found" });
  });

  test("and many at once make it", async () => {
    await Promise.all(Array.from({ length: 10 }, (_, i) => kv.set(`key${i}`, i)));
    expect(await kv.get("key9")).toEqual({ value: 9 });
  });
});

test.each([["text"], [""], ['"quoted"'], [0], [1.5], [true], [false], [[1, "a"]], [{ a: null }]])(
  "%j comes back as it was set",
  async (value) => {
    await kv.set("key", value);
    expect(await kv.get("key")).toEqual({ value });
  },
);

test("a stored null is not a missing one, alone and among several", async () => {
  await kv.set("null", null);
  expect(await kv.get("null")).toEqual({ value: null });
  expect(await kv.mget(["null", "missing", "__proto__"])).toEqual(
    Object.fromEntries([
      ["null", { value: null }],
      ["missing", null],
      ["__proto__", null],
    ]),
  );
});

test("mget answers for more keys than a request has room for", async () => {
  await kv.set("key0", 0);
  await kv.set("key1499", 1499);
  const all = await kv.mget(Array.from({ length: 1500 }, (_, i) => `key${i}`));
  expect(Object.keys(all)).toHaveLength(1500);
  expect(Object.entries(all).filter(([, found]) => found !== null)).toEqual([
    ["key0", { value: 0 }],
    ["key1499", { value: 1499 }],
  ]);
});

test("what cannot be serialised throws, and leaves what was there", async () => {
  await kv.set("key", "before");
  const cycle: unknown[] = [];
  cycle.push(cycle);
  for (const value of [undefined, () => 1, Symbol("s"), 1n, cycle, new Uint8Array([1])]) {
    await expect(kv.set("key", value)).rejects.toThrow(TypeError);
  }
  expect(await kv.get("key")).toEqual({ value: "before" });
});

test.each([0, -1, Infinity, 366 * 24 * 3600])("a ttl of %d seconds is refused", async (ttl) => {
  await expect(kv.set("key", 1, { ttlInSeconds: ttl })).rejects.toMatchObject({
    code: "invalid_ttl",
  });
});

test("a key is gone when its time is over", async () => {
  await kv.set("key", 1, { ttlInSeconds: 1 });
  expect(await kv.get("key")).toEqual({ value: 1 });
  await expect.poll(() => kv.get("key"), { timeout: 5_000 }).toBeNull();
});

test("without configuration the environment says where: the bucket is called attio", async () => {
  vi.stubEnv("JETBUCKET_URL", gateway.url);
  try {
    configureAttio();
    await kv.set("key", "here");
  } finally {
    vi.unstubAllEnvs();
  }
  bucket = "attio";
  expect((await stored().get("key")).value).toBe("here");
});

test("a server that is not there is an error with a code", async () => {
  configureAttio({ serverUrl: "http://localhost:1" });
  const failure = kv.get("key");
  await expect(failure).rejects.toBeInstanceOf(JetbucketError);
  await expect(failure).rejects.toMatchObject({ code: "network" });
});
