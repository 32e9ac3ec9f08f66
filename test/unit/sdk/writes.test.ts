import { describe, expect, expectTypeOf, test } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import type { Bucket, Entry, PutOptions, Written } from "../../../src/sdk/node.ts";
import { wireEntry } from "./fake-gateway.ts";
import { base, startBucket, written } from "./support.ts";

describe("a put", () => {
  test("carries all that it can ask for", async () => {
    const { bucket, asked, requests } = await startBucket();
    await bucket.put("k", 1, {
      ttl: "15m",
      ifRevision: 3,
      keepCreated: true,
      description: "a & b",
      valueType: "DATE",
    });
    await bucket.put("k", 1, { keepCreated: false, ifRevision: 0 });
    expect(asked()).toEqual([
      `PUT ${base}/keys/k?ttl=15m&keep_created=true&description=a%20%26%20b&value_type=DATE`,
      `PUT ${base}/keys/k`,
    ]);
    expect(requests.map(({ headers }) => headers["if-match"])).toEqual(["3", "0"]);
  });

  test.each([
    [90, "90"],
    [0.5, "0.5"],
    ["90s", "90s"],
    ["PT1M", "PT1M"],
    [{ value: 30, unit: "SECONDS" }, "30s"],
    [{ value: 15, unit: "MINUTES" }, "15m"],
    [{ value: 2, unit: "HOURS" }, "2h"],
    [{ value: 7, unit: "DAYS" }, "7d"],
  ] as const)("sends the time to live %j as %s", async (ttl, text) => {
    const { bucket, asked } = await startBucket();
    await bucket.create("k", 1, { ttl });
    await bucket.update("k", 1, 3, { ttl });
    const request = `PUT ${base}/keys/k?ttl=${text}`;
    expect(asked()).toEqual([request, request]);
  });

  test("answers with what it replaced, or what it wrote, when asked", async () => {
    const { bucket, asked } = await startBucket(({ url }, attempt) => ({
      body: {
        ...written,
        ...(url.endsWith("previous")
          ? { previous: attempt === 1 ? null : wireEntry("k", "old", 3) }
          : { latest: wireEntry("k", "new", 7) }),
      },
    }));
    const first = await bucket.put("k", "new", { return: "previous" });
    expect(first).toStrictEqual({
      revision: 7,
      createdAt: written.created_at,
      previous: undefined,
    });
    const second = await bucket.update("k", "new", 3, { return: "previous" });
    expect(second.previous).toMatchObject({ value: "old", revision: 3, operation: "put" });
    const third = await bucket.create("k", "new", { return: "latest" });
    expect(third.latest).toMatchObject({ value: "new", revision: 7 });
    expect(third).not.toHaveProperty("previous");
    expect(asked()[2]).toBe(`PUT ${base}/keys/k?return=latest`);
  });

  test("says how durable it is, when the server does", async () => {
    const { bucket } = await startBucket((_, attempt) => ({
      body: written,
      headers: attempt === 1 ? { Durability: "fsync" } : {},
    }));
    expect((await bucket.put("k", 1)).durability).toBe("fsync");
    expect(await bucket.put("k", 1)).not.toHaveProperty("durability");
  });

  test("under a condition that is no revision is refused before any request", async () => {
    const { bucket, requests } = await startBucket();
    for (const ifRevision of [null, NaN, -1, 1.5, "7"]) {
      await expect(
        bucket.put("k", 1, { ifRevision: ifRevision as unknown as number }),
      ).rejects.toThrow(TypeError);
    }
    expect(requests).toHaveLength(0);
  });

  test("is typed by what it returns", async () => {
    const { kv } = await startBucket({ body: { ...written, latest: wireEntry("k", 1, 7) } });
    const bucket = kv.bucket<number>("b");
    expectTypeOf(await bucket.put("k", 1, { ttl: "1m" })).toEqualTypeOf<Written>();
    const { previous } = await bucket.put("k", 1, { return: "previous" });
    expectTypeOf(previous).toEqualTypeOf<Entry<number> | undefined>();
    const { latest } = await bucket.update("k", 1, 7, { return: "latest" });
    expectTypeOf(latest).toEqualTypeOf<Entry<number>>();
    const options: PutOptions = { return: "latest" };
    const either = await bucket.put("k", 1, options);
    expectTypeOf(either.previous).toEqualTypeOf<Entry<number> | undefined>();
    expectTypeOf(either.latest).toEqualTypeOf<Entry<number> | undefined>();
  });
});

