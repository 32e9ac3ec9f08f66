/** The built SDK's key methods against a real gateway. */
import { createClient, type Bucket, type Change, type JetbucketError } from "jetbucket/node";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { startGateway, type TestGateway } from "../support/gateway.ts";

let gateway: TestGateway;
let created = 0;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

const kv = () => createClient({ serverUrl: gateway.url }).kv();

async function newBucket<T = unknown>(history = 5): Promise<Bucket<T>> {
  const name = `keys-${++created}`;
  await kv().createBucket({ name, history });
  return kv().bucket<T>(name);
}

describe("put", () => {
  test("gives a time to live in every notation", async () => {
    const bucket = await newBucket();
    for (const ttl of [90, "90", "90s", "PT1M30S", { value: 90, unit: "SECONDS" }] as const) {
      const { createdAt, expiresAt } = await bucket.put("k", 1, { ttl });
      const seconds = (Date.parse(expiresAt!) - Date.parse(createdAt)) / 1000;
      expect(seconds).toBeGreaterThan(88);
      expect(seconds).toBeLessThan(92);
    }
    expect((await bucket.get("k")).expiresAt).toBeDefined();
    await expect(bucket.put("k", 1, { ttl: "soon" })).rejects.toMatchObject({
      code: "invalid_ttl",
    });
    expect(await bucket.put("k", 1)).not.toHaveProperty("expiresAt");
  });

  test("lets a key go at its time, and a watch hears of it", async () => {
    const bucket = await newBucket();
    const changes: Change[] = [];
    const watcher = bucket.watch({ onUpdate: (change) => changes.push(change) });
    onTestFinished(() => watcher.stop());
    await vi.waitFor(() => expect(watcher.state).toBe("live"));
    await bucket.put("k", "stays not");
    await bucket.put("k", 2, { ttl: 1 });
    await vi.waitFor(() => expect(changes).toHaveLength(3), { timeout: 10_000 });
    expect(changes[2]).toMatchObject({ key: "k", operation: "delete", reason: "expired" });
    expect(await bucket.find("k")).toBeUndefined();
  });

  test("answers with the previous or the latest entry, and keeps what is known of the key", async () => {
    const bucket = await newBucket<number>();
    const first = await bucket.put("k", 1, { return: "previous" });
    expect(first.previous).toBeUndefined();
    expect(first.durability).toMatch(/^(fsync|replicated|cached|memory)$/);
    const second = await bucket.put("k", 2, {
      return: "previous",
      keepCreated: true,
      description: "größe & more",
      valueType: "NUMBER",
    });
    expect(second.previous).toMatchObject({ value: 1, revision: first.revision });
    const { latest } = await bucket.put("k", 3, { return: "latest", keepCreated: true });
    expect(latest).toMatchObject({ key: "k", value: 3, operation: "put" });
    const [, described] = await bucket.history("k");
    expect(described).toMatchObject({ description: "größe & more", valueType: "NUMBER" });
    expect(Date.parse(latest.firstCreatedAt!)).toBeLessThanOrEqual(Date.parse(latest.createdAt));
  });

  test("keeps to its condition", async () => {
    const bucket = await newBucket();
    const { revision } = await bucket.put("k", 1, { ifRevision: 0 });
    await expect(bucket.put("k", 2, { ifRevision: 0 })).rejects.toMatchObject({
      code: "revision_mismatch",
      currentRevision: revision,
    });
    await bucket.put("k", 2, { ifRevision: revision });
    await expect(bucket.purge("k", { ifRevision: revision })).rejects.toMatchObject({
      code: "revision_mismatch",
    });
  });
});

