import { describe, expect, test } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import { wireEntry } from "./fake-gateway.ts";
import { base, startBucket } from "./support.ts";

describe("a read", () => {
  test("asks for the state that it wants", async () => {
    const { bucket, asked, requests } = await startBucket({ body: wireEntry("k", 1, 2) });
    await bucket.get("k", { strong: true });
    await bucket.get("k", { strong: false, minRevision: 7 });
    await bucket.get("k", { asOf: 5 });
    await bucket.get("k", { asOf: "2026-01-01T00:00:00Z" });
    await bucket.keyAt("k", new Date(0));
    await bucket.keyAt("a/./b", 5);
    expect(asked()).toEqual([
      `GET ${base}/keys/k?consistency=strong`,
      `GET ${base}/keys/k`,
      `GET ${base}/keys/k?as_of=5`,
      `GET ${base}/keys/k?as_of=2026-01-01T00%3A00%3A00Z`,
      `GET ${base}/keys/k?as_of=1970-01-01T00%3A00%3A00.000Z`,
      `GET ${base}/entry?key=a%2F.%2Fb&as_of=5`,
    ]);
    expect(requests.map(({ headers }) => headers["min-revision"])).toEqual([
      undefined,
      "7",
      ...Array<undefined>(4).fill(undefined),
    ]);
  });

  test("gives all that is known of an entry", async () => {
    const { bucket } = await startBucket({
      body: {
        ...wireEntry("k", 1, 2),
        expires_at: "e",
        first_created_at: "f",
        content_type: "c",
        description: "d",
        value_type: "v",
      },
    });
    expect(await bucket.get("k")).toMatchObject({
      expiresAt: "e",
      firstCreatedAt: "f",
      contentType: "c",
      description: "d",
      valueType: "v",
    });
  });

  test("of what is not known any more rejects, also where absence is no error", async () => {
    const { bucket } = await startBucket(({ url }) => {
      const code = url.includes("unknown") ? "revision_not_found" : "key_not_found";
      return { status: 404, body: new KvError(code, "no").toBody() };
    });
    expect(await bucket.find("k", { asOf: 3 })).toBeUndefined();
    await expect(bucket.find("unknown", { asOf: 3 })).rejects.toMatchObject({
      code: "revision_not_found",
    });
    await expect(bucket.keyAt("unknown", 3)).rejects.toMatchObject({
      code: "revision_not_found",
    });
  });
});

test("a difference has both sides, and the patch between them where there is one", async () => {
  const { bucket, asked } = await startBucket(({ url }) => ({
    body: url.includes("?key=")
      ? { key: "..", from: null, to: null, changed: false }
      : {
          key: "k",
          from: wireEntry("k", { a: 1 }, 1),
          to: wireEntry("k", {}, 4),
          changed: true,
          merge_patch: { a: null },
        },
  }));
  expect(await bucket.diff("k", { from: 1, to: new Date(1000) })).toMatchObject({
    key: "k",
    from: { value: { a: 1 }, revision: 1 },
    to: { value: {}, revision: 4 },
    changed: true,
    mergePatch: { a: null },
  });
  expect(await bucket.diff("..", { from: "2026-01-01T00:00:00Z" })).toStrictEqual({
    key: "..",
    from: undefined,
    to: undefined,
    changed: false,
  });
  expect(asked()).toEqual([
    `GET ${base}/diff/k?from=1&to=1970-01-01T00%3A00%3A01.000Z`,
    `GET ${base}/diff?key=..&from=2026-01-01T00%3A00%3A00Z`,
  ]);
});

test("a compaction says how much went", async () => {
  const { bucket, asked, bodies } = await startBucket({ body: { removed: 3 } });
  expect(await bucket.compact()).toEqual({ removed: 3 });
  await bucket.compact({ olderThan: "1d" });
  await bucket.compact({ olderThan: 0 });
  expect(asked()[0]).toBe(`POST ${base}/compact`);
  expect(bodies()).toEqual([{}, { older_than: "1d" }, { older_than: 0 }]);
});
