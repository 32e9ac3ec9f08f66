import { describe, expect, test } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import { base, startBucket } from "./support.ts";

describe("a transaction", () => {
  test("sends its operations in order, and gives the revisions", async () => {
    const { bucket, asked, bodies } = await startBucket({
      headers: { Durability: "replicated" },
      body: { revisions: { a: 1, b: 2 } },
    });
    const committed = await bucket
      .transaction()
      .put("a", "text", { ttl: "1h" })
      .create("b", { n: 1 })
      .update("c", new Uint8Array([255]), 0, { ttl: 90 })
      .delete("d")
      .delete("e", { ifRevision: 3 })
      .purge("f")
      .purge("g", { ifRevision: 4 })
      .check("h", 0)
      .commit();
    expect(committed).toEqual({
      revisions: new Map([
        ["a", 1],
        ["b", 2],
      ]),
      durability: "replicated",
    });
    expect(asked()).toEqual([`POST ${base}/transactions`]);
    expect(bodies()).toEqual([
      {
        operations: [
          { op: "put", key: "a", value: "text", encoding: "text", ttl: "1h" },
          { op: "create", key: "b", value: { n: 1 } },
          { op: "update", key: "c", value: "/w==", encoding: "base64", revision: 0, ttl: 90 },
          { op: "delete", key: "d" },
          { op: "delete", key: "e", revision: 3 },
          { op: "purge", key: "f" },
          { op: "purge", key: "g", revision: 4 },
          { op: "check", key: "h", revision: 0 },
        ],
      },
    ]);
  });

  test("that fails names the operation, and where its key is", async () => {
    const details = { index: 1, key: "b", op: "update", current_revision: 9 };
    const { bucket } = await startBucket({
      status: 412,
      body: new KvError("revision_mismatch", "no", { details }).toBody(),
    });
    const commit = bucket.transaction().put("a", 1).update("b", 1, 3).commit();
    await expect(commit).rejects.toMatchObject({
      code: "revision_mismatch",
      operation: { index: 1, key: "b", op: "update" },
      currentRevision: 9,
    });
  });

  test("can be committed again, with values as they are then", async () => {
    const { bucket, bodies } = await startBucket({ body: { revisions: {} } });
    const value = { n: 1 };
    const transaction = bucket.transaction().put("a", value);
    await transaction.commit();
    value.n = 2;
    await transaction.commit();
    expect(bodies()).toEqual(
      [1, 2].map((n) => ({ operations: [{ op: "put", key: "a", value: { n } }] })),
    );
  });

  test("refuses what is no revision or no value before any request", async () => {
    const { bucket, requests } = await startBucket();
    const transaction = bucket.transaction();
    expect(() => transaction.update("a", 1, NaN)).toThrow(TypeError);
    expect(() => transaction.check("a", -1)).toThrow(TypeError);
    expect(() => transaction.delete("a", { ifRevision: 1.5 })).toThrow(TypeError);
    await expect(transaction.put("a", undefined).commit()).rejects.toThrow(TypeError);
    expect(requests).toHaveLength(0);
  });

  test("keeps keys apart that objects treat specially", async () => {
    const { bucket } = await startBucket({ body: '{"revisions":{"__proto__":1,"10":2}}' });
    const { revisions } = await bucket.transaction().put("__proto__", 1).commit();
    expect(revisions.get("__proto__")).toBe(1);
    expect(revisions.get("10")).toBe(2);
  });
});

test("other failures name no operation", async () => {
  const details = { current_revision: 9 };
  const { bucket } = await startBucket({
    status: 412,
    body: new KvError("revision_mismatch", "no", { details }).toBody(),
  });
  await expect(bucket.update("k", 1, 3)).rejects.toMatchObject({ operation: undefined });
});
