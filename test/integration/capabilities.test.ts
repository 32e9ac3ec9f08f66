/** What works on which nats-server: the oldest that people may still have, and the one that the project is made for. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findNatsServer } from "../../src/nats/binary.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { findOldNats, startNatsProgram } from "../support/old-nats.ts";
import { openWatch, watchUrl } from "../support/watch-client.ts";

const current = await findNatsServer();
const old = await findOldNats();

const put = (bucket: string, key: string, value: unknown, query = "", headers = {}) =>
  callJson("PUT", `${bucket}/keys/${key}${query}`, value, headers);
const get = (bucket: string, path: string): Promise<Answer> => call("GET", `${bucket}/${path}`);
const transact = (bucket: string, ...operations: object[]): Promise<Answer> =>
  callJson("POST", `${bucket}/transactions`, { operations });

interface Bucket {
  url: string;
  name: string;
  gateway: TestGateway;
}

interface Feature {
  name: string;
  /** The oldest server that has it; without it every server has. */
  needs?: string;
  settings?: object;
  /** Uses it. Where the server lacks it, resolves with the refusal. */
  use: (bucket: Bucket) => Promise<unknown>;
}

const features: Feature[] = [
  {
    name: "buckets: create, describe, list, change, delete",
    settings: { history: 3, max_value_size: 100, max_bytes: 1_000_000, description: "old" },
    async use({ url, name, gateway }) {
      const settings = { history: 3, max_value_size: 100, max_bytes: 1_000_000 };
      const { body } = await call("GET", url);
      expect(body).toMatchObject({ name, ...settings, description: "old", keys: 0, values: 0 });
      const again = { name, ...settings, description: "old" };
      expect((await callJson("POST", `${gateway.api}/buckets`, again)).body.code).toBe(
        "bucket_exists",
      );
      expect((await callJson("POST", `${gateway.api}/buckets`, { name })).body.code).toBe(
        "bucket_exists",
      );
      expect((await callJson("PATCH", url, { history: 5, max_value_size: 50 })).body).toMatchObject(
        { history: 5, max_value_size: 50, max_bytes: 1_000_000 },
      );
      expect((await callJson("PATCH", url, { ttl_seconds: 3600 })).body).toMatchObject({
        ttl_seconds: 3600,
        max_value_size: 50,
      });
      expect((await put(url, "k", "x".repeat(48))).status).toBe(200);
      expect((await put(url, "k", "x".repeat(49))).body).toMatchObject({
        code: "value_too_large",
        details: { max_value_size: 50 },
      });
      expect((await callJson("PATCH", url, { max_value_size: 0 })).body).not.toHaveProperty(
        "max_value_size",
      );
      const list = (await call("GET", `${gateway.api}/buckets`)).body.buckets as { name: string }[];
      expect(list.find((each) => each.name === name)).toMatchObject({ keys: 1, values: 1 });
      expect((await call("DELETE", url)).status).toBe(204);
      expect((await call("GET", url)).body.code).toBe("bucket_not_found");
      expect((await callJson("POST", `${gateway.api}/buckets`, { name })).status).toBe(201);
    },
  },
  {
    name: "put and get, every type and odd keys",
    async use({ url }) {
      for (const key of ["a", "a.b", "a/b", "ü ö", "=41", "100%", "...", "*", ">"]) {
        const path = encodeURIComponent(key);
        const { body } = await put(url, path, { key });
        expect((await get(url, `entry?key=${path}`)).body).toMatchObject({
          key,
          value: { key },
          revision: body.revision,
        });
      }
      await call("PUT", `${url}/keys/bytes`, new Uint8Array([1, 255]));
      expect((await get(url, "keys/bytes")).body).toMatchObject({
        value: "Af8=",
        encoding: "base64",
      });
      expect((await get(url, "keys/bytes?consistency=strong")).status).toBe(200);
      expect((await get(url, "keys/none")).body.code).toBe("key_not_found");
    },
  },
  {
    name: "conditions: create, update, delete",
    async use({ url }) {
      const first = await put(url, "k", 1, "", { "If-None-Match": "*" });
      expect(first.status).toBe(200);
      expect((await put(url, "k", 2, "", { "If-None-Match": "*" })).body.code).toBe("key_exists");
      expect((await put(url, "k", 2, "", { "If-Match": "999" })).body).toMatchObject({
        code: "revision_mismatch",
        details: { current_revision: first.body.revision },
      });
      const second = await put(url, "k", 2, "", { "If-Match": String(first.body.revision) });
      expect(second.status).toBe(200);
      const stale = { "If-Match": String(first.body.revision) };
      expect((await call("DELETE", `${url}/keys/k`, null, stale)).status).toBe(412);
      const now = { "If-Match": String(second.body.revision) };
      expect((await call("DELETE", `${url}/keys/k`, null, now)).status).toBe(204);
      expect((await put(url, "k", 3, "", { "If-None-Match": "*" })).status).toBe(200);
    },
  },
  {
    name: "concurrent increments, merge patch, restore, previous",
    settings: { history: 5 },
    async use({ url }) {
      await Promise.all(
        Array.from({ length: 20 }, () => callJson("POST", `${url}/increment/n`, {})),
      );
      expect((await get(url, "keys/n")).body.value).toBe(20);
      const { revision } = (await put(url, "doc", { a: 1, b: 2 })).body as { revision: number };
      const patched = await call("PATCH", `${url}/keys/doc`, '{"b":null}', {
        "Content-Type": "application/merge-patch+json",
      });
      expect(patched.body.value).toEqual({ a: 1 });
      expect((await callJson("POST", `${url}/restore/doc`, { revision })).status).toBe(200);
      expect((await put(url, "doc", 0, "?return=previous")).body.previous.value).toEqual({
        a: 1,
        b: 2,
      });
    },
  },
  {
    name: "delete, purge, history, past, compaction",
    settings: { history: 5 },
    async use({ url }) {
      for (const value of [1, 2]) await put(url, "d", value);
      for (const value of [1, 2]) await put(url, "p", value);
      await call("DELETE", `${url}/keys/d`);
      await call("DELETE", `${url}/keys/p?purge=true`);
      const entries = async (key: string) =>
        ((await get(url, `history/${key}`)).body.entries as { operation: string }[]).map(
          ({ operation }) => operation,
        );
      expect(await entries("d")).toEqual(["put", "put", "delete"]);
      expect(await entries("p")).toEqual(["delete"]);
      expect((await get(url, "keys/d?revision=1")).body.value).toBe(1);
      expect((await get(url, "keys/d?as_of=2")).body.value).toBe(2);
      expect((await get(url, "diff/d?from=1&to=2")).body).toMatchObject({ changed: true });
      expect((await get(url, "keys?as_of=2")).body.keys).toEqual(["d"]);
      expect((await callJson("POST", `${url}/compact`, { older_than: 0 })).body).toEqual({
        removed: 2,
      });
      expect((await get(url, "history/d")).body.code).toBe("key_not_found");
    },
  },
  {
    name: "listing: prefix, wildcards, pages, values, count",
    async use({ url }) {
      for (const key of ["user.1", "user.2", "user-x", "v"]) await put(url, key, { key });
      await call("DELETE", `${url}/keys/v`);
      expect((await get(url, "keys")).body.keys).toEqual(["user-x", "user.1", "user.2"]);
      expect((await get(url, "keys?filter=user.*&values=true")).body).toMatchObject({
        keys: ["user.1", "user.2"],
        entries: [{ value: { key: "user.1" } }, { value: { key: "user.2" } }],
      });
      expect((await get(url, "keys?filter=user-*")).body.keys).toEqual(["user-x"]);
      const page = (await get(url, "keys?limit=2&prefix=user")).body;
      expect(page.keys).toEqual(["user-x", "user.1"]);
      expect(
        (await get(url, `keys?limit=2&prefix=user&cursor=${page.next_cursor}`)).body.keys,
      ).toEqual(["user.2"]);
      expect((await call("GET", url)).body).toMatchObject({ keys: 3, values: 4 });
    },
  },
  {
    name: "reading of many large values",
    settings: { history: 2 },
    async use({ url }) {
      const value = "x".repeat(200_000);
      const set = Array.from({ length: 60 }, (_, i) => ({ key: `big${i}`, value: `${i}${value}` }));
      const answer = await callJson("POST", `${url}/batch`, { set });
      expect((answer.body.set as { revision?: number }[]).every(({ revision }) => revision)).toBe(
        true,
      );
      const watch = await openWatch(watchUrl(url.split("/buckets/")[0]!, url.split("/").at(-1)!));
      await eventually(() => watch.ready.length).toBe(1);
      expect(watch.state.size).toBe(60);
      watch.socket.terminate();
      const { keys } = (await get(url, "keys?values=true&limit=60")).body as { keys: string[] };
      expect(keys).toHaveLength(60);
    },
  },
  {
    name: "watch: snapshot, changes, single keys and several filters, history",
    settings: { history: 3 },
    async use({ url, name, gateway }) {
      for (const key of ["a", "b.1", "b.2", "c"]) await put(url, key, 1);
      await put(url, "a", 2);
      const open = async (query: string) => {
        const client = await openWatch(watchUrl(gateway.api, name, query));
        await eventually(() => client.ready.length).toBe(1);
        return client;
      };
      const all = await open("");
      const few = await open("key=a&key=c");
      const mixed = await open("key=a&key=b.*");
      const past = await open("key=a&key=c&include=history");
      expect(all.pairs).toEqual([
        ["b.1", 1],
        ["b.2", 1],
        ["c", 1],
        ["a", 2],
      ]);
      expect([...few.state.keys()].sort()).toEqual(["a", "c"]);
      expect([...mixed.state.keys()].sort()).toEqual(["a", "b.1", "b.2"]);
      expect(past.pairs).toEqual([
        ["a", 1],
        ["c", 1],
        ["a", 2],
      ]);
      await put(url, "a", 3);
      await call("DELETE", `${url}/keys/c`);
      await eventually(() => [...few.state]).toEqual([["a", 3]]);
      await eventually(() => all.updates.at(-1)).toMatchObject({ key: "c", operation: "delete" });
      await eventually(() => mixed.state.get("a")).toBe(3);
      for (const client of [all, few, mixed, past]) client.socket.terminate();
    },
  },
  {
    name: "batch: get, set, delete",
    async use({ url }) {
      const set = [1, 2, 3].map((n) => ({ key: `k${n}`, value: n }));
      await callJson("POST", `${url}/batch`, { set });
      const { body } = await callJson("POST", `${url}/batch`, { get: ["k3", "none", "k1"] });
      expect(body.get).toMatchObject([
        { value: 3 },
        { error: { code: "key_not_found" } },
        { value: 1 },
      ]);
      await callJson("POST", `${url}/batch`, { delete: ["k1", "k2"] });
      expect((await get(url, "keys")).body.keys).toEqual(["k3"]);
    },
  },
  {
    name: "time to live of a bucket",
    settings: { ttl_seconds: 1, history: 3 },
    async use({ url }) {
      expect((await put(url, "k", 1)).body).toHaveProperty("expires_at");
      expect((await call("GET", url)).body.ttl_seconds).toBe(1);
      await eventually(async () => (await get(url, "keys/k")).status).toBe(404);
      expect((await get(url, "keys")).body.keys).toEqual([]);
      expect((await call("GET", url)).body.keys).toBe(0);
    },
  },
  {
    name: "time to live of a key",
    needs: "2.11",
    async use({ url }) {
      const answer = await put(url, "k", 1, "?ttl=1s");
      if (answer.status === 200)
        await eventually(async () => (await get(url, "keys/k")).status).toBe(404);
      else expect((await get(url, "keys/k")).status).toBe(404);
      return answer;
    },
  },
  {
    name: "touch",
    needs: "2.11",
    async use({ url }) {
      await put(url, "k", 1);
      const answer = await callJson("POST", `${url}/touch/k`, { ttl: "1h" });
      expect((await get(url, "keys/k")).body.value).toBe(1);
      return answer;
    },
  },
  {
    name: "transactions",
    needs: "2.12",
    async use({ url }) {
      const { revision } = (await put(url, "guard", 1)).body as { revision: number };
      const operations = [
        { op: "put", key: "a", value: 1 },
        { op: "create", key: "b", value: 2 },
        { op: "check", key: "guard", revision },
      ];
      const answer = await transact(url, ...operations);
      const { keys } = (await get(url, "keys")).body as { keys: string[] };
      expect(keys).toEqual(answer.status === 200 ? ["a", "b", "guard"] : ["guard"]);
      return answer;
    },
  },
  {
    name: "transactions of checks alone",
    async use({ url }) {
      const { revision } = (await put(url, "k", 1)).body as { revision: number };
      const checks = [
        { op: "check", key: "none", revision: 0 },
        { op: "check", key: "k", revision },
      ];
      expect(await transact(url, ...checks)).toMatchObject({
        status: 200,
        body: { revisions: {} },
      });
      await put(url, "k", 2);
      expect((await transact(url, ...checks)).body).toMatchObject({
        code: "revision_mismatch",
        details: { index: 1, current_revision: revision + 1 },
      });
    },
  },
  {
    name: "compression",
    needs: "2.10",
    async use({ gateway, name }) {
      const settings = { name: `${name}s2`, compression: true };
      const answer = await callJson("POST", `${gateway.api}/buckets`, settings);
      if (answer.status === 201) expect(answer.body.compression).toBe(true);
      return answer;
    },
  },
];