describe("writes that depend on the value", () => {
  test("a patch merges, and makes keys that do not exist", async () => {
    const bucket = await newBucket<{ a?: number; b?: { c?: number; d?: number } }>();
    expect((await bucket.patch("k", { a: 1, b: { c: 2 } })).value).toEqual({ a: 1, b: { c: 2 } });
    const { value, revision } = await bucket.patch("k", { a: null, b: { d: 3 } }, { ttl: "1h" });
    expect(value).toEqual({ b: { c: 2, d: 3 } });
    expect(await bucket.get("k")).toMatchObject({ value, revision, encoding: "json" });
    await expect(bucket.patch("k", {}, { ifRevision: 0 })).rejects.toMatchObject({
      code: "revision_mismatch",
    });
  });

  test("increments add up, however many come at once", async () => {
    const bucket = await newBucket<number>();
    await Promise.all(Array.from({ length: 32 }, () => bucket.increment("n", { by: 2 })));
    expect((await bucket.get("n")).value).toBe(64);
    expect((await bucket.increment("n", { by: -64 })).value).toBe(0);
    expect((await bucket.increment("new", { initial: 10 })).value).toBe(11);
    await bucket.put("text", "x" as never);
    await expect(bucket.increment("text")).rejects.toMatchObject({ code: "invalid_request" });
  });

  test("a touch gives more time and leaves the value", async () => {
    const bucket = await newBucket();
    await bucket.put("k", new Uint8Array([255]), { ttl: "1m" });
    const { expiresAt } = await bucket.touch("k", "1h");
    const entry = await bucket.get("k");
    expect(entry.value).toEqual(new Uint8Array([255]));
    // The answer to a write knows the time of its acknowledgement, a read that of the storing.
    expect(Math.abs(Date.parse(entry.expiresAt!) - Date.parse(expiresAt!))).toBeLessThan(1_000);
    expect(Date.parse(expiresAt!) - Date.now()).toBeGreaterThan(3_500_000);
    await expect(bucket.touch("none", "1h")).rejects.toMatchObject({ code: "key_not_found" });
  });

  test("a restore brings an earlier value back as a new revision", async () => {
    const bucket = await newBucket();
    const first = await bucket.put("k", "first");
    const second = await bucket.put("k", "second");
    const restored = await bucket.restore("k", first.revision, { ifRevision: second.revision });
    expect(restored.revision).toBeGreaterThan(second.revision);
    expect((await bucket.get("k")).value).toBe("first");
    await expect(bucket.restore("k", 9999)).rejects.toMatchObject({
      code: "revision_not_found",
    });
  });

  test("reach keys that URL parsers would change", async () => {
    const bucket = await newBucket<number>();
    for (const key of ["..", "a/../b", "a b/ü#?"]) {
      expect((await bucket.increment(key)).value).toBe(1);
      const { revision } = await bucket.touch(key, "1h");
      await bucket.restore(key, revision);
      expect((await bucket.patch(key, 7)).value).toBe(7);
      expect((await bucket.diff(key, { from: revision })).to).toMatchObject({ value: 7 });
    }
  });
});

describe("reads", () => {
  test("see what was written, by leader or by revision", async () => {
    const bucket = await newBucket();
    const { revision } = await bucket.put("k", 1);
    expect(await bucket.get("k", { strong: true })).toMatchObject({ value: 1, revision });
    expect(await bucket.get("k", { minRevision: revision })).toMatchObject({ value: 1, revision });
  });

  test("go back in time, as far as history reaches", async () => {
    const bucket = await newBucket<number>(2);
    const { revision } = await bucket.put("k", 1);
    const { createdAt } = await bucket.get("k");
    const other = await bucket.put("other", 0);
    // Times have milliseconds: the second write needs one of its own.
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(Date.parse(createdAt) + 1));
    await bucket.put("k", 2);
    expect((await bucket.keyAt("k", revision)).value).toBe(1);
    expect((await bucket.keyAt("k", other.revision)).value).toBe(1);
    expect((await bucket.keyAt("k", createdAt)).value).toBe(1);
    expect((await bucket.keyAt("k", new Date())).value).toBe(2);
    await expect(bucket.keyAt("other", revision)).rejects.toMatchObject({ code: "key_not_found" });
    expect(await bucket.find("other", { asOf: revision })).toBeUndefined();
    await bucket.put("k", 3);
    await expect(bucket.find("k", { asOf: revision })).rejects.toMatchObject({
      code: "revision_not_found",
    });
  });

  test("tell what changed between two points", async () => {
    const bucket = await newBucket<{ a?: number; b?: number }>();
    await bucket.put("before", {});
    const first = await bucket.put("k", { a: 1, b: 1 });
    const second = await bucket.put("k", { b: 2 });
    const diff = await bucket.diff("k", { from: first.revision, to: second.revision });
    expect(diff).toMatchObject({
      key: "k",
      from: { value: { a: 1, b: 1 } },
      to: { value: { b: 2 } },
      changed: true,
      mergePatch: { a: null, b: 2 },
    });
    await bucket.put("k", diff.from!.value);
    expect((await bucket.patch("k", diff.mergePatch as object)).value).toEqual(diff.to!.value);
    const same = await bucket.diff("k", { from: second.revision, to: second.revision });
    expect(same.changed).toBe(false);
    expect(same).not.toHaveProperty("mergePatch");
    expect((await bucket.diff("k", { from: 1, to: second.revision })).from).toBeUndefined();
  });
});