describe("a patch", () => {
  test("is a merge patch, under the conditions given", async () => {
    const { bucket, asked, requests, bodies } = await startBucket({
      body: { ...written, value: { a: 1 } },
      headers: { Durability: "memory" },
    });
    expect(await bucket.patch("k", { a: 1, b: null }, { ifRevision: 3, ttl: 90 })).toEqual({
      revision: 7,
      createdAt: written.created_at,
      durability: "memory",
      value: { a: 1 },
    });
    await bucket.patch("k", "text");
    expect(asked()).toEqual([`PATCH ${base}/keys/k?ttl=90`, `PATCH ${base}/keys/k`]);
    expect(bodies()).toEqual([{ a: 1, b: null }, "text"]);
    expect(requests.map(({ headers }) => [headers["content-type"], headers["if-match"]])).toEqual([
      ["application/merge-patch+json", "3"],
      ["application/merge-patch+json", undefined],
    ]);
    await expect(bucket.patch("k", undefined)).rejects.toThrow(TypeError);
  });

  test("is typed as a part of the value", () => {
    interface User {
      name: string;
      address: { city: string; tags: string[] };
    }
    type Patch = Parameters<Bucket<User>["patch"]>[1];
    expectTypeOf<{ address: { city: null } }>().toExtend<Patch>();
    expectTypeOf<{ address: { city: 1 } }>().not.toExtend<Patch>();
    expectTypeOf<{ address: { tags: [null] } }>().not.toExtend<Patch>();
  });
});

test("an increment gives the new number", async () => {
  const { bucket, asked, bodies } = await startBucket({ body: { ...written, value: 0 } });
  expect(await bucket.increment("k")).toEqual({
    revision: 7,
    createdAt: written.created_at,
    value: 0,
  });
  await bucket.increment("k", { by: -2, initial: 10, ttl: { value: 1, unit: "DAYS" } });
  await bucket.increment("a/../b");
  expect(asked()).toEqual([
    `POST ${base}/increment/k`,
    `POST ${base}/increment/k`,
    `POST ${base}/increment?key=a%2F..%2Fb`,
  ]);
  expect(bodies()).toEqual([{}, { by: -2, initial: 10, ttl: { value: 1, unit: "DAYS" } }, {}]);
});

test("a touch names the new expiry", async () => {
  const expires = "2026-01-01T00:15:00.000Z";
  const { bucket, asked, bodies } = await startBucket({
    body: { ...written, expires_at: expires },
  });
  expect(await bucket.touch("k", "15m")).toEqual({
    revision: 7,
    createdAt: written.created_at,
    expiresAt: expires,
  });
  await bucket.touch("..", 90);
  expect(asked()).toEqual([`POST ${base}/touch/k`, `POST ${base}/touch?key=..`]);
  expect(bodies()).toEqual([{ ttl: "15m" }, { ttl: 90 }]);
});

test("a restore names the revision, and its condition", async () => {
  const { bucket, asked, bodies, requests } = await startBucket();
  expect(await bucket.restore("k", 3, { ifRevision: 6 })).toMatchObject({ revision: 7 });
  expect(asked()).toEqual([`POST ${base}/restore/k`]);
  expect(bodies()).toEqual([{ revision: 3 }]);
  expect(requests[0]!.headers["if-match"]).toBe("6");
  await expect(bucket.restore("k", NaN)).rejects.toThrow(TypeError);
});

test("a purge takes a condition too", async () => {
  const { bucket, asked, requests } = await startBucket({ status: 204 });
  await bucket.purge("k", { ifRevision: 4 });
  expect(asked()).toEqual([`DELETE ${base}/keys/k?purge=true`]);
  expect(requests[0]!.headers["if-match"]).toBe("4");
});

test("no write is sent twice", async () => {
  const { bucket, requests } = await startBucket({
    status: 503,
    body: new KvError("store_unavailable", "no").toBody(),
  });
  const writes = [
    () => bucket.put("k", 1),
    () => bucket.patch("k", {}),
    () => bucket.increment("k"),
    () => bucket.touch("k", 1),
    () => bucket.restore("k", 1),
    () => bucket.putMany([{ key: "k", value: 1 }]),
    () => bucket.deleteMany(["k"]),
    () => bucket.transaction().put("k", 1).commit(),
    () => bucket.compact(),
  ];
  for (const write of writes) {
    await expect(write()).rejects.toMatchObject({ code: "store_unavailable" });
  }
  expect(requests).toHaveLength(writes.length);
});
