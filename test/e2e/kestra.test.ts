import { JetbucketError, KestraKv, kv as kvOfEnvironment, type KvType } from "jetbucket/kestra";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, startGateway, type TestGateway } from "../support/gateway.ts";

let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

/** A store with a namespace that no other test uses, and the same over HTTP. */
function newStore() {
  const namespace = `sdk${count++}.team`;
  const kv = new KestraKv({ serverUrl: gateway.url, namespace });
  const http = async (path: string) =>
    (await call("GET", `${gateway.url}/api/v1/main/namespaces/${namespace}/kv${path}`)).body;
  return { kv, namespace, http };
}

test("the tasks of Kestra's page work with the page's options", async () => {
  const kv = new KestraKv({ serverUrl: gateway.url });
  const value = "kestra:///company/team/file.csv";
  const set = { key: "my_key", value, namespace: "dev", overwrite: true, ttl: "P30D" };
  await kv.set(set);
  await kv.set(set);
  expect(await kv.get({ key: "my_key", namespace: "dev", errorOnMissing: false })).toBe(value);
  const keys = { prefix: "test_", namespace: "dev", errorOnMissing: false };
  expect(await kv.getKeys(keys)).toEqual([]);
  for (const key of ["test_b", "other", "test_a"]) await kv.set({ ...set, key });
  expect(await kv.getKeys(keys)).toEqual(["test_a", "test_b"]);
  const my = { key: "my_key", namespace: "dev", errorOnMissing: false };
  expect([await kv.delete(my), await kv.delete(my), await kv.get(my)]).toEqual([true, false, null]);
});

test("the page's JSON value, given as text, is one object", async () => {
  const { kv, http } = newStore();
  const value = `{
    "name": "John Doe",
    "age": 32,
    "address": {
      "city": "Paris",
      "country": "France"
    }
  }`;
  await kv.set({ key: "my_json_key", value, overwrite: true, kvType: "JSON" });
  const read = await kv.get<{ address: { country: string } }>({ key: "my_json_key" });
  expect(read?.address.country).toBe("France");
  await kv.set({ key: "as_text", value });
  expect(await http("/as_text")).toMatchObject({ type: "STRING", value });
});

describe("a value", () => {
  test.each<[unknown, KvType | undefined, KvType, unknown]>([
    ["PT5M", undefined, "STRING", "PT5M"],
    ["PT5M", "DURATION", "DURATION", "PT5M"],
    ["2021-09-01", "DATE", "DATE", "2021-09-01"],
    ["2021-09-01T01:02:03Z", "DATETIME", "DATETIME", "2021-09-01T01:02:03Z"],
    [new Date(0), undefined, "DATETIME", "1970-01-01T00:00:00.000Z"],
    ["7", "NUMBER", "NUMBER", 7],
    ["7", "STRING", "STRING", "7"],
    [7.5, undefined, "NUMBER", 7.5],
    ["true", "BOOLEAN", "BOOLEAN", true],
    [false, undefined, "BOOLEAN", false],
    [["a"], undefined, "JSON", ["a"]],
    [null, undefined, "STRING", null],
  ])("%j as %s is stored as %s", async (value, kvType, type, read) => {
    const { kv, http } = newStore();
    await kv.set({ key: "key", value, kvType });
    expect(await http("/key")).toMatchObject({ type, value: read });
    expect(await kv.get({ key: "key" })).toEqual(read);
  });

  test.each<[unknown, KvType | undefined]>([
    ["soon", "DATE"],
    ["2021-09-01", "DATETIME"],
    ["seven", "NUMBER"],
    ["1", "BOOLEAN"],
    ["1", "JSON"],
    [1, "STRING"],
    [undefined, undefined],
    [NaN, undefined],
    [1n, undefined],
    [new Uint8Array([1]), undefined],
  ])("%o as %s is refused", async (value, kvType) => {
    const { kv } = newStore();
    await expect(kv.set({ key: "key", value, kvType })).rejects.toThrow(TypeError);
  });
});

test("set keeps the time of creation, and stores description and end", async () => {
  const { kv, http } = newStore();
  await kv.set({ key: "key", value: 1, description: "words", ttl: "PT5M" });
  const [first] = await http("");
  expect(first).toMatchObject({ description: "words", expirationDate: expect.any(String) });
  await kv.set({ key: "key", value: 2 });
  const [second] = await http("");
  expect(second.creationDate).toBe(first.creationDate);
  expect(second).not.toHaveProperty("expirationDate");
  expect(second).not.toHaveProperty("description");
});

test("overwrite: false stores only where there is no value", async () => {
  const { kv } = newStore();
  await kv.set({ key: "key", value: 1, overwrite: false });
  const again = kv.set({ key: "key", value: 2, overwrite: false });
  await expect(again).rejects.toThrow(
    "Cannot set value for key 'key'. Key already exists and `overwrite` is set to `false`.",
  );
  await expect(again).rejects.toMatchObject({ code: "key_exists", status: 412 });
  expect(await kv.get({ key: "key" })).toBe(1);
  await kv.delete({ key: "key" });
  await kv.set({ key: "key", value: 3, overwrite: false });
  expect(await kv.get({ key: "key" })).toBe(3);
});

test("errorOnMissing makes what is missing an error", async () => {
  const { kv, namespace } = newStore();
  for (const isThere of [false, true]) {
    if (isThere) await kv.set({ key: "other", value: 1 });
    const sentence = `No value found for key 'key' in namespace '${namespace}'`;
    for (const task of [
      kv.get({ key: "key", errorOnMissing: true }),
      kv.delete({ key: "key", errorOnMissing: true }),
    ]) {
      await expect(task).rejects.toThrow(sentence);
      await expect(task).rejects.toMatchObject({ code: "key_not_found" });
    }
    await expect(kv.getKeys({ prefix: "k", errorOnMissing: true })).rejects.toBeInstanceOf(
      JetbucketError,
    );
  }
});

test("bad keys and namespaces are refused before anything is sent", async () => {
  const kv = new KestraKv({ serverUrl: "http://localhost:1", namespace: "dev" });
  await expect(kv.get({ key: "bad key" })).rejects.toMatchObject({ code: "invalid_key" });
  await expect(kv.get({ key: "k", namespace: "a b" })).rejects.toMatchObject({
    code: "invalid_request",
  });
  await expect(kvOfEnvironment.get({ key: "k" })).rejects.toThrow(TypeError);
});

test("tenants are apart", async () => {
  const { kv, namespace } = newStore();
  const other = new KestraKv({ serverUrl: gateway.url, namespace, tenant: "acme" });
  await kv.set({ key: "key", value: "main" });
  await other.set({ key: "key", value: "acme" });
  expect([await kv.get({ key: "key" }), await other.get({ key: "key" })]).toEqual(["main", "acme"]);
});