const isOlder = (version: string, needed: string): boolean => {
  const [a, b] = [version, needed].map((text) => Number(text.split(".")[1]));
  return a! < b!;
};

const servers: { title: string; path?: string; version: string }[] = [
  old.path === undefined
    ? { title: `2.9 (skipped: ${old.reason})`, version: "" }
    : { ...old, title: old.version },
  { ...current, title: current.version },
];

describe.each(servers)("on nats-server $title", ({ path, version }) => {
  let gateway: TestGateway;
  let count = 0;

  beforeAll(async () => {
    if (path === undefined) return;
    const nats = await startNatsProgram(path);
    afterAll(() => nats.close());
    gateway = await startGateway(nats);
    afterAll(() => gateway.close());
  });

  const newBucket = async (settings: object = {}): Promise<Bucket> => {
    const name = `c${count++}`;
    const answer = await callJson("POST", `${gateway.api}/buckets`, { name, ...settings });
    expect(answer.status).toBe(201);
    return { url: `${gateway.api}/buckets/${name}`, name, gateway };
  };

  test.skipIf(path === undefined)("GET /api/v1/capabilities says what there is", async () => {
    const { status, body } = await call("GET", `${gateway.url}/api/v1/capabilities`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ version: expect.any(String), nats: { version } });
    for (const [name, { supported, needs }] of Object.entries<{
      supported: boolean;
      needs: string;
    }>(body.features)) {
      expect([name, supported]).toEqual([name, !isOlder(version, needs)]);
    }
    expect(body.features).toMatchObject({
      key_ttl: { needs: "2.11" },
      transactions: { needs: "2.12" },
      batch_get: { needs: "2.11" },
      compression: { needs: "2.10" },
    });
  });

  describe.skipIf(path === undefined)("works, or says what it needs:", () => {
    test.each(features)("$name", async ({ needs, settings, use }) => {
      const answer = (await use(await newBucket(settings))) as Answer;
      if (needs === undefined) return;
      if (!isOlder(version, needs)) {
        expect(answer.status).toBeLessThan(300);
        return;
      }
      expect(answer).toMatchObject({
        status: 501,
        body: { code: "unsupported", retryable: false, details: { needs, server: version } },
      });
    });
  });
});

