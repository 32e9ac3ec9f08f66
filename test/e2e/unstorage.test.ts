/** `jetbucket/unstorage` under the real unstorage, its server included. */
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createClient, type Bucket } from "jetbucket/node";
import jetbucketDriverByDefault, {
  jetbucketDriver,
  type JetbucketDriverOptions,
} from "jetbucket/unstorage";
import {
  createStorage,
  prefixStorage,
  restoreSnapshot,
  snapshot,
  type Storage,
  type StorageValue,
} from "unstorage";
import httpDriver from "unstorage/drivers/http";
import memoryDriver from "unstorage/drivers/memory";
import { createStorageServer } from "unstorage/server";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";

let gateway: TestGateway;
let made = 0;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

const kv = () => createClient({ serverUrl: gateway.url }).kv();

function newStorage(options: JetbucketDriverOptions = {}): { storage: Storage; bucket: Bucket } {
  const name = `unstorage-${++made}`;
  const driver = jetbucketDriver({ serverUrl: gateway.url, bucket: name, ...options });
  const storage = createStorage({ driver });
  onTestFinished(() => storage.dispose());
  return { storage, bucket: kv().bucket(name) };
}

/** The same driver behind unstorage's own server, spoken to by unstorage's own driver. */
async function overHttp(): Promise<{ storage: Storage; bucket: Bucket }> {
  const { storage: served, bucket } = newStorage();
  const server = createServer((request, response) => {
    createStorageServer(served).handle(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return {
    storage: createStorage({ driver: httpDriver({ base: `http://127.0.0.1:${port}` }) }),
    bucket,
  };
}

describe.each([
  ["", () => Promise.resolve(newStorage())],
  [", with a base", () => Promise.resolve(newStorage({ base: "/base.1/x" }))],
  [", behind the server of unstorage", overHttp],
])("storage%s", (_, make) => {
  test("sets, gets, lists and removes items", async () => {
    const { storage } = await make();
    expect(await storage.hasItem("s1:a")).toBe(false);
    expect(await storage.getItem("s1:a")).toBeNull();
    expect(await storage.getKeys()).toEqual([]);
    await storage.setItem("s1:a", "test_data");
    await storage.setItem("s2/a", "test_data");
    await storage.setItem("s3:a?q=1", "test_data");
    await storage.setItem("s1.txt", 1);
    expect(await storage.hasItem("s1:a")).toBe(true);
    expect(await storage.getItem("s1:a")).toBe("test_data");
    expect(await storage.getItem("s3:a?q=2")).toBe("test_data");
    expect((await storage.getKeys()).toSorted()).toEqual(["s1.txt", "s1:a", "s2:a", "s3:a"]);
    expect(await storage.getKeys("s1")).toEqual(["s1:a"]);
    expect((await storage.getKeys("", { maxDepth: 0 })).toSorted()).toEqual(["s1.txt"]);
    await storage.removeItem("s1:a");
    expect(await storage.hasItem("s1:a")).toBe(false);
    expect((await storage.getKeys()).toSorted()).toEqual(["s1.txt", "s2:a", "s3:a"]);
    await storage.clear();
    expect(await storage.getKeys()).toEqual([]);
  });

  test("keeps values of every kind", async () => {
    const { storage } = await make();
    const values: unknown[] = [
      { json: "works", list: [1, null, { a: "é" }] },
      [],
      "text",
      "two words, ünïcode",
      '"quoted',
      1,
      true,
      false,
      '{ "spaced": 1 ',
    ];
    for (const [i, value] of values.entries()) {
      await storage.setItem(`v:${i}`, value as string);
      expect(await storage.getItem(`v:${i}`)).toEqual(value);
    }
    await storage.setItem("date", { toJSON: () => ({ a: 1 }) });
    expect(await storage.getItems(["v:0", "none", "v:5"])).toEqual([
      { key: "v:0", value: values[0] },
      { key: "none", value: null },
      { key: "v:5", value: 1 },
    ]);
    await storage.setItem("v:0", undefined as never);
    expect(await storage.hasItem("v:0")).toBe(false);
  });

  test("keeps raw items byte by byte", async () => {
    const { storage } = await make();
    const bytes = new Uint8Array([1, 2, 255, 0]);
    await storage.setItemRaw("raw", bytes);
    expect(new Uint8Array((await storage.getItemRaw<Uint8Array>("raw"))!)).toEqual(bytes);
    await storage.setItemRaw("text", Buffer.from("hi"));
    expect(Buffer.from((await storage.getItemRaw<Uint8Array>("text"))!).toString()).toBe("hi");
  });

  test("lets items go at their time, and tells when they were stored", async () => {
    const { storage } = await make();
    await storage.setItem("stays", 1);
    await storage.setItem("goes", 1, { ttl: 1 });
    const { mtime, ttl } = await storage.getMeta("goes");
    expect(ttl).toBe(1);
    expect(Math.abs(mtime!.getTime() - Date.now())).toBeLessThan(5000);
    await vi.waitFor(async () => expect(await storage.getKeys()).toEqual(["stays"]), 3000);
    expect(await storage.getItem("goes")).toBeNull();
    expect((await storage.getMeta("stays")).ttl).toBeUndefined();
  });

  test("has parts, a snapshot and its way back", async () => {
    const { storage } = await make();
    const part = prefixStorage(storage, "part");
    await part.setItem("a:b", { x: 1 });
    await storage.setItem("other", 2);
    expect(await part.getKeys()).toEqual(["a:b"]);
    expect(await part.getItem("a:b")).toEqual({ x: 1 });
    const before = await snapshot(storage, "");
    expect(before).toEqual({ "part:a:b": { x: 1 }, other: 2 });
    await storage.clear();
    await restoreSnapshot(storage, before, "");
    expect(await snapshot(storage, "part")).toEqual({ "a:b": { x: 1 } });
  });

  test("has metadata of the user's beside the driver's", async () => {
    const { storage } = await make();
    await storage.setItem("item", 1);
    await storage.setMeta("item", { owner: "ada" });
    expect(await storage.getMeta("item")).toMatchObject({ owner: "ada", mtime: expect.any(Date) });
    expect(await storage.getKeys()).toEqual(["item"]);
    await storage.removeItem("item", { removeMeta: true });
    expect(await storage.hasItem("item$")).toBe(false);
  });

  test("can be mounted beside others", async () => {
    const { storage } = await make();
    const root = createStorage({ driver: memoryDriver() });
    root.mount("jet", storage.getMount("").driver);
    await root.setItem("here", 1);
    await root.setItem("jet:there", 2);
    expect(await root.getKeys()).toEqual(["jet:there", "here"]);
    expect(await storage.getKeys()).toEqual(["there"]);
    await root.clear("jet");
    expect(await root.getKeys()).toEqual(["here"]);
    expect(await storage.getKeys()).toEqual([]);
    await root.unmount("jet", false);
    expect(await root.getKeys()).toEqual(["here"]);
  });
});

describe("a driver", () => {
  test("stores what other clients would have, and reads what they wrote", async () => {
    const { storage, bucket } = newStorage();
    await storage.setItem("user:ada", { age: 36 });
    await storage.setItem("text", "words");
    await storage.setItem("number", 1);
    await storage.setItem("exact", "1.0");
    await storage.setItemRaw("bytes", new Uint8Array([255]));
    const stored = await bucket.list().toArray();
    expect(stored.map(({ key, value, encoding }) => [key, encoding, value])).toEqual([
      ["bytes", "base64", new Uint8Array([255])],
      ["exact", "text", "1.0"],
      ["number", "json", 1],
      ["text", "text", "words"],
      ["user:ada", "json", { age: 36 }],
    ]);
    await bucket.put("json", { a: 1 });
    await bucket.put("note", "native");
    await bucket.put("logo", new Uint8Array([254]));
    expect(await storage.getItem("json")).toEqual({ a: 1 });
    expect(await storage.getItem("note")).toBe("native");
    expect(await storage.getItem("logo")).toEqual(new Uint8Array([254]));
    expect(await bucket.listKeys("user:*")).toEqual(["user:ada"]);
  });

  test("does not let a value bring in a prototype", async () => {
    const { storage, bucket } = newStorage();
    await kv().createBucket({ name: bucket.name });
    await bucket.put("evil", JSON.parse('{"__proto__":{"polluted":true},"a":1}'));
    const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    onTestFinished(() => warn.mockRestore());
    const item = (await storage.getItem<object>("evil"))!;
    expect(Object.keys(item)).toEqual(["a"]);
  });

  test("sets many items at once, each with its own options", async () => {
    const { storage, bucket } = newStorage({ ttl: 100 });
    await storage.setItems<StorageValue>([
      { key: "a", value: { x: 1 } },
      { key: "b", value: "text", options: { ttl: 50 } },
      { key: "c", value: 3, options: { ttl: 0 } },
    ]);
    expect(await storage.getItems(["a", "b", "c"])).toEqual([
      { key: "a", value: { x: 1 } },
      { key: "b", value: "text" },
      { key: "c", value: 3 },
    ]);
    expect((await storage.getMeta("a")).ttl).toBe(100);
    expect((await storage.getMeta("b")).ttl).toBe(50);
    expect((await bucket.get("c")).expiresAt).toBeUndefined();
    await expect(storage.setItems([{ key: "k".repeat(600), value: 1 }])).rejects.toMatchObject({
      code: "invalid_key",
    });
  });

  test("tells when an item was first stored, and how large it is", async () => {
    const { storage } = newStorage({ keepCreated: true });
    await storage.setItem("item", "1234");
    const first = await storage.getMeta("item", { nativeOnly: true });
    expect(first).toMatchObject({ size: 4, birthtime: first.mtime });
    await storage.setItems([{ key: "item", value: "12345" }]);
    const second = await storage.getMeta("item", { nativeOnly: true });
    expect(second).toMatchObject({ size: 5, birthtime: first.birthtime });
    expect(second.mtime!.getTime()).toBeGreaterThan(first.mtime!.getTime());
    expect({ ...(await storage.getMeta("none", { nativeOnly: true })) }).toEqual({});
  });

  test("is what its module has as default, too, and refuses an address that is none", () => {
    expect(jetbucketDriverByDefault).toBe(jetbucketDriver);
    expect(() => jetbucketDriver("localhost")).toThrow(TypeError);
    expect(jetbucketDriver(`${gateway.url}/named`).getInstance!().name).toBe("named");
  });
});

describe("a watch", () => {
  test("tells what others change, in its base alone, until it is ended", async () => {
    const { storage, bucket } = newStorage({ base: "app.v1" });
    const root = createStorage();
    root.mount("jet", storage.getMount("").driver);
    const events: string[] = [];
    const unwatch = await root.watch((event, key) => events.push(`${event} ${key}`));
    const waitFor = (...expected: string[]) =>
      vi.waitFor(() => expect(events).toEqual(expected), 5000);
    await bucket.put("app.v1:a:b.txt", 1);
    await bucket.put("app.v2:a", 1);
    await bucket.put("appXv1:a", 1);
    await bucket.delete("app.v1:a:b.txt");
    await storage.setItem("c", 1, { ttl: 1 });
    await waitFor("update jet:a:b.txt", "remove jet:a:b.txt", "update jet:c", "remove jet:c");
    await unwatch();
    await bucket.put("app.v1:d", 1);
    const again: string[] = [];
    await root.watch((event, key) => again.push(`${event} ${key}`));
    await bucket.put("app.v1:e", 1);
    await vi.waitFor(() => expect(again).toEqual(["update jet:e"]));
    expect(events).toHaveLength(4);
  });

  test("that cannot go on says so", async () => {
    const onWatchError = vi.fn();
    const { storage, bucket } = newStorage({ onWatchError });
    await storage.watch(() => undefined);
    await kv().deleteBucket(bucket.name);
    await vi.waitFor(() =>
      expect(onWatchError).toHaveBeenCalledWith(
        expect.objectContaining({ code: "bucket_not_found" }),
      ),
    );
    expect(onWatchError).toHaveBeenCalledTimes(1);
    const { storage: without } = newStorage({ create: false });
    await expect(without.watch(() => undefined)).rejects.toMatchObject({
      code: "bucket_not_found",
    });
    await expect(without.setItem("a", 1)).rejects.toMatchObject({ code: "bucket_not_found" });
  });
});