describe("a listing", () => {
  test("brings every entry once, page by page", async () => {
    const bucket = await newBucket<number>();
    const keys = Array.from({ length: 25 }, (_, n) => `user.${String(n).padStart(2, "0")}`);
    await bucket.putMany(keys.map((key, value) => ({ key, value })));
    await bucket.put("other", -1);
    await bucket.delete(keys[3]!);
    const left = keys.filter((_, n) => n !== 3);
    const seen: [string, number][] = [];
    for await (const { key, value } of bucket.list({ prefix: "user.", limit: 7 })) {
      seen.push([key, value]);
    }
    expect(seen).toEqual(left.map((key) => [key, keys.indexOf(key)]));
    const filtered = await bucket.list({ filter: "user.1*" }).toArray();
    expect(filtered.map(({ key }) => key)).toEqual(keys.slice(10, 20));
  });

  test("without values knows sizes and what is written about keys", async () => {
    const bucket = await newBucket();
    await bucket.put("k", "four", { ttl: "1h", description: "d", valueType: "TEXT" });
    const [info] = await bucket.list({ values: false }).toArray();
    expect(info).toMatchObject({
      key: "k",
      size: 4,
      operation: "put",
      description: "d",
      valueType: "TEXT",
    });
    expect(info).toHaveProperty("expiresAt");
    expect(info).not.toHaveProperty("value");
  });

  test("shows the past, and says whether all of it", async () => {
    const bucket = await newBucket<number>(2);
    await bucket.put("a", 1);
    const { revision } = await bucket.put("b", 1);
    await bucket.put("b", 2);
    await bucket.put("c", 3);
    const listing = bucket.list({ asOf: revision, limit: 1 });
    expect((await listing.toArray()).map(({ key, value }) => [key, value])).toEqual([
      ["a", 1],
      ["b", 1],
    ]);
    expect(listing.complete).toBe(true);
    await bucket.put("b", 4);
    await bucket.put("b", 5);
    const later = bucket.list({ asOf: revision });
    expect((await later.toArray()).map(({ key }) => key)).toEqual(["a"]);
    expect(later.complete).toBe(false);
  });
});

describe("many keys", () => {
  test("are stored, read and deleted, each for itself", async () => {
    const bucket = await newBucket();
    const items = Array.from({ length: 1500 }, (_, n) => ({ key: `k${n}`, value: n }));
    const { written, failed } = await bucket.putMany([
      ...items,
      { key: "bytes", value: new Uint8Array([0, 255]), ttl: "1h" },
      { key: "text", value: '{"no":"json"}' },
      { key: "", value: 1 },
    ]);
    expect(written.size).toBe(1502);
    expect(written.get("bytes")).toMatchObject({ expiresAt: expect.any(String) as string });
    expect([...failed].map(([key, { code }]) => [key, code])).toEqual([["", "invalid_key"]]);
    const found = await bucket.getMany(["none", "bytes", "text", ...items.map(({ key }) => key)]);
    expect(found.size).toBe(1503);
    expect(found.get("none")).toBeUndefined();
    expect(found.get("bytes")!.value).toEqual(new Uint8Array([0, 255]));
    expect(found.get("text")!.value).toBe('{"no":"json"}');
    expect(found.get("k1499")!.value).toBe(1499);
    expect((await bucket.deleteMany(found.keys())).deleted).toHaveLength(1503);
    expect(await bucket.listKeys()).toEqual([]);
  });
});

