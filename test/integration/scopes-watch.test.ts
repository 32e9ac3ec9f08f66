/** What a watch tells somebody with some rights: what their keys do, and nothing else. */
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { encodeKey, parsePattern } from "../../src/protocol/keys.ts";
import { isWithin } from "../../src/protocol/reach.ts";
import type { Scope } from "../../src/protocol/scopes.ts";
import { eventually } from "../support/eventually.ts";
import { openEvents, requestEvents } from "../support/events-client.ts";
import { startScopedGateway, type Asker, type ScopedGateway } from "../support/scoped.ts";
import { openMultiplex, openWatch, refusedWatch, watchUrl } from "../support/watch-client.ts";

const KV = "/api/v1/kv/buckets";

let gateway: ScopedGateway;
let count = 0;

beforeAll(async () => {
  gateway = await startScopedGateway();
  return () => gateway.close();
});

function seeing(bucket: string, ...keys: string[]): Scope {
  return { verbs: ["read", "watch"], bucket, keys };
}

async function newBucket(keys: readonly string[] = []): Promise<string> {
  const name = `w${count++}`;
  await gateway.root.ask("POST", KV, { name, history: 5 });
  for (const key of keys) await put(name, key, 1);
  return name;
}

async function put(bucket: string, key: string, value: unknown): Promise<void> {
  const path = `${KV}/${bucket}/entry?key=${encodeURIComponent(key)}`;
  expect((await gateway.root.ask("PUT", path, value)).status).toBe(200);
}

const watch = (who: Asker, bucket: string, query = "", plain = false) =>
  openWatch(watchUrl(gateway.api, bucket, query), { headers: who.headers, plain });

describe("a watch", () => {
  test("begins with what is in reach, counts that, and goes on with it", async () => {
    const bucket = await newBucket(["a.1", "b.1", "a.2", "c"]);
    const client = await watch(await gateway.as(seeing(bucket, "a.*")), bucket);
    await eventually(() => client.ready).toMatchObject([{ count: 2 }]);
    await put(bucket, "b.1", 2);
    await put(bucket, "a.1", 2);
    await gateway.root.ask("DELETE", `${KV}/${bucket}/keys/b.1`);
    await gateway.root.ask("DELETE", `${KV}/${bucket}/keys/a.2`);
    await eventually(() => client.pairs).toEqual([
      ["a.1", 1],
      ["a.2", 1],
      ["a.1", 2],
      ["a.2", undefined],
    ]);
    expect(JSON.stringify(client.frames)).not.toMatch(/"b\.1"|"c"/);
  });

  test.each([
    ["include=history", false],
    ["include=updates", false],
    ["", true],
  ])("with %j (plain: %j) tells of nothing else either", async (query, plain) => {
    const bucket = await newBucket(["a.1", "b.1", "b.1"]);
    const client = await watch(await gateway.as(seeing(bucket, "a.*")), bucket, query, plain);
    if (!plain) await eventually(() => client.ready).toHaveLength(1);
    for (const key of ["b.1", "a.1", "b.2", "a.2"]) await put(bucket, key, 5);
    await eventually(() => client.updates.at(-1)?.key).toBe("a.2");
    expect(client.updates.every(({ key }) => key.startsWith("a."))).toBe(true);
  });

  test("of a transaction has the part in reach", async () => {
    const bucket = await newBucket();
    const client = await watch(await gateway.as(seeing(bucket, "a.*")), bucket);
    await eventually(() => client.ready).toHaveLength(1);
    const transact = (...keys: string[]) =>
      gateway.root.ask("POST", `${KV}/${bucket}/transactions`, {
        operations: keys.map((key) => ({ op: "put", key, value: 1 })),
      });
    await transact("b.1", "b.2");
    await transact("b.1", "a.1", "a.2", "b.2");
    await transact("b.1", "a.3", "b.2");
    await eventually(() => client.frames.slice(1)).toMatchObject([
      { type: "kv_transaction", events: [{ key: "a.1" }, { key: "a.2" }] },
      { type: "kv_update", key: "a.3" },
    ]);
  });

  test("needs watch for keys, and read for their values", async () => {
    const bucket = await newBucket(["a", "b", "c"]);
    const who = await gateway.as(
      { verbs: ["watch"], bucket, keys: ["a", "b"] },
      { verbs: ["read"], bucket, keys: ["b", "c"] },
    );
    const whole = await watch(who, bucket);
    await eventually(() => whole.ready).toHaveLength(1);
    expect(whole.pairs).toEqual([["b", 1]]);
    const keysOnly = await watch(who, bucket, "values=false");
    await eventually(() => keysOnly.ready).toHaveLength(1);
    expect(keysOnly.updates.map(({ key }) => key)).toEqual(["a", "b"]);

    const blind = await gateway.as({ verbs: ["watch"], bucket });
    const refusal = await refusedWatch(watchUrl(gateway.api, bucket), { headers: blind.headers });
    expect(refusal).toMatchObject({ status: 403, body: { code: "forbidden" } });
  });

  test("of what is out of reach is refused before its socket opens, whether it is there or not", async () => {
    const bucket = await newBucket(["a.1", "b.1"]);
    const { headers } = await gateway.as(seeing(bucket, "a.*"));
    const told = async (name: string, query = ""): Promise<string> => {
      const { status, body } = await refusedWatch(watchUrl(gateway.api, name, query), { headers });
      expect(status).toBe(403);
      return (body.error as string).replaceAll(name, "it");
    };
    expect(await told("not-there")).toBe(await told(await newBucket()));
    expect(await told(bucket, "key=b.1")).toBe(
      (await told(bucket, "key=b.2")).replace("b.2", "b.1"),
    );
    for (const filter of ["b.*", "key=a.1&key=b.1", "a", "a.1.%3E", "%61%2E%2A.x"]) {
      await told(bucket, filter.includes("=") ? filter : `key=${filter}`);
    }
  });
});

