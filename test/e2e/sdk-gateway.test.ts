/** The built SDK against a real gateway. */
import fc from "fast-check";
import { createClient, JetbucketError, type Bucket, type Change } from "jetbucket/node";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";

let gateway: TestGateway;
let created = 0;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

async function newBucket(url = gateway.url): Promise<Bucket> {
  const kv = createClient({ serverUrl: url }).kv();
  const name = `bucket-${++created}`;
  await kv.createBucket({ name, history: 5 });
  return kv.bucket(name);
}

describe("buckets", () => {
  test("are created, listed, changed and deleted", async () => {
    const kv = createClient({ serverUrl: gateway.url }).kv();
    const info = await kv.createBucket({
      name: "all-settings",
      description: "d",
      ttlSeconds: 3600,
      maxValueSize: 1000,
      maxBytes: 100_000,
      history: 3,
      replicas: 1,
      storage: "memory",
      compression: false,
    });
    expect(info).toMatchObject({
      name: "all-settings",
      description: "d",
      ttlSeconds: 3600,
      maxValueSize: 1000,
      maxBytes: 100_000,
      history: 3,
      storage: "memory",
      keys: 0,
    });
    expect((await kv.listBuckets()).map(({ name }) => name)).toContain("all-settings");
    expect(await kv.updateBucket("all-settings", { history: 4 })).toMatchObject({ history: 4 });
    expect(await kv.getBucketInfo("all-settings")).toMatchObject({ history: 4, description: "d" });
    await expect(kv.createBucket({ name: "all-settings" })).rejects.toMatchObject({
      code: "bucket_exists",
      status: 409,
    });
    await kv.deleteBucket("all-settings");
    await expect(kv.getBucketInfo("all-settings")).rejects.toMatchObject({
      code: "bucket_not_found",
    });
  });
});

describe("values", () => {
  test("read back as they were put", async () => {
    const bucket = await newBucket();
    const values = [{ a: [1, null] }, null, 0, false, "text", '{"no":"json"}', "", "123", [1]];
    for (const value of values) {
      await bucket.put("k", value);
      expect((await bucket.get("k")).value).toEqual(value);
    }
    const bytes = new Uint8Array([0, 255, 128]);
    await bucket.put("k", bytes);
    const entry = await bucket.get("k");
    expect(entry).toMatchObject({ encoding: "base64", operation: "put", key: "k" });
    expect(new Uint8Array(entry.value as Uint8Array)).toEqual(bytes);
  });

  test("conflict with an error that says where the key is", async () => {
    const bucket = await newBucket();
    const { revision } = await bucket.create("k", 1);
    await expect(bucket.create("k", 2)).rejects.toMatchObject({ code: "key_exists", status: 412 });
    const second = await bucket.update("k", 2, revision);
    const conflict = await bucket.update("k", 3, revision).catch((error: unknown) => error);
    expect(conflict).toBeInstanceOf(JetbucketError);
    expect(conflict).toMatchObject({
      code: "revision_mismatch",
      currentRevision: second.revision,
    });
    await expect(bucket.delete("k", { ifRevision: revision })).rejects.toMatchObject({
      code: "revision_mismatch",
    });
    await bucket.delete("k", { ifRevision: second.revision });
    expect(await bucket.find("k")).toBeUndefined();
    await expect(bucket.get("k")).rejects.toMatchObject({ code: "key_not_found" });
    expect((await bucket.get("k", { revision })).value).toBe(1);
    expect((await bucket.history("k")).map(({ operation }) => operation)).toEqual([
      "put",
      "put",
      "delete",
    ]);
    await bucket.purge("k");
    expect(await bucket.find("k", { revision })).toBeUndefined();
  });
});

test("any key arrives intact, on every route", async () => {
  const bucket = await newBucket();
  const unit = fc.constantFrom(".", "/", "%", "2", "F", "#", "?", "&", "+", " ", "\\", "ä", "😀");
  await fc.assert(
    fc.asyncProperty(fc.string({ unit, minLength: 1, maxLength: 8 }), async (key) => {
      const { revision } = await bucket.put(key, key);
      expect(await bucket.get(key, { revision })).toMatchObject({ key, value: key, revision });
      expect(await bucket.listKeys()).toEqual([key]);
      expect((await bucket.history(key)).at(-1)).toMatchObject({ key, value: key });
      await bucket.purge(key);
      expect(await bucket.listKeys()).toEqual([]);
    }),
    {
      numRuns: 40,
      examples: [["."], [".."], ["a/../b"], ["./a"], ["a//b"], ["/"], ["%2F"], ["%"], ["a+b c"]],
    },
  );
});

