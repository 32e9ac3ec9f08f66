import { headers as newHeaders } from "nats";
import { describe, expect, onTestFinished, test } from "vitest";
import { jsonValue } from "../../src/protocol/values.ts";
import type { Bucket, StoredEntry } from "../../src/store/bucket.ts";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import type { Feed, FeedEnd, FeedEvent, FeedListener } from "../../src/store/feed.ts";
import { transact } from "../../src/store/transaction.ts";
import { eventually } from "../support/eventually.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";

const STREAM = "KV_APP_b";

/** Keeps all that a feed tells. */
class Recorder implements FeedListener {
  readonly events: FeedEvent[] = [];
  readonly marks: string[] = [];
  end: FeedEnd | undefined;

  onEvent(event: FeedEvent): void {
    this.events.push(event);
  }

  onStale(reason: string): void {
    this.marks.push(reason);
  }

  onCurrent(): void {
    this.marks.push("current");
  }

  onEnd(why: FeedEnd): void {
    this.end = why;
  }

  /** The keys of each event. */
  get keys(): string[][] {
    return this.events.map(({ changes }) => changes.map(({ key }) => key));
  }
}

interface Followed {
  nats: TestNats;
  bucket: Bucket;
  feed: Feed;
  told: Recorder;
}

async function follow(settings: { history?: number } = {}, running?: TestNats): Promise<Followed> {
  const nats = running ?? (await startTestNats());
  const connection = await StoreConnection.open({ servers: [nats.url] });
  const buckets = new Buckets(connection);
  onTestFinished(async () => {
    await buckets.close();
    await connection.close();
  });
  await buckets.create({ name: "b", ...settings });
  const told = new Recorder();
  const { feed } = await buckets.follow("b", told);
  return { nats, bucket: await buckets.open("b"), feed, told };
}

const put = (bucket: Bucket, key: string, value: unknown = 1): Promise<{ revision: number }> =>
  bucket.put(key, jsonValue(value));

const putAll = (bucket: Bucket, keys: readonly string[]): Promise<unknown> =>
  transact(
    bucket,
    keys.map((key) => ({ op: "put", key, value: jsonValue(1) })),
  );

async function feedConsumer({ jsm }: ForeignClient): Promise<string> {
  const names: string[] = [];
  for await (const { name } of jsm.consumers.list(STREAM)) {
    if (name.startsWith("jetbucket-feed-")) names.push(name);
  }
  expect(names).toHaveLength(1);
  return names[0]!;
}

describe("a feed's events", () => {
  test("are one for each write, and one for all of a transaction", async () => {
    const { bucket, feed, told } = await follow();
    await put(bucket, "a");
    await putAll(bucket, ["b", "c", "d"]);
    await bucket.delete("c");
    await feed.reach(5);
    expect(told.keys).toEqual([["a"], ["b", "c", "d"], ["c"]]);
    expect(told.events.map(({ revision }) => revision)).toEqual([1, 4, 5]);
    expect(told.events[2]!.changes[0]).toMatchObject({ operation: "delete", suffix: "c" });
    expect(feed.position).toBe(5);
  });

  test("leave out what only carries a condition, also where it ends the transaction", async () => {
    const { bucket, feed, told } = await follow();
    const { revision } = await put(bucket, "checked");
    await transact(bucket, [
      { op: "update", key: "checked", value: jsonValue(2), revision },
      { op: "check", key: "other", revision: 0 },
    ]);
    expect(await bucket.lastRevision()).toBe(3);
    await feed.reach(3);
    expect(told.keys).toEqual([["checked"], ["checked"]]);
    expect(told.events[1]!.revision).toBe(3);
    expect(feed.position).toBe(3);
  });

  test("tell single writes that were only stored together one by one", async () => {
    const { nats, feed, told } = await follow();
    await publishBatch(await connectForeign(nats.url), "group-1", ["a", "b", "c"]);
    await feed.reach(3);
    expect(told.keys).toEqual([["a"], ["b"], ["c"]]);
  });

  test("give what is left of a transaction whose end is not stored any more", async () => {
    const { nats, bucket, feed, told } = await follow();
    await put(bucket, "c");
    await feed.keys();
    // Written and purged where the feed does not see it: by another server on the same data.
    await nats.stop();
    const elsewhere = await startTestNats({ dataDir: nats.dataDir });
    const foreign = await connectForeign(elsewhere.url);
    await publishBatch(foreign, "t", ["a", "b", "c"]);
    await foreign.jsm.streams.purge(STREAM, { filter: "$KV.APP_b.c" });
    await elsewhere.stop();
    await nats.restart();
    await eventually(() => told.marks.at(-1)).toBe("current");
    expect(told.keys).toEqual([["c"], ["a", "b"], ["c"]]);
    expect(told.events.at(-1)!.changes[0]).toMatchObject({ operation: "delete", isLate: true });
    expect(feed.position).toBe(4);
  });
});