describe("a position", () => {
  test("is good for whoever sees the same, and starts over for whoever sees something else", async () => {
    const bucket = await newBucket(["a.1", "b.1"]);
    const first = await watch(await gateway.as(seeing(bucket, "a.*")), bucket);
    await eventually(() => first.ready).toHaveLength(1);
    const since = `since=${first.ready[0]!.position}`;
    await put(bucket, "a.2", 2);
    await put(bucket, "b.2", 2);

    const same = await watch(await gateway.as(seeing(bucket, "a.*")), bucket, since);
    await eventually(() => same.ready).toHaveLength(1);
    expect(same.pairs).toEqual([["a.2", 2]]);

    const other = await watch(await gateway.as(seeing(bucket, "b.*")), bucket, since);
    await eventually(() => other.ready).toHaveLength(1);
    expect(other.frames[0]).toMatchObject({ type: "kv_reset", reason: "filter_changed" });
    expect(other.pairs).toEqual([
      ["b.1", 1],
      ["b.2", 2],
    ]);

    const more = await watch(await gateway.as(seeing(bucket, "a.*", "b.*")), bucket, since);
    await eventually(() => more.ready).toHaveLength(1);
    expect(more.frames[0]).toMatchObject({ type: "kv_reset", reason: "filter_changed" });
    expect([...more.state.keys()]).toEqual(["a.1", "b.1", "a.2", "b.2"]);
  });

  test("of another principal brings nothing of theirs, by Last-Event-ID, with or without what it was for", async () => {
    const bucket = await newBucket(["a.1", "b.1"]);
    const theirs = await openEvents(`${gateway.api}/buckets/${bucket}/watch`, gateway.root.headers);
    await eventually(() => theirs.types).toContain("kv_ready");
    const { lastId } = theirs;
    await put(bucket, "b.2", 2);
    await put(bucket, "a.2", 2);
    const { headers } = await gateway.as(seeing(bucket, "a.*"));
    for (const id of [lastId, lastId.split("-").slice(0, 2).join("-")]) {
      const mine = await openEvents(`${gateway.api}/buckets/${bucket}/watch`, {
        ...headers,
        "Last-Event-ID": id,
      });
      await eventually(() => mine.types).toContain("kv_ready");
      expect(mine.pairs.every(([key]) => key.startsWith("a."))).toBe(true);
      expect(mine.pairs.at(-1)).toEqual(["a.2", 2]);
    }
    const refused = await requestEvents(`${gateway.api}/buckets/${bucket}/watch?key=b.*`, {
      ...headers,
      "Last-Event-ID": lastId,
    });
    expect(refused).toMatchObject({ status: 403, body: { code: "forbidden" } });
  });
});