describe("a transaction", () => {
  test("writes all that it names", async () => {
    const bucket = await newBucket();
    const a = await bucket.put("a", 1);
    await bucket.putMany(["b", "c"].map((key) => ({ key, value: 1 })));
    const { revisions, durability } = await bucket
      .transaction()
      .update("a", { a: 2 }, a.revision)
      .delete("b")
      .purge("c")
      .create("d", new Uint8Array([255]))
      .put("e", "text", { ttl: "1h" })
      .check("f", 0)
      .commit();
    expect(durability).toBe(a.durability);
    expect([...revisions.keys()]).toEqual(expect.arrayContaining(["a", "b", "c", "d", "e"]));
    expect(await bucket.get("a")).toMatchObject({ value: { a: 2 }, revision: revisions.get("a") });
    expect(await bucket.listKeys()).toEqual(["a", "d", "e"]);
    expect((await bucket.get("d")).value).toEqual(new Uint8Array([255]));
    expect(await bucket.get("e")).toMatchObject({
      value: "text",
      expiresAt: expect.any(String) as string,
    });
  });

  test("writes nothing when one condition does not hold, and says which", async () => {
    const bucket = await newBucket();
    const { revision } = await bucket.put("b", 1);
    const failures: [() => Promise<unknown>, object][] = [
      [
        () => bucket.transaction().put("a", 1).update("b", 2, 9999).commit(),
        { code: "revision_mismatch", operation: { index: 1, key: "b", op: "update" } },
      ],
      [
        () => bucket.transaction().create("b", 2).put("a", 1).commit(),
        { code: "key_exists", operation: { index: 0, key: "b", op: "create" } },
      ],
      [
        () => bucket.transaction().put("a", 1).check("b", 0).commit(),
        { code: "revision_mismatch", operation: { index: 1, key: "b", op: "check" } },
      ],
    ];
    for (const [commit, expected] of failures) {
      const error = await commit().catch((thrown: unknown) => thrown as JetbucketError);
      expect(error).toMatchObject({ ...expected, currentRevision: revision, status: 412 });
      expect(await bucket.listKeys()).toEqual(["b"]);
    }
    await expect(bucket.transaction().put("a", 1).delete("a").commit()).rejects.toMatchObject({
      code: "invalid_request",
      operation: { index: 1, key: "a" },
    });
  });
});

test("a compaction removes what deleted keys left behind", async () => {
  const bucket = await newBucket();
  await bucket.putMany(["a", "b", "c"].map((key) => ({ key, value: 1 })));
  await bucket.deleteMany(["a", "b"]);
  expect(await bucket.compact()).toEqual({ removed: 0 });
  expect(await bucket.compact({ olderThan: 0 })).toEqual({ removed: 2 });
  await expect(bucket.history("a")).rejects.toMatchObject({ code: "key_not_found" });
  expect(await bucket.listKeys()).toEqual(["c"]);
});

describe("a bucket with a schema", () => {
  const User = z.object({ name: z.string(), joined: z.coerce.date(), age: z.number().default(0) });
  const joined = "2026-01-02T03:04:05.000Z";

  test("lets nothing else in, and gives what the schema makes of it", async () => {
    const raw = await newBucket();
    const users = kv().bucket(raw.name, { schema: User });
    const { revision } = await users.put("ada", { name: "Ada", joined });
    expect((await raw.get("ada")).value).toEqual({ name: "Ada", joined });
    const ada = { name: "Ada", joined: new Date(joined), age: 0 };
    expect((await users.get("ada")).value).toEqual(ada);
    await expect(users.put("bob", { joined } as never)).rejects.toMatchObject({
      code: "invalid_value",
      issues: [{ path: ["name"] }],
    });
    await expect(users.patch("ada", { name: null })).rejects.toMatchObject({
      code: "invalid_value",
    });
    expect((await users.get("ada")).revision).toBe(revision);
    const patches = ["Ada L.", "Countess"].map((name) => users.patch("ada", { name }));
    await Promise.all(patches);
    expect(await users.history("ada")).toHaveLength(3);
    await raw.put("broken", 7);
    await expect(users.list().toArray()).rejects.toMatchObject({
      code: "invalid_value",
      details: { key: "broken" },
    });
  });

  test("is watched: what does not fit is reported, and the watch goes on", async () => {
    const raw = await newBucket();
    const users = kv().bucket(raw.name, { schema: User });
    await raw.put("broken", 7);
    await raw.put("good", { name: "Ada", joined });
    const told: string[] = [];
    const watcher = users.watch({
      onUpdate: ({ key, value }) => told.push(`${key} ${value?.joined.getUTCFullYear()}`),
      onError: ({ code, details }) => told.push(`${code} ${String(details?.key)}`),
    });
    onTestFinished(() => watcher.stop());
    await vi.waitFor(() => expect(watcher.state).toBe("live"));
    await raw.delete("broken");
    await vi.waitFor(() => expect(told).toHaveLength(3));
    expect(told).toEqual(["invalid_value broken", "good 2026", "broken undefined"]);
  });
});