describe("a feed that lost its consumer", () => {
  test("notices at once that the consumer was deleted, and goes on behind its last change", async () => {
    const { nats, bucket, feed, told } = await follow();
    const foreign = await connectForeign(nats.url);
    await put(bucket, "a");
    await feed.reach(1);
    const started = performance.now();
    await foreign.jsm.consumers.delete(STREAM, await feedConsumer(foreign));
    await put(bucket, "b");
    await eventually(() => told.keys).toEqual([["a"], ["b"]]);
    expect(performance.now() - started).toBeLessThan(2_000);
    await eventually(() => told.marks).toEqual(["the consumer was deleted", "current"]);
  });

  test("reads a transaction of which it has seen a part again from its beginning", async () => {
    const { nats, bucket, feed, told } = await follow();
    const foreign = await connectForeign(nats.url);
    const keys = Array.from({ length: 900 }, (_, i) => `k${i}`);
    for (let round = 0; round < 5; round++) {
      const name = await feedConsumer(foreign);
      const gone = foreign.jsm.consumers.delete(STREAM, name);
      await Promise.all([putAll(bucket, keys), gone]);
      await eventually(() => told.keys.length).toBe(round + 1);
      await feed.reach(await bucket.lastRevision());
      await eventually(() => told.marks.filter((mark) => mark === "current").length).toBe(
        round + 1,
      );
    }
    expect(told.keys).toEqual(Array.from({ length: 5 }, () => keys));
  });

  test("waits for the recovery when somebody needs what was written meanwhile", async () => {
    const { nats, bucket, feed, told } = await follow();
    const foreign = await connectForeign(nats.url);
    await foreign.jsm.consumers.delete(STREAM, await feedConsumer(foreign));
    const { revision } = await put(bucket, "a");
    await feed.reach(revision);
    expect(told.keys).toEqual([["a"]]);
    expect([...(await feed.keys())!.keys()]).toEqual(["a"]);
  });

  test("goes on after a restart, a kill and a pause of the server", async () => {
    const { nats, bucket, feed, told } = await follow();
    await put(bucket, "a");
    await nats.restart();
    await eventually(() => told.marks.at(-1)).toBe("current");
    await put(bucket, "b");
    await feed.reach(2);
    await nats.kill();
    await nats.restart();
    await eventually(() => told.marks.filter((mark) => mark === "current").length).toBe(2);
    await put(bucket, "c");
    await feed.reach(3);
    nats.pause();
    const written = put(bucket, "d");
    nats.resume();
    await written;
    await eventually(() => told.keys).toEqual([["a"], ["b"], ["c"], ["d"]]);
  });

  test("ends when the bucket is deleted", async () => {
    const { nats, told } = await follow();
    const { jsm } = await connectForeign(nats.url);
    await jsm.streams.delete(STREAM);
    await eventually(() => told.end).toBe("bucket_gone");
  });
});

