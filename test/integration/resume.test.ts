import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { encodePosition, parsePosition } from "../../src/protocol/position.ts";
import type { PutResult, WatchFrame } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { Replica } from "../support/replica.ts";
import { openWatch, watchUrl, type WatchClient } from "../support/watch-client.ts";
import { startWatchStack, type WatchStack } from "../support/watch-stack.ts";

let gateway: TestGateway;
let foreign: ForeignClient;
let count = 0;
/** A bucket that each test has for itself. */
let name: string;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
  foreign = await connectForeign(gateway.server.url);
});

afterAll(async () => {
  await foreign.close();
  await gateway.close();
});

async function newBucket(settings: object = {}): Promise<void> {
  name = `r${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
  expect((await callJson("POST", `${gateway.api}/buckets`, { name, ...settings })).status).toBe(
    201,
  );
}

beforeEach(() => newBucket({ history: 1 }));

const at = (key: string): string => `${bucket}/keys/${encodeURIComponent(key)}`;
const put = (key: string, value: unknown): Promise<Answer> => callJson("PUT", at(key), value);
const putRevision = async (key: string, value: unknown): Promise<number> =>
  ((await put(key, value)).body as PutResult).revision;
const remove = (key: string, query = ""): Promise<Answer> => call("DELETE", at(key) + query);
/** Removes a key without a trace, as another client of NATS can. */
const purge = (key: string): Promise<unknown> =>
  foreign.jsm.streams.purge(`KV_APP_${name}`, { filter: `$KV.APP_${name}.${key}` });
const infoOf = (bucketName: string): ReturnType<ForeignClient["jsm"]["streams"]["info"]> =>
  foreign.jsm.streams.info(`KV_APP_${bucketName}`);

async function watch(query: Record<string, string> = {}, api = gateway.api): Promise<WatchClient> {
  return openWatch(watchUrl(api, name, new URLSearchParams(query).toString()));
}

async function readyPosition(client: WatchClient): Promise<string> {
  await eventually(() => client.ready.length).toBeGreaterThan(0);
  return client.ready.at(-1)!.position;
}

/** Opens a watch, takes its position, and leaves. */
async function positionNow(query: Record<string, string> = {}): Promise<string> {
  const client = await watch(query);
  const position = await readyPosition(client);
  client.socket.terminate();
  return position;
}

const typesOf = (frames: readonly WatchFrame[]): string[] => frames.map(({ type }) => type);
const resetsOf = (client: WatchClient): string[] =>
  client.frames.flatMap((frame) => (frame.type === "kv_reset" ? [frame.reason] : []));

async function stored(): Promise<Record<string, unknown>> {
  const client = await watch();
  await readyPosition(client);
  client.socket.terminate();
  return Object.fromEntries(client.state);
}

describe("a watch that goes on at a position", () => {
  test("gets exactly what happened since, removals included, and then hears that it has it all", async () => {
    await put("a", 1);
    await put("b", 1);
    await put("c", 1);
    const since = await positionNow();
    await put("a", 2);
    await remove("b");
    await remove("c", "?purge=true");
    await put("d", 1);
    await put("a", 3);
    const client = await watch({ since });
    const position = await readyPosition(client);
    expect(client.pairs).toEqual([
      ["a", 2],
      ["b", undefined],
      ["c", undefined],
      ["d", 1],
      ["a", 3],
    ]);
    expect(client.frames.at(-1)).toMatchObject({ type: "kv_ready", count: 5 });
    expect(resetsOf(client)).toEqual([]);
    await put("live", 1);
    await eventually(() => client.pairs.at(-1)).toEqual(["live", 1]);
    expect(parsePosition(position)!.revision).toBe(parsePosition(since)!.revision + 5);
  });

  test("gets nothing where nothing happened, with any include", async () => {
    await put("a", 1);
    const since = await positionNow();
    for (const include of ["snapshot", "updates"]) {
      const client = await watch({ since, include });
      expect(await readyPosition(client)).toBe(since);
      expect(typesOf(client.frames)).toEqual(["kv_ready"]);
    }
  });

  test("gets every revision since, where the history is asked for", async () => {
    const since = await positionNow({ include: "history" });
    for (const value of [1, 2, 3]) await put("k", value);
    const client = await watch({ since, include: "history" });
    await readyPosition(client);
    expect(client.pairs).toEqual([1, 2, 3].map((value) => ["k", value]));
  });

  test("may hear of changes that its filters do not match only by how far it is", async () => {
    const since = await positionNow({ key: "mine.*" });
    for (let i = 0; i < 20; i++) await put(`other.${i}`, i);
    await put("mine.1", 1);
    const client = await watch({ since, key: "mine.*" });
    const position = await readyPosition(client);
    expect(client.pairs).toEqual([["mine.1", 1]]);
    expect(parsePosition(position)!.revision).toBe((await infoOf(name)).state.last_seq);
  });

  test("goes on behind a change that it got, by the revision of that change", async () => {
    const first = await watch();
    const { epoch } = parsePosition(await readyPosition(first))!;
    const revisions: number[] = [];
    for (let i = 0; i < 5; i++) revisions.push(await putRevision("k", i));
    for (const [i, revision] of revisions.entries()) {
      const since = encodePosition({ epoch: new Date(epoch).toISOString(), revision });
      const client = await watch({ since });
      await readyPosition(client);
      expect(client.updates.map((update) => update.revision)).toEqual(revisions.slice(i + 1));
    }
  });
});

describe("a watch starts over, and is told why,", () => {
  /** Resets are followed by a whole snapshot, whatever was asked for. */
  async function expectReset(query: Record<string, string>, reason: string): Promise<void> {
    await put("here", "now");
    for (const include of ["snapshot", "updates", "history"]) {
      const client = await watch({ ...query, include });
      await readyPosition(client);
      expect(client.frames[0]).toEqual({ type: "kv_reset", reason });
      expect(client.state.get("here")).toBe("now");
      await put("live", include);
      await eventually(() => client.state.get("live")).toBe(include);
    }
  }

  test("when the bucket was created again", async () => {
    await put("ghost", 1);
    const since = await positionNow();
    await call("DELETE", bucket);
    await callJson("POST", `${gateway.api}/buckets`, { name });
    for (let i = 0; i < 5; i++) await put(`k${i}`, i);
    await expectReset({ since }, "epoch_changed");
  });

  test("when it has other filters, or wants values now", async () => {
    await expectReset({ since: await positionNow({ key: "a" }) }, "filter_changed");
    await expectReset({ since: await positionNow({ values: "false" }) }, "filter_changed");
  });

  test("when its position is of the future, as after a restore of NATS", async () => {
    const { epoch } = parsePosition(await positionNow())!;
    const since = encodePosition({ epoch: new Date(epoch).toISOString(), revision: 1_000_000 });
    await expectReset({ since }, "future");
  });

  test("when it was away for too long: more happened than is kept", async () => {
    const { api } = await startWatchStack(gateway.server, { ring: { usual: 20_000 } });
    await put("ghost", 1);
    const replica = new Replica();
    await replica.connect(api, name);
    await eventually(() => replica.isLive).toBe(true);
    replica.cut();
    await remove("ghost", "?purge=true");
    for (let i = 0; i < 100; i++) await put(`key.${i % 7}`, "x".repeat(500));
    await replica.connect(api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(replica.resets).toEqual(["too_old"]);
    expect(Object.fromEntries(replica.state)).toEqual(await stored());
  });

  test("and with that in the figures of the hub", async () => {
    const stack = await startWatchStack(gateway.server);
    const { epoch } = parsePosition(await positionNow())!;
    const since = encodePosition({ epoch: new Date(epoch + 1).toISOString(), revision: 1 });
    await readyPosition(await watch({ since }, stack.api));
    expect(stack.hub.stats()).toMatchObject({
      watches: 1,
      resets: { epoch_changed: 1, future: 0 },
    });
  });
});

describe("what went while a client was away leaves no ghost", () => {
  const removals: [string, (key: string) => Promise<unknown>][] = [
    ["a delete", (key) => remove(key)],
    ["a purge", (key) => remove(key, "?purge=true")],
    [
      "a delete whose tombstone was removed, too",
      async (key) => {
        await remove(key);
        await purge(key);
      },
    ],
    [
      "an expiry",
      async (key) => {
        await eventually(async () => (await call("GET", at(key))).status).toBe(404);
        // Its marker goes as well, a second later.
        await eventually(async () => (await infoOf(name)).state.messages).toBe(1);
      },
    ],
  ];
  const places: [string, boolean, boolean][] = [
    ["the same gateway", false, true],
    ["another gateway that watches", true, true],
    ["another gateway that has just begun", true, false],
  ];

  test.each(
    removals.flatMap(([removal, act]) =>
      places.map(([place, isOther, isWarm]) => ({ removal, act, place, isOther, isWarm })),
    ),
  )("by $removal, on $place", async ({ removal, act, isOther, isWarm }) => {
    const own = await startWatchStack(gateway.server);
    const other = isOther ? await startWatchStack(gateway.server) : own;
    await put("stays", 1);
    if (removal === "an expiry") await callJson("PUT", `${at("goes")}?ttl=1s`, 1);
    else await put("goes", 1);
    const replica = new Replica();
    await replica.connect(own.api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(replica.state.size).toBe(2);
    if (isOther && isWarm) await readyPosition(await watch({}, other.api));
    replica.cut();
    await act("goes");
    await replica.connect(other.api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(Object.fromEntries(replica.state)).toEqual({ stays: 1 });
  });
});

describe("another gateway", () => {
  test("goes on exactly, where it has watched all the time", async () => {
    const [a, b] = await Promise.all([
      startWatchStack(gateway.server),
      startWatchStack(gateway.server),
    ]);
    await readyPosition(await watch({}, b.api));
    const replica = new Replica();
    const written: number[] = [];
    for (let round = 0; round < 10; round++) {
      await replica.connect(round % 2 === 0 ? a.api : b.api, name);
      await eventually(() => replica.isLive).toBe(true);
      for (let i = 0; i < 5; i++) written.push(await putRevision(`key.${i % 2}`, i));
      if (round % 3 !== 0) {
        await eventually(() => replica.revisions.at(-1)).toBe(written.at(-1));
      }
      replica.cut();
      for (let i = 0; i < 3; i++) written.push(await putRevision("k", i));
    }
    await replica.connect(a.api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(replica.resets).toEqual([]);
    expect(replica.revisions).toEqual(written);
  });

  test("goes on exactly from what is stored, where it has just begun and nothing was removed", async () => {
    const since = await positionNow();
    const written: number[] = [];
    for (let i = 0; i < 700; i++) written.push(await putRevision(`key.${i}`, i));
    const { api } = await startWatchStack(gateway.server);
    const client = await watch({ since }, api);
    await readyPosition(client);
    expect(resetsOf(client)).toEqual([]);
    expect(client.updates.map(({ revision }) => revision)).toEqual(written);
    // What was read for one is there for the others.
    const middle = encodePosition({
      epoch: new Date(parsePosition(since)!.epoch).toISOString(),
      revision: written[349]!,
    });
    const next = await watch({ since: middle }, api);
    await readyPosition(next);
    expect(next.updates.map(({ revision }) => revision)).toEqual(written.slice(350));
  });

  test("starts over, where it has just begun and something was overwritten", async () => {
    const since = await positionNow();
    for (let i = 0; i < 3; i++) await put("k", i);
    const { api } = await startWatchStack(gateway.server);
    const client = await watch({ since }, api);
    await readyPosition(client);
    expect(client.frames).toMatchObject([
      { type: "kv_reset", reason: "too_old" },
      { key: "k", value: 2 },
      { type: "kv_ready" },
    ]);
  });

  test("that is behind catches up first, and does not take the position for one of the future", async () => {
    const behind = await startWatchStack(gateway.server);
    await readyPosition(await watch({}, behind.api));
    const replica = new Replica();
    await replica.connect(gateway.api, name);
    await eventually(() => replica.isLive).toBe(true);
    behind.link.pause();
    const written: number[] = [];
    for (let i = 0; i < 20; i++) written.push(await putRevision("k", i));
    await eventually(() => replica.revisions).toEqual(written);
    replica.cut();
    const connecting = replica.connect(behind.api, name);
    for (let i = 0; i < 5; i++) written.push(await putRevision("k", i));
    behind.link.heal();
    await connecting;
    await eventually(() => replica.revisions).toEqual(written);
    await eventually(() => replica.isLive).toBe(true);
    expect(replica.resets).toEqual([]);
  });
});

describe("an outage of one gateway", () => {
  async function untilStale(client: WatchClient): Promise<void> {
    await eventually(() => typesOf(client.frames)).toContain("kv_stale");
  }

  test("is told to its watchers, who then get what they missed, and are told that too", async () => {
    const { api, link } = await startWatchStack(gateway.server);
    const [client, plain] = await Promise.all([
      watch({}, api),
      openWatch(watchUrl(api, name), { plain: true }),
    ]);
    await readyPosition(client);
    await put("gone", 1);
    await eventually(() => plain.updates.length).toBe(1);
    link.cut();
    await untilStale(client);
    await put("k", 1);
    await remove("gone");
    await purge("gone");
    await put("k", 2);
    link.heal();
    await eventually(() => client.ready.length).toBe(2);
    expect(typesOf(client.frames)).toEqual([
      "kv_ready",
      "kv_update",
      "kv_stale",
      "kv_update",
      "kv_update",
      "kv_ready",
    ]);
    expect(client.frames[4]).toMatchObject({ key: "gone", operation: "delete", inferred: true });
    expect(parsePosition(client.ready[1]!.position)!.revision).toBe(
      (await infoOf(name)).state.last_seq,
    );
    await put("k", 3);
    for (const each of [client, plain]) {
      await eventually(() => Object.fromEntries(each.state)).toEqual({ k: 3 });
    }
    expect(typesOf(plain.frames)).not.toContain("kv_stale");
  });

  test("whose watchers were away meanwhile is made good for them, too", async () => {
    const { api, link, hub } = await startWatchStack(gateway.server);
    const witness = await watch({}, api);
    const replica = new Replica();
    await put("gone", 1);
    await replica.connect(api, name);
    await eventually(() => replica.isLive).toBe(true);
    replica.cut();
    link.cut();
    await untilStale(witness);
    await remove("gone");
    await purge("gone");
    await put("k", 1);
    link.heal();
    await eventually(() => witness.ready.length).toBe(2);
    await replica.connect(api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(Object.fromEntries(replica.state)).toEqual({ k: 1 });
    expect(hub.stats().resets.too_old).toBe(0);
  });

  test("leaves no ghost with a client that saw some of it on another gateway", async () => {
    const lost = await startWatchStack(gateway.server);
    const witness = await watch({}, lost.api);
    await readyPosition(witness);
    await put("stays", 1);
    const replica = new Replica();
    await replica.connect(gateway.api, name);
    await eventually(() => replica.isLive).toBe(true);
    lost.link.cut();
    await untilStale(witness);
    // The lost gateway will never hear of this key: it comes and goes without a trace.
    await callJson("PUT", `${at("short")}?ttl=1s`, 1);
    await eventually(() => replica.state.size).toBe(2);
    replica.cut();
    await eventually(async () => (await infoOf(name)).state.messages).toBe(1);
    await put("end", 1);
    lost.link.heal();
    await eventually(() => witness.ready.length).toBe(2);
    await replica.connect(lost.api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(Object.fromEntries(replica.state)).toEqual({ stays: 1, end: 1 });
    expect(replica.resets).toEqual(["too_old"]);
  });

  test("in which nothing was removed is no reason to start over for anybody", async () => {
    const lost = await startWatchStack(gateway.server);
    const witness = await watch({}, lost.api);
    await readyPosition(witness);
    const replica = new Replica();
    await replica.connect(gateway.api, name);
    await eventually(() => replica.isLive).toBe(true);
    lost.link.cut();
    await untilStale(witness);
    for (let i = 0; i < 10; i++) await put(`seen.${i}`, i);
    await eventually(() => replica.changes.length).toBe(10);
    replica.cut();
    for (let i = 0; i < 10; i++) await put(`unseen.${i}`, i);
    lost.link.heal();
    await eventually(() => witness.ready.length).toBe(2);
    await replica.connect(lost.api, name);
    await eventually(() => replica.isLive).toBe(true);
    expect(replica.resets).toEqual([]);
    expect(replica.changes).toHaveLength(20);
    expect(new Set(replica.revisions).size).toBe(20);
  });
});

describe("under full write load", () => {
  test("clients that come and go on two gateways miss nothing and get nothing twice", async () => {
    const stacks = [
      await startWatchStack(gateway.server),
      await startWatchStack(gateway.server),
    ] as [WatchStack, WatchStack];
    const reference = await watch({}, stacks[0].api);
    await readyPosition(reference);
    await readyPosition(await watch({}, stacks[1].api));
    const kv = await foreign.kvm.open(`APP_${name}`);
    let writing = true;
    const writers = Array.from({ length: 4 }, async (_, writer) => {
      for (let i = 0; writing; i++) {
        const key = `key.${(i * 7 + writer) % 30}`;
        if (i % 6 === 5) await kv.delete(key);
        else await kv.put(key, `${i}`);
      }
    });
    const replicas = Array.from({ length: 8 }, () => new Replica());
    try {
      await Promise.all(
        replicas.map(async (replica, i) => {
          for (let round = 0; round < 12; round++) {
            await replica.connect(stacks[(i + round) % 2]!.api, name, { include: "updates" });
            await eventually(() => replica.isLive).toBe(true);
            const before = replica.changes.length;
            await eventually(() => replica.changes.length).toBeGreaterThan(before + 5 * (i + 1));
            replica.cut();
          }
        }),
      );
    } finally {
      writing = false;
      await Promise.all(writers);
    }
    await kv.put("key.0", "end");
    await Promise.all(replicas.map((replica, i) => replica.connect(stacks[i % 2]!.api, name)));
    const { state } = await infoOf(name);
    await eventually(() => reference.updates.at(-1)?.revision).toBe(state.last_seq);
    const all = reference.updates.map(({ revision }) => revision);
    for (const replica of replicas) {
      await eventually(() => replica.revisions.at(-1)).toBe(state.last_seq);
      expect(replica.resets).toEqual([]);
      expect(replica.revisions).toEqual(
        all.filter((revision) => revision >= replica.revisions[0]!),
      );
    }
  }, 60_000);

  test("500 sockets that are cut at once are live again at once, and have all", async () => {
    const { api, hub } = await startWatchStack(gateway.server);
    const replicas = Array.from({ length: 500 }, () => new Replica());
    const query = { include: "updates" };
    for (let i = 0; i < replicas.length; i += 50)
      await Promise.all(replicas.slice(i, i + 50).map((each) => each.connect(api, name, query)));
    await eventually(() => replicas.every(({ isLive }) => isLive)).toBe(true);
    const written: number[] = [];
    for (let i = 0; i < 10; i++) written.push(await putRevision("k", i));
    await eventually(() => replicas.every(({ changes }) => changes.length === 10)).toBe(true);
    for (const replica of replicas) replica.cut();
    for (let i = 0; i < 10; i++) written.push(await putRevision("k", i));
    await Promise.all(replicas.map((each) => each.connect(api, name, query)));
    await eventually(() => replicas.every(({ isLive }) => isLive)).toBe(true);
    for (const replica of replicas) expect(replica.revisions).toEqual(written);
    expect(hub.stats().resets.too_old).toBe(0);
  }, 60_000);
});

test("a watch that hears nothing is told now and then how far the bucket is", async () => {
  const { api } = await startWatchStack(gateway.server, {
    bookmarks: 50,
    ring: { usual: 20_000 },
  });
  const replica = new Replica();
  await replica.connect(api, name, { key: "mine" });
  await eventually(() => replica.isLive).toBe(true);
  for (let i = 0; i < 200; i++) await put(`other.${i % 3}`, "x".repeat(500));
  const { state } = await infoOf(name);
  await eventually(() => parsePosition(replica.position!)!.revision).toBe(state.last_seq);
  const { frames } = replica.client!;
  expect(frames.at(-1)).toEqual({ type: "kv_bookmark", position: replica.position });
  replica.cut();
  // Without that it would be too old by now.
  await put("mine", 1);
  await replica.connect(api, name, { key: "mine" });
  await eventually(() => replica.isLive).toBe(true);
  expect(replica.resets).toEqual([]);
  expect(replica.changes).toMatchObject([{ key: "mine", value: 1 }]);
});