test.skipIf(old.path === undefined)(
  "a newer NATS server in the place of an old one brings its features without a restart of the gateway",
  async () => {
    const nats = await startNatsProgram(old.path!);
    const gateway = await startGateway(nats);
    const bucketOf = async (name: string): Promise<string> => {
      expect((await callJson("POST", `${gateway.api}/buckets`, { name })).status).toBe(201);
      return `${gateway.api}/buckets/${name}`;
    };
    const before = await bucketOf("before");
    await put(before, "k", "kept");
    expect((await put(before, "t", 1, "?ttl=1h")).body.code).toBe("unsupported");
    const watch = await openWatch(watchUrl(gateway.api, "before"));
    await eventually(() => watch.ready.length).toBe(1);

    await nats.replaceBy(current.path);
    await eventually(async () => (await get(before, "keys/k")).status).toBe(200);
    expect((await call("GET", `${gateway.url}/api/v1/capabilities`)).body).toMatchObject({
      nats: { version: current.version },
      features: { key_ttl: { supported: true }, transactions: { supported: true } },
    });

    // What a bucket may do was settled when it was created.
    expect(await put(before, "t", 1, "?ttl=1h")).toMatchObject({
      status: 409,
      body: { code: "config_differs" },
    });
    expect(await transact(before, { op: "put", key: "x", value: 1 })).toMatchObject({
      status: 409,
      body: { code: "config_differs" },
    });
    await put(before, "k", "new");
    expect(
      (await callJson("POST", `${before}/batch`, { get: ["k", "none"] })).body.get,
    ).toMatchObject([{ value: "new" }, { error: { code: "key_not_found" } }]);
    await eventually(() => [...watch.state]).toEqual([["k", "new"]]);

    const after = await bucketOf("after");
    expect((await put(after, "t", 1, "?ttl=1h")).status).toBe(200);
    expect((await transact(after, { op: "put", key: "x", value: 1 })).status).toBe(200);
    expect((await get(after, "keys")).body.keys).toEqual(["t", "x"]);
  },
);