describe("what was written after a revision", () => {
  const read = async (bucket: Bucket, revision: number): Promise<StoredEntry[] | undefined> => {
    const batches = await bucket.since(revision);
    if (batches === undefined) return undefined;
    const entries: StoredEntry[] = [];
    for await (const batch of batches) entries.push(...batch);
    return entries;
  };
  const keysOf = (entries: StoredEntry[] | undefined): string[] | undefined =>
    entries?.map(({ entry: { key, operation } }) => (operation === "put" ? key : `-${key}`));

  test("is given when all of it is stored: puts, deletes and transactions", async () => {
    const { bucket } = await follow({ history: 5 });
    await put(bucket, "a");
    await putAll(bucket, ["b", "c"]);
    await bucket.delete("b");
    const entries = await read(bucket, 1);
    expect(keysOf(entries)).toEqual(["b", "c", "-b"]);
    expect(entries!.map(({ batch }) => batch?.isLast)).toEqual([false, true, undefined]);
    expect(entries![0]!.batch!.id).toBe(entries![1]!.batch!.id);
    expect(keysOf(await read(bucket, 0))).toEqual(["a", "b", "c", "-b"]);
    expect(await read(bucket, 4)).toEqual([]);
  });

  test("is not given when some of it is gone: overwritten, purged or expired", async () => {
    const { bucket, nats } = await follow();
    await put(bucket, "a");
    await put(bucket, "b");
    await put(bucket, "a", 2);
    expect(await read(bucket, 0)).toBeUndefined();
    expect(keysOf(await read(bucket, 1))).toEqual(["b", "a"]);
    await bucket.delete("b");
    await bucket.forget("b", 4);
    expect(keysOf(await read(bucket, 2))).toBeUndefined();
    expect(await read(bucket, 4)).toEqual([]);
    await bucket.put("expiring", jsonValue(1), { ttl: 1 });
    expect(keysOf(await read(bucket, 4))).toEqual(["expiring"]);
    const { jsm } = await connectForeign(nats.url);
    await eventually(async () => (await jsm.streams.info(STREAM)).state.last_seq).toBe(6);
    expect(await read(bucket, 4)).toBeUndefined();
    // Of a revision that there was not yet nothing can be said.
    expect(await read(bucket, 100)).toBeUndefined();
  });

  test("is given on a bucket that is written all the time, without a gap", async () => {
    const { bucket } = await follow({ history: 64 });
    let running = true;
    const writers = Array.from({ length: 16 }, async (_, writer) => {
      for (let i = 0; running; i++) await put(bucket, `k${writer}.${i}`);
    });
    for (let round = 0; round < 20; round++) {
      const from = await bucket.lastRevision();
      await put(bucket, `round.${round}`);
      const last = await bucket.lastRevision();
      const revisions = (await read(bucket, from))!.map(({ entry }) => entry.revision);
      expect(revisions.length).toBeGreaterThanOrEqual(last - from);
      expect(revisions).toEqual(revisions.map((_, i) => from + 1 + i));
    }
    running = false;
    await Promise.all(writers);
  });

  test("fails while it is read when something of it is removed", async () => {
    const { bucket, nats } = await follow();
    const { jsm } = await connectForeign(nats.url);
    await Promise.all(Array.from({ length: 3_000 }, (_, i) => put(bucket, `k${i}`)));
    const batches = (await bucket.since(0))!;
    await batches.next();
    await jsm.streams.purge(STREAM, { filter: "$KV.APP_b.k2999" });
    const rest = async (): Promise<void> => {
      for await (const batch of batches) expect(batch.length).toBeGreaterThan(0);
    };
    await expect(rest()).rejects.toMatchObject({ code: "revision_not_found" });
  });
});

/** Writes an atomic batch as another client does. */
async function publishBatch({ nats }: ForeignClient, id: string, keys: string[]): Promise<void> {
  for (const [i, key] of keys.entries()) {
    const headers = newHeaders();
    headers.set("Nats-Batch-Id", id);
    headers.set("Nats-Batch-Sequence", String(i + 1));
    if (i < keys.length - 1) nats.publish(`$KV.APP_b.${key}`, "1", { headers });
    else {
      headers.set("Nats-Batch-Commit", "1");
      await nats.request(`$KV.APP_b.${key}`, "1", { headers, timeout: 4_000 });
    }
  }
}