test("each watch of a multiplexed socket is judged for itself", async () => {
  const [mine, theirs] = [await newBucket(["a.1", "b.1"]), await newBucket(["a.1"])];
  const { headers } = await gateway.as(seeing(mine, "a.*"));
  const client = await openMultiplex(gateway.api, { headers });
  client.watch({ id: "1", bucket: theirs });
  client.watch({ id: "2", bucket: "not-there" });
  client.watch({ id: "3", bucket: mine, keys: ["b.*"] });
  client.watch({ id: "4", bucket: mine });
  client.watch({ id: "5", bucket: mine, keys: [">"], values: false });
  await eventually(() => client.typesOf("4")).toEqual(["kv_update", "kv_ready"]);
  await eventually(() => client.typesOf("5")).toEqual(["kv_update", "kv_ready"]);
  for (const id of ["1", "2", "3"])
    expect(client.of(id)).toMatchObject([{ type: "error", code: "forbidden", retryable: false }]);
  const message = (id: string): string => JSON.stringify(client.of(id)[0]);
  expect(message("2").replace("not-there", theirs).replace(`"2"`, `"1"`)).toBe(message("1"));
  await put(mine, "b.1", 2);
  await put(mine, "a.1", 2);
  await eventually(() => client.pairsOf("4")).toEqual([
    ["a.1", 1],
    ["a.1", 2],
  ]);
});

test("whatever the reach and the filters, a watch and a listing have what filtering afterwards would leave", async () => {
  const names = ["a", "b", "ab", "a:b", "ü", "a*", "x y"];
  const keys = names.flatMap((one) => [one, ...names.map((two) => `${one}.${two}`), `${one}.a.b`]);
  const bucket = await newBucket();
  const token = fc.constantFrom(...names, "*", "a*", "*b");
  const pattern = fc
    .tuple(fc.array(token, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([tokens, isOpen]) => [...tokens, ...(isOpen ? [">"] : [])].join("."));
  const some = fc.sample(
    fc.record({
      reach: fc.array(pattern, { minLength: 1, maxLength: 4 }),
      filters: fc.array(pattern, { maxLength: 3 }),
      include: fc.constantFrom("snapshot", "updates", "history"),
    }),
    40,
  );
  const half = keys.length >>> 1;
  for (const key of keys.slice(0, half)) await put(bucket, key, 1);
  const watches = await Promise.all(
    some.map(async ({ reach, filters, include }) => {
      const who = await gateway.as(seeing(bucket, ...reach));
      const within = reach.map(parsePattern);
      const wanted = (filter: string) => (key: string) =>
        isWithin(within, key) && parsePattern(filter).matches(encodeKey(key));
      const all = filters.length === 0 ? [">"] : filters;
      const client = await openMultiplex(gateway.api, { headers: who.headers });
      client.watch({
        id: "w",
        bucket,
        include,
        ...(filters.length === 0 ? {} : { keys: filters }),
      });
      await eventually(() => client.typesOf("w").at(-1)).toMatch(/kv_ready|error/);
      return { who, client, all, include, wanted };
    }),
  );
  for (const key of keys.slice(half)) await put(bucket, key, 1);
  let seen = 0;
  for (const { who, client, all, include, wanted } of watches) {
    const refused = client.typesOf("w").includes("error");
    const isWanted = (key: string): boolean => all.some((filter) => wanted(filter)(key));
    const expected = (include === "updates" ? keys.slice(half) : keys).filter(isWanted);
    // Refused is what asks for something that cannot be in reach, even if something else is.
    if (refused) expect(all.some((filter) => !keys.some(wanted(filter)))).toBe(true);
    else await eventually(() => client.pairsOf("w").map(([key]) => key)).toEqual(expected);
    for (const filter of all) {
      const path = `${KV}/${bucket}/keys?filter=${encodeURIComponent(filter)}`;
      const { status, body } = await who.ask("GET", path);
      const found = keys.filter(wanted(filter)).sort();
      if (status === 403) expect(found).toEqual([]);
      else expect(body).toEqual({ keys: found, count: found.length });
      seen += found.length;
    }
  }
  expect(seen).toBeGreaterThan(50);
});
