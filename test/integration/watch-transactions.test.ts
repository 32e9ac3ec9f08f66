import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { advancePosition } from "../../src/protocol/position.ts";
import type { TransactionFrame, WatchFrame } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { Replica } from "../support/replica.ts";
import { openMultiplex, openWatch, watchUrl, type WatchClient } from "../support/watch-client.ts";

let gateway: TestGateway;
let count = 0;
let name: string;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());

beforeEach(async () => {
  name = `t${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
  await callJson("POST", `${gateway.api}/buckets`, { name, history: 3 });
});

const put = (key: string, value: unknown): Promise<Answer> =>
  callJson("PUT", `${bucket}/keys/${key}`, value);
const putOf = (key: string, value: unknown): object => ({ op: "put", key, value });

/** Runs a transaction; resolves with its last revision. */
async function transact(...operations: object[]): Promise<number> {
  const { status } = await callJson("POST", `${bucket}/transactions`, { operations });
  expect(status).toBe(200);
  return (await lastUpdate()).revision;
}

let probes = 0;
/** Writes once more, and resolves with the revision before. */
async function lastUpdate(): Promise<{ revision: number }> {
  const { body } = await put("probe", ++probes);
  return { revision: (body as { revision: number }).revision - 1 };
}

async function watch(query: Record<string, string> = {}, plain = false): Promise<WatchClient> {
  const client = await openWatch(
    watchUrl(gateway.api, name, new URLSearchParams(query).toString()),
    {
      plain,
    },
  );
  if (!plain) await eventually(() => client.ready.length).toBeGreaterThan(0);
  return client;
}

const transactionsOf = (frames: readonly WatchFrame[]): TransactionFrame[] =>
  frames.filter((frame) => frame.type === "kv_transaction");
const keysOf = ({ events }: TransactionFrame): string[] => events.map(({ key }) => key);

describe("a transaction", () => {
  test("arrives whole, in one frame", async () => {
    await put("gone", 1);
    const client = await watch({ include: "updates" });
    const last = await transact(putOf("a", { x: 1 }), putOf("b", 2), { op: "delete", key: "gone" });
    await eventually(() => transactionsOf(client.frames).length).toBe(1);
    const created_at = expect.any(String) as string;
    expect(transactionsOf(client.frames)[0]).toEqual({
      type: "kv_transaction",
      bucket: name,
      revision: last,
      events: [
        {
          key: "a",
          value: { x: 1 },
          encoding: "json",
          operation: "put",
          revision: last - 2,
          created_at,
        },
        { key: "b", value: 2, encoding: "json", operation: "put", revision: last - 1, created_at },
        { key: "gone", operation: "delete", reason: "delete", revision: last, created_at },
      ],
    });
  });

  test("arrives with what a watch wants of it only", async () => {
    const [some, one, none] = await Promise.all([
      watch({ key: "user.*" }),
      watch({ key: "b" }),
      watch({ key: "other" }),
    ]);
    await transact(putOf("user.1", 1), putOf("b", 2), putOf("user.2", 3));
    await put("other", 1);
    await eventually(() => none.pairs).toEqual([["other", 1]]);
    await eventually(() => transactionsOf(some.frames).map(keysOf)).toEqual([["user.1", "user.2"]]);
    await eventually(() => one.pairs).toEqual([["b", 2]]);
    for (const client of [one, none]) expect(transactionsOf(client.frames)).toEqual([]);
  });

  test("arrives as its single updates where the client knows no transactions", async () => {
    const client = await watch({}, true);
    // A plain watch does not say when it has begun.
    await put("first", 1);
    await eventually(() => client.updates.length).toBe(1);
    await transact(putOf("a", 1), putOf("b", 2));
    await eventually(() => client.pairs).toEqual([
      ["first", 1],
      ["a", 1],
      ["b", 2],
      ["probe", probes],
    ]);
  });

  test("of one operation is an update, and a check that it carried is nobody's", async () => {
    const client = await watch({ include: "updates" });
    await put("checked", 1);
    const { body } = await call("GET", `${bucket}/keys/checked`);
    const { revision } = body as { revision: number };
    await transact(
      { op: "check", key: "checked", revision },
      { op: "check", key: "absent", revision: 0 },
      putOf("a", 1),
    );
    await eventually(() => client.pairs).toEqual([
      ["checked", 1],
      ["a", 1],
      ["probe", probes],
    ]);
    expect(transactionsOf(client.frames)).toEqual([]);
  });

  test("arrives on a multiplexed socket with the id of the watch, once for each watch", async () => {
    const client = await openMultiplex(gateway.api);
    client.watch({ id: "all", bucket: name, include: "updates" });
    client.watch({ id: "a", bucket: name, include: "updates", keys: ["a.>"] });
    await eventually(() => client.ready.length).toBe(2);
    await transact(putOf("a.1", 1), putOf("a.2", 2), putOf("b", 3));
    await eventually(() => transactionsOf(client.of("all")).map(keysOf)).toEqual([
      ["a.1", "a.2", "b"],
    ]);
    await eventually(() => transactionsOf(client.of("a")).map(keysOf)).toEqual([["a.1", "a.2"]]);
  });
});

describe("who comes back at a position", () => {
  test("before a transaction gets it whole, behind it nothing of it", async () => {
    const first = await watch();
    const since = first.ready[0]!.position;
    const last = await transact(putOf("a", 1), putOf("b", 2));
    const before = await watch({ since });
    expect(transactionsOf(before.frames).map(keysOf)).toEqual([["a", "b"]]);
    const behind = await watch({ since: advancePosition(since, last) });
    expect(behind.pairs).toEqual([["probe", probes]]);
    expect(transactionsOf(behind.frames)).toEqual([]);
  });

  test("of the one change that it got of a transaction does not get it again", async () => {
    const replica = new Replica();
    await replica.connect(gateway.api, name, { key: "b" });
    await eventually(() => replica.isLive).toBe(true);
    await transact(putOf("a", 1), putOf("b", 2), putOf("c", 3));
    await eventually(() => replica.changes.length).toBe(1);
    replica.cut();
    await replica.connect(gateway.api, name, { key: "b" });
    await eventually(() => replica.isLive).toBe(true);
    expect(replica.changes).toHaveLength(1);
    await put("b", 4);
    await eventually(() => replica.state.get("b")).toBe(4);
  });

  test("while transactions are under way never gets a part of one", async () => {
    const keys = ["x", "y", "z"];
    const replicas = Array.from({ length: 6 }, () => new Replica());
    let writing = true;
    const writers = [0, 1].map(async (writer) => {
      for (let i = 0; writing; i++)
        await callJson("POST", `${bucket}/transactions`, {
          operations: keys.map((key) => putOf(key, `${writer}.${i}`)),
        });
    });
    const frames: WatchFrame[] = [];
    try {
      await Promise.all(
        replicas.map(async (replica, i) => {
          for (let round = 0; round < 10; round++) {
            await replica.connect(gateway.api, name, { include: "updates" });
            await eventually(() => replica.isLive).toBe(true);
            const before = replica.changes.length;
            await eventually(() => replica.changes.length).toBeGreaterThan(before + 3 * i);
            frames.push(...replica.client!.frames);
            replica.cut();
          }
        }),
      );
    } finally {
      writing = false;
      await Promise.all(writers);
    }
    expect(frames.filter(({ type }) => type === "kv_update")).toEqual([]);
    const whole = transactionsOf(frames);
    expect(whole.length).toBeGreaterThan(100);
    for (const transaction of whole) {
      expect(keysOf(transaction)).toEqual(keys);
      expect(new Set(transaction.events.map(({ value }) => value)).size).toBe(1);
    }
    for (const { revisions } of replicas)
      expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
  }, 60_000);
});
