/** `jetbucket/keyv` under the real Keyv, its own test suite, and what is built on it. */
import keyvTestSuite, { keyvIteratorTests } from "@keyv/test-suite";
import { createCache } from "cache-manager";
import { KeyvJetbucket } from "jetbucket/keyv";
import { createClient, type Bucket } from "jetbucket/node";
import Keyv from "keyv";
import * as vitest from "vitest";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";

let gateway: TestGateway;
let made = 0;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

/** Keys as they are, without a namespace. */
const bareKeys = { namespace: "", useKeyPrefix: false };

const kv = () => createClient({ serverUrl: gateway.url }).kv();

function newStore(): { store: KeyvJetbucket; bucket: Bucket } {
  const name = `keyv-${++made}`;
  return { store: new KeyvJetbucket(`${gateway.url}/${name}`), bucket: kv().bucket(name) };
}

describe("the suite of Keyv", () => {
  const store = () => new KeyvJetbucket(`${gateway.url}/suite`) as never;
  keyvTestSuite(vitest, Keyv, store);
  keyvIteratorTests(vitest, Keyv, store);
});

describe("a value of Keyv", () => {
  test.each<[string, unknown, unknown]>([
    ["a string", "text", "text"],
    ["a string that looks like JSON", '{"a":1}', '{"a":1}'],
    ["a string with a colon before it", ":base64:AA==", ":base64:AA=="],
    ["an object", { a: [1, { b: ":c" }], ":d": null }, { a: [1, { b: ":c" }], ":d": null }],
    ["a number", -1.5e-7, -1.5e-7],
    ["false", false, false],
    ["null", null, null],
    ["bytes", Buffer.from([0, 255]), new Uint8Array([0, 255])],
    ["bytes that are text", Buffer.from("bar"), "bar"],
  ])("that is %s is that for every client, and comes back as it was", async (_, value, native) => {
    const { store, bucket } = newStore();
    const keyv = new Keyv({ store, ...bareKeys });
    expect(await keyv.set("one", value)).toBe(true);
    expect(await keyv.setMany([{ key: "many", value }])).toEqual([true]);
    for (const key of ["one", "many"]) {
      const entry = await bucket.get(key);
      expect(new Map([[key, entry.value]])).toEqual(new Map([[key, native]]));
      expect(await keyv.get(key)).toEqual(value);
    }
    expect(await keyv.getMany(["one", "none", "many"])).toEqual([value, undefined, value]);
    expect(await keyv.getManyRaw(["many"])).toEqual([{ value, expires: undefined }]);
    for await (const entry of keyv.iterator!(undefined)) {
      expect(entry).toEqual([expect.stringMatching(/^(one|many)$/), value]);
    }
  });

  test.each<[string, unknown]>([
    ["undefined", undefined],
    ["an object with a Buffer", { buffer: Buffer.from("buzz"), text: ":base64:" }],
    ["half of a surrogate pair", "a\ud800"],
  ])("that JSON cannot say comes back as it was: %s", async (_, value) => {
    const { store } = newStore();
    const keyv = new Keyv({ store });
    await keyv.set("key", value);
    expect(await keyv.get("key")).toEqual(value);
    expect(await keyv.has("key")).toBe(true);
  });

  test("that another client wrote is read", async () => {
    const { store, bucket } = newStore();
    await kv().createBucket({ name: bucket.name });
    const keyv = new Keyv({ store, ...bareKeys });
    const values = [":text", { a: ":b" }, 0, null, new Uint8Array([254])];
    for (const [i, value] of values.entries()) await bucket.put(`k${i}`, value);
    expect(await keyv.getMany(values.map((_, i) => `k${i}`))).toEqual([
      ...values.slice(0, 4),
      Buffer.from([254]),
    ]);
  });

  test("with another serializer is what that makes of it", async () => {
    const { store, bucket } = newStore();
    const keyv = new Keyv({
      store,
      serialize: (data) => `!${JSON.stringify(data)}`,
      deserialize: (text) => JSON.parse(text.slice(1)) as never,
    });
    await keyv.set("key", { a: ":b" });
    expect(await keyv.get("key")).toEqual({ a: ":b" });
    expect((await bucket.get("keyv:key")).value).toBe('!{"value":{"a":":b"}}');
  });

  test("that Keyv is not to serialize is refused by a word about it", async () => {
    const { store } = newStore();
    const keyv = new Keyv({ store, serialize: undefined as never, throwOnErrors: true });
    await expect(keyv.set("key", 1)).rejects.toThrow(/leave Keyv's serialize/);
  });
});

describe("a time to live", () => {
  test.each([1000, 1234.5, 365 * 24 * 3_600_000])(
    "of %d ms is jetbucket's own, to the millisecond",
    async (ttl) => {
      const { store, bucket } = newStore();
      const keyv = new Keyv({ store, ttl });
      const began = Date.now();
      await keyv.set("one", "v");
      await keyv.setMany([{ key: "many", value: "v" }]);
      const took = Date.now() - began;
      for (const key of ["one", "many"]) {
        const { value, expiresAt } = await bucket.get(`keyv:${key}`);
        expect(value).toBe("v");
        const life = Date.parse(expiresAt!) - began;
        expect(life).toBeGreaterThanOrEqual(ttl - 5);
        expect(life).toBeLessThanOrEqual(ttl + took + 5);
      }
    },
  );

  test("of less than a second ends in time, too, and leaves nothing", async () => {
    const { store, bucket } = newStore();
    const keyv = new Keyv({ store, namespace: "n" });
    const began = Date.now();
    await keyv.setMany([
      { key: "stays", value: 1 },
      { key: "goes", value: 1, ttl: 300 },
    ]);
    if (Date.now() < began + 300) expect(await keyv.has("goes")).toBe(true);
    await vi.waitFor(async () => expect(await keyv.get("goes")).toBeUndefined(), {
      timeout: 600,
      interval: 10,
    });
    expect(Date.now() - began).toBeGreaterThanOrEqual(300);
    expect(await keyv.hasMany(["stays", "goes"])).toEqual([true, false]);
    await vi.waitFor(async () => expect(await bucket.listKeys()).toEqual(["n:stays"]), 5000);
  });

  test("of more than a year is kept by Keyv alone", async () => {
    const { store, bucket } = newStore();
    const keyv = new Keyv({ store });
    await keyv.set("key", "v", 400 * 24 * 3_600_000);
    expect(await keyv.get("key")).toBe("v");
    expect((await keyv.getRaw("key"))?.expires).toBeGreaterThan(Date.now() + 399 * 24 * 3_600_000);
    expect((await bucket.get("keyv:key")).expiresAt).toBeUndefined();
  });
});

describe("a namespace", () => {
  test("is cleared alone, however many keys it has", async () => {
    const { store, bucket } = newStore();
    const other = new Keyv({
      store: new KeyvJetbucket(`${gateway.url}/${bucket.name}`),
      namespace: "other",
    });
    const keyv = new Keyv({ store, namespace: "many" });
    const entries = Array.from({ length: 1100 }, (_, i) => ({ key: `k${i}`, value: i }));
    expect((await keyv.setMany(entries)).every(Boolean)).toBe(true);
    await other.set("k1", "other");
    let count = 0;
    for await (const [key, value] of keyv.iterator!(undefined)) {
      expect(key).toBe(`k${value as number}`);
      count++;
    }
    expect(count).toBe(1100);
    await keyv.clear();
    expect(await bucket.listKeys()).toEqual(["other:k1"]);
    expect(await other.get("k1")).toBe("other");
  });

  test("of a bucket that nobody made is empty, and made by the first write", async () => {
    const { store, bucket } = newStore();
    const keyv = new Keyv({ store, throwOnErrors: true });
    expect(await keyv.get("a")).toBeUndefined();
    expect(await keyv.get(["a", "b"])).toEqual([undefined, undefined]);
    expect(await keyv.has("a")).toBe(false);
    expect(await keyv.delete("a")).toBe(false);
    for await (const entry of keyv.iterator!(undefined)) expect(entry).toBe("none");
    await keyv.clear();
    await Promise.all([keyv.set("a", 1), keyv.set("b", 2), keyv.setMany([{ key: "c", value: 3 }])]);
    expect(await bucket.listKeys()).toEqual(["keyv:a", "keyv:b", "keyv:c"]);
    await keyv.disconnect();
  });
});

test("what fails is told as an error, and does not pass for a miss", async () => {
  const store = new KeyvJetbucket("http://127.0.0.1:1/bucket");
  const keyv = new Keyv({ store });
  const codes: unknown[] = [];
  keyv.on("error", (error: { code: string }) => codes.push(error.code));
  expect(await keyv.get("key")).toBeUndefined();
  expect(await keyv.set("key", 1)).toBe(false);
  expect(await keyv.delete("key")).toBe(false);
  await keyv.clear();
  expect(codes).toEqual(["network", "network", "network", "network"]);
  const long = new Keyv({ store: newStore().store });
  const told = vi.fn();
  long.on("error", told);
  expect(
    await long.setMany([
      { key: "k".repeat(600), value: 1 },
      { key: "k", value: 1 },
    ]),
  ).toEqual([false, true]);
  expect(told).toHaveBeenCalledWith(expect.objectContaining({ code: "invalid_key" }));
});

test("an address names the server and the bucket, and one that is none is refused", () => {
  expect(new KeyvJetbucket("https://kv.example.com/base/sessions").opts).toMatchObject({
    url: "https://kv.example.com/base",
    bucket: "sessions",
  });
  expect(new KeyvJetbucket("http://localhost:9123/a%2Db/").opts).toMatchObject({
    url: "http://localhost:9123",
    bucket: "a-b",
  });
  expect(() => new KeyvJetbucket("http://localhost:9123/%zz")).toThrow(TypeError);
  expect(new KeyvJetbucket("http://localhost:9123/").opts).toMatchObject({ bucket: "keyv" });
  expect(() => new KeyvJetbucket("localhost")).toThrow(TypeError);
  expect(() => new KeyvJetbucket("redis://localhost/1")).toThrow(TypeError);
});

test("cache-manager works on it: wrap, times to live, many keys, two processes", async () => {
  const { store, bucket } = newStore();
  const cache = createCache({ stores: [new Keyv({ store })], ttl: 60_000 });
  const other = createCache({
    stores: [new Keyv({ store: new KeyvJetbucket(`${gateway.url}/${bucket.name}`) })],
  });
  const load = vi.fn(() => Promise.resolve({ name: "ada" }));
  expect(await cache.wrap("user.1", load)).toEqual({ name: "ada" });
  expect(await other.wrap("user.1", load)).toEqual({ name: "ada" });
  expect(load).toHaveBeenCalledTimes(1);
  await cache.mset<unknown>([
    { key: "a", value: 1 },
    { key: "b", value: "2", ttl: 5000 },
  ]);
  expect(await other.mget(["a", "b", "c"])).toEqual([1, "2", undefined]);
  const end = await other.ttl("b");
  expect(Math.abs(end! - Date.now() - 5000)).toBeLessThan(2000);
  await cache.mdel(["a"]);
  expect(await other.get("a")).toBeUndefined();
  await cache.clear();
  expect(await bucket.listKeys()).toEqual([]);
});
