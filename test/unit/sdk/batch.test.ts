import { describe, expect, test } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import { wireEntry, type SeenRequest } from "./fake-gateway.ts";
import { base, startBucket, written } from "./support.ts";

interface Batch {
  get?: string[];
  set?: { key: string; value: unknown; encoding?: string; ttl?: unknown }[];
  delete?: string[];
}

const batchOf = ({ body }: SeenRequest) => JSON.parse(body.toString()) as Batch;

const failure = (key: string, code: "key_not_found" | "invalid_key" | "value_too_large") => ({
  key,
  error: new KvError(code, "no", { details: { limit: 3 } }).toBody(),
});

describe("reading many keys", () => {
  test("gives each its entry, or undefined", async () => {
    const { bucket, asked } = await startBucket((request) => ({
      body: {
        get: batchOf(request).get!.map((key) =>
          key === "gone" ? failure(key, "key_not_found") : wireEntry(key, 1, 2),
        ),
      },
    }));
    const found = await bucket.getMany(new Set(["b", "gone", "a"]));
    expect([...found.keys()]).toEqual(["b", "gone", "a"]);
    expect(found.get("a")).toMatchObject({ key: "a", value: 1, revision: 2 });
    expect(found.get("gone")).toBeUndefined();
    expect(asked()).toEqual([`POST ${base}/batch`]);
  });

  test("asks for a thousand at a time, and for each once", async () => {
    const { bucket, requests } = await startBucket((request) => ({
      body: { get: batchOf(request).get!.map((key) => wireEntry(key, 1, 2)) },
    }));
    const keys = Array.from({ length: 2001 }, (_, n) => `k${n}`);
    expect((await bucket.getMany([...keys, "k0"])).size).toBe(2001);
    expect(requests.map((request) => batchOf(request).get!.length)).toEqual([1000, 1000, 1]);
  });

  test("of none asks nobody", async () => {
    const { bucket, requests } = await startBucket();
    expect(await bucket.getMany([])).toEqual(new Map());
    expect(await bucket.putMany([])).toEqual({ written: new Map(), failed: new Map() });
    expect(await bucket.deleteMany([])).toEqual({ deleted: [], existed: [], failed: new Map() });
    expect(requests).toHaveLength(0);
  });

  test("rejects when one cannot be read", async () => {
    const { bucket } = await startBucket({ body: { get: [failure("k", "invalid_key")] } });
    await expect(bucket.getMany(["k"])).rejects.toMatchObject({ code: "invalid_key" });
  });

  test("is repeated when the server refuses it for the moment", async () => {
    const { bucket, requests } = await startBucket((_, attempt) =>
      attempt === 1
        ? { status: 503, body: new KvError("store_unavailable", "no").toBody() }
        : { body: { get: [wireEntry("k", 1, 2)] } },
    );
    expect((await bucket.getMany(["k"])).size).toBe(1);
    expect(requests).toHaveLength(2);
  });
});

describe("storing many keys", () => {
  test("sends every kind of value, and tells what became of each", async () => {
    const { bucket, requests } = await startBucket((request) => ({
      headers: { Durability: "cached" },
      body: {
        set: batchOf(request).set!.map(({ key }) =>
          key === "large" ? failure(key, "value_too_large") : { key, ...written },
        ),
      },
    }));
    const { written: stored, failed } = await bucket.putMany([
      { key: "json", value: { a: null }, ttl: { value: 1, unit: "DAYS" } },
      { key: "text", value: "1" },
      { key: "bytes", value: new Uint8Array([255, 0]) },
      { key: "large", value: 0 },
      { key: "json", value: [1] },
    ]);
    expect(batchOf(requests[0]!).set).toEqual([
      { key: "json", value: [1] },
      { key: "text", value: "1", encoding: "text" },
      { key: "bytes", value: "/wA=", encoding: "base64" },
      { key: "large", value: 0 },
    ]);
    expect([...stored.keys()]).toEqual(["json", "text", "bytes"]);
    expect(stored.get("text")).toEqual({
      revision: 7,
      createdAt: written.created_at,
      durability: "cached",
    });
    expect([...failed.keys()]).toEqual(["large"]);
    expect(failed.get("large")).toMatchObject({ code: "value_too_large", details: { limit: 3 } });
  });

  test("cuts requests before they are too large for the server", async () => {
    const { bucket, requests } = await startBucket((request) => ({
      body: { set: batchOf(request).set!.map(({ key }) => ({ key, ...written })) },
    }));
    const value = "x".repeat(3 * 1024 * 1024);
    const items = ["a", "b", "c", "d", "e"].map((key) => ({ key, value }));
    expect((await bucket.putMany(items)).written.size).toBe(5);
    expect(requests.map((request) => batchOf(request).set!.length)).toEqual([2, 2, 1]);
  });

  test("takes nothing that JSON cannot say", async () => {
    const { bucket, requests } = await startBucket();
    const items = [
      { key: "a", value: 1 },
      { key: "b", value: undefined },
    ];
    await expect(bucket.putMany(items)).rejects.toThrow(TypeError);
    expect(requests).toHaveLength(0);
  });
});

test("deleting many keys tells what became of each", async () => {
  const { bucket, bodies } = await startBucket({
    body: {
      delete: [
        { key: "a", existed: true },
        failure("b", "invalid_key"),
        { key: "c", existed: false },
      ],
    },
  });
  const { deleted, existed, failed } = await bucket.deleteMany(["a", "b", "a", "c"]);
  expect(bodies()).toEqual([{ delete: ["a", "b", "c"] }]);
  expect(deleted).toEqual(["a", "c"]);
  expect(existed).toEqual(["a"]);
  expect(failed.get("b")).toMatchObject({ code: "invalid_key" });
});
