import { beforeAll, describe, expect, test } from "vitest";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";

let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  gateway = await startGateway();
  return () => gateway.close();
});

async function newBucket(settings: object = {}): Promise<string> {
  const name = `p${count++}`;
  await callJson("POST", `${gateway.api}/buckets`, { name, ...settings });
  return `${gateway.api}/buckets/${name}`;
}
const put = (bucket: string, key: string, value: unknown, query = ""): Promise<Answer> =>
  callJson("PUT", `${bucket}/keys/${key}${query}`, value);
const get = (bucket: string, path: string): Promise<Answer> => call("GET", `${bucket}/${path}`);

describe("as_of", () => {
  test("reads a key as it was at a revision, deleted times included", async () => {
    const bucket = await newBucket({ history: 10 });
    await put(bucket, "other", 0);
    await put(bucket, "k", "one");
    await put(bucket, "other", 1);
    await put(bucket, "k", "two");
    await call("DELETE", `${bucket}/keys/k`);
    await put(bucket, "k", "three");
    const values = await Promise.all(
      [1, 2, 3, 4, 5, 6].map(
        async (n) => (await get(bucket, `keys/k?as_of=${n}`)).body.value as unknown,
      ),
    );
    expect(values).toEqual([undefined, "one", "one", "two", undefined, "three"]);
    expect((await get(bucket, "keys/k?as_of=5")).body.code).toBe("key_not_found");
    expect((await get(bucket, "keys/k?as_of=7")).body.code).toBe("revision_not_found");
  });

  test("takes a time", async () => {
    const bucket = await newBucket({ history: 10 });
    await put(bucket, "k", "one");
    const { created_at: first } = (await get(bucket, "keys/k")).body as { created_at: string };
    await expect.poll(() => Date.now() - Date.parse(first)).toBeGreaterThan(5);
    await put(bucket, "k", "two");
    expect((await get(bucket, `keys/k?as_of=${first}`)).body.value).toBe("one");
    expect((await get(bucket, `keys/k?as_of=2020-01-01T00:00:00Z`)).body.code).toBe(
      "key_not_found",
    );
    expect((await get(bucket, `keys/k?as_of=2999-01-01T00:00:00Z`)).body.code).toBe(
      "revision_not_found",
    );
    expect((await get(bucket, `keys/k?as_of=yesterday`)).body.code).toBe("invalid_request");
  });

  test("says so when the history does not reach back", async () => {
    const bucket = await newBucket({ history: 2 });
    for (const value of [1, 2, 3]) await put(bucket, "k", value);
    expect((await get(bucket, "keys/k?as_of=2")).body.value).toBe(2);
    expect(await get(bucket, "keys/k?as_of=1")).toMatchObject({
      status: 404,
      body: { code: "revision_not_found" },
    });
  });

  test("lists the keys that were there, and whether that is sure", async () => {
    const bucket = await newBucket({ history: 3 });
    for (const key of ["b", "a", "c"]) await put(bucket, key, key);
    await call("DELETE", `${bucket}/keys/a`);
    await put(bucket, "d", "d");
    expect((await get(bucket, "keys?as_of=3")).body).toEqual({
      keys: ["a", "b", "c"],
      count: 3,
      complete: true,
    });
    expect((await get(bucket, "keys?as_of=4&values=true")).body).toMatchObject({
      keys: ["b", "c"],
      entries: [{ value: "b" }, { value: "c" }],
      complete: true,
    });
    expect((await get(bucket, "keys?as_of=3&limit=2&prefix=b")).body).toEqual({
      keys: ["b"],
      count: 1,
      complete: true,
    });
    for (let i = 0; i < 4; i++) await put(bucket, "b", i);
    expect((await get(bucket, "keys?as_of=3")).body).toEqual({
      keys: ["a", "c"],
      count: 2,
      complete: false,
    });
  });
});

describe("a difference", () => {
  test("shows both ends, and a patch that leads from one to the other", async () => {
    const bucket = await newBucket({ history: 10 });
    await put(bucket, "x", 0);
    await put(bucket, "k", { a: 1, b: { c: 1, d: 1 }, e: [1] });
    await put(bucket, "k", { a: 1, b: { c: 2 }, e: [1, 2], f: true });
    const { body } = await get(bucket, "diff/k?from=2&to=3");
    expect(body).toMatchObject({
      changed: true,
      from: { revision: 2 },
      to: { revision: 3 },
      merge_patch: { b: { c: 2, d: null }, e: [1, 2], f: true },
    });
    expect(body.merge_patch).not.toHaveProperty("a");
    expect((await get(bucket, "diff/k?from=2&to=2")).body).toMatchObject({ changed: false });
    expect((await get(bucket, "diff/k?from=1")).body).toMatchObject({
      from: null,
      to: { revision: 3 },
      changed: true,
    });
    expect((await get(bucket, "diff/k")).body.code).toBe("invalid_request");
  });
});