describe("a watch", () => {
  test("tells a snapshot, then every change", async () => {
    const bucket = await newBucket();
    await bucket.put("user.1", { n: 1 });
    await bucket.put("other", 0);
    const changes: Change[] = [];
    const onReady = vi.fn();
    const watcher = bucket.watch(
      { onUpdate: (change) => changes.push(change), onReady },
      { key: "user.*" },
    );
    onTestFinished(() => watcher.stop());
    await vi.waitFor(() => expect(watcher.state).toBe("live"));
    expect(onReady).toHaveBeenCalledWith(expect.objectContaining({ count: 1 }));
    await bucket.put("user.2", new Uint8Array([255]));
    await bucket.delete("user.1");
    await bucket.purge("user.2");
    await vi.waitFor(() => expect(changes).toHaveLength(4));
    expect(changes).toMatchObject([
      { bucket: bucket.name, key: "user.1", value: { n: 1 }, operation: "put" },
      { key: "user.2", value: new Uint8Array([255]), encoding: "base64" },
      { key: "user.1", operation: "delete", reason: "delete" },
      { key: "user.2", operation: "delete", reason: "purge" },
    ]);
  });

  test.each([
    ["snapshot", { put: ["before", "after"] }],
    ["updates", { put: ["after"] }],
    ["history", { put: ["before", "before", "after"] }],
  ] as const)("of %s begins where it should", async (include, { put }) => {
    const bucket = await newBucket();
    await bucket.put("before", 1);
    await bucket.put("before", 2);
    const keys: string[] = [];
    const watcher = bucket.watch({ onUpdate: ({ key }) => keys.push(key) }, { include });
    onTestFinished(() => watcher.stop());
    await vi.waitFor(() => expect(watcher.state).toBe("live"));
    await bucket.put("after", 3);
    await vi.waitFor(() => expect(keys).toEqual(put));
  });

  test.each(["snapshot", "updates", "history"] as const)(
    "of %s misses nothing while its gateway is replaced, and repeats nothing",
    async (include) => {
      const nats = await startTestNats();
      const first = await startGateway(nats);
      const spare = await startGateway(nats);
      const { port } = new URL(first.url);
      const bucket = await newBucket(first.url);
      const other = createClient({ serverUrl: spare.url }).kv().bucket(bucket.name);
      const told: string[] = [];
      const watcher = bucket.watch(
        {
          onUpdate: ({ operation, key, value, inferred }) =>
            told.push(`${operation} ${key} ${String(value)}${inferred ? " inferred" : ""}`),
        },
        { include },
      );
      onTestFinished(() => watcher.stop());
      await vi.waitFor(() => expect(watcher.state).toBe("live"));
      await other.put("stays", 1);
      await other.put("goes", 1);
      await vi.waitFor(() => expect(told).toHaveLength(2));
      await first.close();
      await other.put("stays", 2);
      await other.put("new", 1);
      await other.delete("goes");
      await startGateway(nats, ["--port", port]);
      await vi.waitFor(() => expect(watcher.state).toBe("live"), { timeout: 20_000 });
      await other.put("last", 1);
      await vi.waitFor(() => expect(told.at(-1)).toBe("put last 1"));
      // The bucket keeps a history, so that the other gateway knows all that was missed.
      expect(told).toEqual([
        "put stays 1",
        "put goes 1",
        "put stays 2",
        "put new 1",
        "delete goes undefined",
        "put last 1",
      ]);
    },
  );

  test("tells a transaction part by part, with nothing between", async () => {
    const bucket = await newBucket();
    const changes: Change[] = [];
    const watcher = bucket.watch({ onUpdate: (change) => changes.push(change) }, { key: "in.*" });
    onTestFinished(() => watcher.stop());
    await vi.waitFor(() => expect(watcher.state).toBe("live"));
    const { revisions } = await bucket
      .transaction()
      .put("in.1", 1)
      .put("out", 2)
      .put("in.2", 3)
      .commit();
    await bucket.put("in.3", 4);
    await vi.waitFor(() => expect(changes).toHaveLength(3));
    const revision = revisions.get("in.2");
    expect(changes.map(({ key, transaction }) => [key, transaction])).toEqual([
      ["in.1", { revision, index: 0, size: 2 }],
      ["in.2", { revision, index: 1, size: 2 }],
      ["in.3", undefined],
    ]);
  });

  test("without values tells sizes", async () => {
    const bucket = await newBucket();
    await bucket.put("k", "12345");
    for await (const change of bucket.changes({ values: false })) {
      expect(change).toMatchObject({ bucket: bucket.name, key: "k", operation: "put", size: 5 });
      expect(change).not.toHaveProperty("value");
      break;
    }
  });

  test("ends when its bucket is deleted, and does not begin without one", async () => {
    const bucket = await newBucket();
    const watcher = bucket.watch({ onUpdate: () => undefined });
    await vi.waitFor(() => expect(watcher.state).toBe("live"));
    await createClient({ serverUrl: gateway.url }).kv().deleteBucket(bucket.name);
    expect(await watcher.closed).toMatchObject({
      code: 4404,
      error: { code: "bucket_not_found" },
    });
    const second = bucket.watch({ onUpdate: () => undefined });
    expect(await second.closed).toMatchObject({ code: 4404, error: { code: "bucket_not_found" } });
  });

  test("ends with the server's word on a filter that it refuses", async () => {
    const bucket = await newBucket();
    const watcher = bucket.watch({ onUpdate: () => undefined }, { key: "a.>.b" });
    expect(await watcher.closed).toMatchObject({ code: 4400, error: { code: "invalid_filter" } });
  });
});

test("a live view is the bucket, whatever happens to either", async () => {
  const nats = await startTestNats();
  const first = await startGateway(nats);
  const spare = await startGateway(nats);
  const bucket = await newBucket(first.url);
  const other = createClient({ serverUrl: spare.url }).kv().bucket(bucket.name);
  const live = bucket.live();
  onTestFinished(() => live.close());
  await live.ready;
  await other.putMany(Array.from({ length: 50 }, (_, n) => ({ key: `k.${n}`, value: n })));
  await vi.waitFor(() => expect(live.size).toBe(50));
  const halves: number[] = [];
  live.onChange(() => halves.push(Number(live.has("x.1")) - Number(live.has("x.2"))));
  await first.close();
  await other.transaction().put("x.1", 1).put("x.2", 2).delete("k.0").commit();
  await other.deleteMany(["k.1", "k.2"]);
  await other.purge("k.3");
  await startGateway(nats, ["--port", new URL(first.url).port]);
  await other.put("last", 1);
  await vi.waitFor(() => expect(live.get("last")).toBe(1), { timeout: 20_000 });
  const entries = await other.list().toArray();
  expect([...live]).toEqual(entries.map(({ key, value }) => [key, value]));
  expect(halves.filter((half) => half !== 0)).toEqual([]);
});
