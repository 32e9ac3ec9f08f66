import { describe, expect, onTestFinished, test } from "vitest";
import { jsonValue } from "../../src/protocol/values.ts";
import type { Bucket } from "../../src/store/bucket.ts";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { eventually } from "../support/eventually.ts";
import { connectForeign } from "../support/jetstream.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";

const STREAM = "KV_APP_b";

async function open(
  indexMemory?: number,
): Promise<{ nats: TestNats; buckets: Buckets; bucket: Bucket }> {
  const nats = await startTestNats();
  const connection = await StoreConnection.open({ servers: [nats.url] });
  const buckets = new Buckets(connection, indexMemory);
  onTestFinished(async () => {
    await buckets.close();
    await connection.close();
  });
  await buckets.create({ name: "b" });
  return { nats, buckets, bucket: await buckets.open("b") };
}

const put = (bucket: Bucket, key: string): Promise<unknown> => bucket.put(key, jsonValue(1));

describe("a listing", () => {
  test.each([undefined, 1])(
    "has all of many keys in order, with %s bytes for the index",
    async (memory) => {
      const { buckets, bucket } = await open(memory);
      // More than the reader asks for at a time, and not written in their order.
      const keys = Array.from({ length: 5_000 }, (_, i) => `k.${(i * 7_919) % 5_000}`);
      await Promise.all(keys.map((key) => put(bucket, key)));
      const gone = keys.slice(0, 300);
      await Promise.all(gone.map((key) => bucket.delete(key)));
      await bucket.put("expired", jsonValue(1), { ttl: 1 });
      const left = keys.slice(300).sort();
      // Until the expiring one is gone.
      await eventually(async () => (await buckets.keys(bucket, {})).keys).toEqual(left);
      expect((await buckets.keys(bucket, { limit: 10, after: left[99]! })).keys).toEqual(
        left.slice(100, 110),
      );
    },
  );

  test("is answered while the bucket's feed recovers", async () => {
    const { nats, buckets, bucket } = await open();
    const { jsm } = await connectForeign(nats.url);
    await put(bucket, "a");
    await buckets.keys(bucket, {});
    for (let round = 1; round <= 10; round++) {
      for await (const { name } of jsm.consumers.list(STREAM))
        await jsm.consumers.delete(STREAM, name);
      await put(bucket, `b${round}`);
      expect((await buckets.keys(bucket, {})).keys).toHaveLength(round + 1);
    }
  });
});