describe("compaction", () => {
  test("removes old tombstones with their history, and counts them", async () => {
    const bucket = await newBucket({ history: 5 });
    for (const key of ["a", "b", "c"]) await put(bucket, key, 1);
    await call("DELETE", `${bucket}/keys/a`);
    await call("DELETE", `${bucket}/keys/b?purge=true`);
    expect((await callJson("POST", `${bucket}/compact`, {})).body).toEqual({ removed: 0 });
    expect((await callJson("POST", `${bucket}/compact`, { older_than: "1h" })).body).toEqual({
      removed: 0,
    });
    expect((await callJson("POST", `${bucket}/compact`, { older_than: 0 })).body).toEqual({
      removed: 2,
    });
    expect((await call("POST", `${bucket}/compact`)).body).toEqual({ removed: 0 });
    expect((await get(bucket, "history/a")).body.code).toBe("key_not_found");
    expect((await get(bucket, "keys")).body.keys).toEqual(["c"]);
    expect((await callJson("POST", `${bucket}/compact`, { older_than: "soon" })).body.code).toBe(
      "invalid_ttl",
    );
  });
});

describe("a listing", () => {
  test("pages by a cursor that holds while keys come and go", async () => {
    const bucket = await newBucket();
    const keys = Array.from({ length: 250 }, (_, i) => `k${String(i).padStart(4, "0")}`);
    await callJson("POST", `${bucket}/batch`, { set: keys.map((key) => ({ key, value: 1 })) });
    const seen: string[] = [];
    let cursor = "";
    for (let round = 0; ; round++) {
      const { body } = await get(bucket, `keys?limit=20${cursor}`);
      seen.push(...(body.keys as string[]));
      await put(bucket, `a${round}`, 1);
      await put(bucket, `z${round}`, 1);
      await call("DELETE", `${bucket}/keys/${(body.keys as string[]).at(-1)!}`);
      if (body.next_cursor === undefined) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(seen.filter((key) => key.startsWith("k"))).toEqual(keys);
    expect(seen).toEqual([...new Set(seen)].sort());
  });

  test("has values or metadata where asked for, by prefix and filter", async () => {
    const bucket = await newBucket();
    for (const key of ["user.1", "user.2", "user-x", "v"])
      await put(bucket, key, { key }, "?description=d");
    const values = (await get(bucket, "keys?values=true&filter=user.*")).body;
    expect(values).toMatchObject({
      keys: ["user.1", "user.2"],
      count: 2,
      entries: [{ value: { key: "user.1" } }, { value: { key: "user.2" } }],
    });
    const metadata = (await get(bucket, "keys?metadata=true&prefix=user-")).body;
    expect(metadata.entries).toEqual([
      {
        key: "user-x",
        size: 16,
        revision: 3,
        created_at: expect.any(String),
        operation: "put",
        description: "d",
      },
    ]);
    expect((await get(bucket, "keys?filter=user-*")).body.keys).toEqual(["user-x"]);
  });

  test("shows every acknowledged write at once, expired and deleted keys never", async () => {
    const bucket = await newBucket();
    for (let i = 0; i < 50; i++) {
      await put(bucket, `k${i}`, i);
      expect((await get(bucket, `keys?prefix=k${i}`)).body.keys).toContain(`k${i}`);
      await call("DELETE", `${bucket}/keys/k${i}`);
      expect((await get(bucket, "keys")).body.keys).toEqual([]);
    }
    expect((await call("GET", bucket)).body.keys).toBe(0);
  });

  test("follows a bucket whose time to live is changed", async () => {
    const bucket = await newBucket({ ttl_seconds: 2 });
    await put(bucket, "k", 1);
    expect((await get(bucket, "keys")).body.keys).toEqual(["k"]);
    expect((await callJson("PATCH", bucket, { ttl_seconds: 3600 })).status).toBe(200);
    const { created_at: written } = (await get(bucket, "keys/k")).body as { created_at: string };
    await expect
      .poll(() => Date.now() - Date.parse(written), { timeout: 5_000 })
      .toBeGreaterThan(2_200);
    expect((await get(bucket, "keys/k")).status).toBe(200);
    expect((await get(bucket, "keys")).body.keys).toEqual(["k"]);
    expect((await call("GET", bucket)).body.keys).toBe(1);
    await callJson("PATCH", bucket, { ttl_seconds: 1 });
    await expect
      .poll(async () => (await get(bucket, "keys")).body.keys as string[], { timeout: 5_000 })
      .toEqual([]);
  });
});
