/** The Forge dialect through the real `@forge/kvs`, on a gateway of this process. */
import {
  Filter,
  FilterConditions,
  kvs,
  MetadataField,
  WhereConditions,
  type ForgeKvsAPIError,
} from "@forge/kvs";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { installForge } from "../../src/sdk/forge.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { eventually } from "../support/eventually.ts";
import { openEvents } from "../support/events-client.ts";
import { startTestNats } from "../support/nats.ts";

const fields = [MetadataField.CREATED_AT, MetadataField.UPDATED_AT, MetadataField.EXPIRE_TIME];
/** A new one each time: the package's queries write into it. */
const metadata = () => ({ metadataFields: fields });
const returned = { keyPolicy: "OVERRIDE", returnMetadataFields: fields } as const;

let gateway: TestGateway;
let bucket = "";
let undo = (): void => undefined;
let count = 0;

beforeAll(async () => {
  gateway = await startGateway(undefined, ["--master-key", "01".repeat(32)]);
});
afterAll(() => gateway.close());
beforeEach(() => {
  bucket = `forge${count++}`;
  undo = installForge({ serverUrl: gateway.url, bucket });
  return () => undo();
});

const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    (value) => ({ value }),
    (error: unknown) => (error as ForgeKvsAPIError).code,
  );
const post = (path: string, body: unknown, at = bucket): Promise<Answer> =>
  callJson("POST", `${gateway.url}/compat/forge/${at}/${path}`, body);
const native = (path: string): string => `${gateway.api}/buckets/${bucket}/${path}`;

/** Objects inside each other. */
function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { value };
  return value;
}

/** A text whose JSON has so many bytes. */
const ofSize = (bytes: number): string => "x".repeat(bytes - 2);

describe("a key", () => {
  test("of a bucket that nobody has made is missing, and the first write makes it", async () => {
    expect(await kvs.get("a")).toBeUndefined();
    expect(await kvs.get("a", metadata())).toBeUndefined();
    await kvs.delete("a");
    expect(await kvs.query().getMany()).toEqual({ results: [], nextCursor: undefined });
    expect((await call("GET", native("keys"))).body.code).toBe("bucket_not_found");
    await kvs.set("a", 1);
    expect(await kvs.get("a")).toBe(1);
    await call("DELETE", `${gateway.api}/buckets/${bucket}`);
    expect(await kvs.get("a")).toBeUndefined();
    await kvs.set("a", 2);
    expect(await kvs.get("a")).toBe(2);
  });

  test.each([
    [["Hello", "World"]],
    [true],
    [false],
    [0],
    [-1.5],
    [{ hello: "world", nested: [{ a: null }] }],
    ["Hello world"],
    [""],
    ["null"],
    [null],
    [{ __proto__: null, constructor: 1, toString: 2 }],
  ])("keeps its value: %j", async (value) => {
    await kvs.set("v", value);
    expect(await kvs.get("v")).toEqual(value);
  });

  test("gives the metadata that is asked for, and its first creation after every overwrite", async () => {
    await kvs.set("m", 1);
    const first = await kvs.get<number>("m", metadata());
    expect(first).toEqual({
      key: "m",
      value: 1,
      createdAt: expect.any(Number),
      updatedAt: first!.createdAt,
      expireTime: undefined,
    });
    await eventually(() => Date.now()).toBeGreaterThan(first!.createdAt! + 2);
    await kvs.set("m", 2, { ttl: { value: 1, unit: "HOURS" } });
    await kvs
      .transact()
      .set("m", 3, undefined, { ttl: { value: 1, unit: "HOURS" } })
      .execute();
    await kvs.batchSet([{ key: "m", value: 4, options: { ttl: { value: 1, unit: "HOURS" } } }]);
    const last = await kvs.get("m", metadata());
    expect(last).toMatchObject({ value: 4, createdAt: first!.createdAt });
    expect(last!.updatedAt).toBeGreaterThan(first!.createdAt!);
    expect(Date.parse(last!.expireTime!)).toBe(last!.updatedAt! + 3_600_000);
    const { body } = await post("v1/get", {
      key: "m",
      options: { metadataFields: ["CREATED_AT"] },
    });
    expect(body).toEqual({ key: "m", value: 4, createdAt: first!.createdAt });
    await kvs.delete("m");
    await kvs.set("m", 5);
    expect((await kvs.get("m", metadata()))!.createdAt).toBeGreaterThan(first!.createdAt!);
  });

  test.each([
    [2, "SECONDS", 2],
    [3, "MINUTES", 180],
    [4, "HOURS", 14_400],
    [365, "DAYS", 31_536_000],
  ] as const)("lives for %i %s", async (value, unit, seconds) => {
    const set = await kvs.set("t", 1, { ...returned, returnValue: "LATEST", ttl: { value, unit } });
    expect(Date.parse(set!.expireTime!) - set!.updatedAt!).toBe(seconds * 1000);
  });

  test("is gone at once when its time is over, for every way to ask", async () => {
    await kvs.set("gone", 1, { ttl: { value: 1, unit: "SECONDS" } });
    await kvs.setSecret("gone", 1, { ttl: { value: 1, unit: "SECONDS" } });
    expect(await kvs.get("gone")).toBe(1);
    await eventually(() => kvs.get("gone")).toBeUndefined();
    expect((await kvs.query().getMany()).results).toEqual([]);
    expect((await kvs.batchGet([{ key: "gone" }])).failedKeys).toHaveLength(1);
    expect(await kvs.getSecret("gone")).toBeUndefined();
    await kvs.set("gone", 2, { keyPolicy: "FAIL_IF_EXISTS" });
    await kvs.setSecret("gone", 2, { keyPolicy: "FAIL_IF_EXISTS" });
  });

  test("is taken by one of many that want it to be new", async () => {
    const codes = await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        codeOf(kvs.set("one", i, { keyPolicy: "FAIL_IF_EXISTS" })),
      ),
    );
    expect(codes.filter((code) => code === "KEY_CONFLICT")).toHaveLength(39);
    const { status } = await post("api/v1/set", {
      key: "one",
      value: 1,
      options: { keyPolicy: "FAIL_IF_EXISTS" },
    });
    expect(status).toBe(409);
  });

  test("takes the writes of many at once, the last of which stays", async () => {
    await Promise.all(Array.from({ length: 100 }, (_, i) => kvs.set("all", i)));
    const { createdAt, updatedAt } = (await kvs.get("all", metadata()))!;
    expect(updatedAt).toBeGreaterThanOrEqual(createdAt!);
    expect((await call("GET", native("keys/all"))).body.revision).toBe(100);
  });

  test("tells what was there before, and what is there now", async () => {
    const previous = { ...returned, returnValue: "PREVIOUS" } as const;
    expect(
      await kvs.set<number, number>("r", 1, { ...previous, ttl: { value: 1, unit: "DAYS" } }),
    ).toBeUndefined();
    const one = await kvs.get<number>("r", metadata());
    expect(await kvs.set<number, number>("r", 2, previous)).toEqual(one);
    const latest = await kvs.set("r", 3, { ...returned, returnValue: "LATEST" });
    expect(latest).toEqual({
      key: "r",
      value: 3,
      createdAt: one!.createdAt,
      updatedAt: expect.any(Number),
      expireTime: undefined,
    });
    expect(latest).toEqual(await kvs.get("r", metadata()));
    // Legal on the wire, if not for the package's types.
    expect(
      await post("v1/set", { key: "r", value: 4, options: { returnValue: "PREVIOUS" } }),
    ).toMatchObject({
      status: 200,
      body: { key: "r", value: 3 },
    });
    expect(await post("v1/set", { key: "r", value: 5 })).toMatchObject({ status: 204, body: "" });
  });
});

describe("what is refused", () => {
  const nbsp = "\u00a0";

  test.each([
    ["", "KEY_TOO_SHORT"],
    ["k".repeat(501), "KEY_TOO_LONG"],
    [`a${nbsp.repeat(499)}`, "KEY_TOO_LONG"],
    ["   ", "INVALID_KEY"],
    ["a/b", "INVALID_KEY"],
    ["ü", "INVALID_KEY"],
    ["a*", "INVALID_KEY"],
    ["a\u0000", "INVALID_KEY"],
  ])("the key %j", async (key, code) => {
    expect(await codeOf(kvs.get(key))).toBe(code);
    expect(await codeOf(kvs.set(key, 1))).toBe(code);
    expect(await codeOf(kvs.delete(key))).toBe(code);
    expect(await codeOf(kvs.getSecret(key))).toBe(code);
    expect(await codeOf(kvs.setSecret(key, 1))).toBe(code);
    expect(await codeOf(kvs.deleteSecret(key))).toBe(code);
    expect(await codeOf(kvs.transact().set(key, 1).execute())).toBe(code);
    const { failedKeys } = await kvs.batchSet([{ key, value: 1 }]);
    expect(failedKeys).toMatchObject([{ key, error: { code } }]);
  });

  test.each([["k".repeat(500)], ["a"], ["."], ["..a.."], ["a b#c-d_e:f.G1"], ["a\n\tb"], [" a "]])(
    "not the key %j",
    async (key) => {
      await kvs.set(key, key);
      expect(await kvs.get(key)).toBe(key);
      await kvs.setSecret(key, 1);
      expect(await kvs.getSecret(key)).toBe(1);
      expect((await kvs.query().getMany()).results).toEqual([{ key, value: key }]);
      await kvs.delete(key);
      expect(await kvs.get(key)).toBeUndefined();
    },
  );

  test("values beyond their size and depth, and not those at the limit", async () => {
    const [kv, secret] = [240 * 1024, 128 * 1024];
    await kvs.set("s", ofSize(kv));
    expect(await kvs.get("s")).toHaveLength(kv - 2);
    await kvs.setSecret("s", ofSize(secret));
    expect(await kvs.getSecret("s")).toHaveLength(secret - 2);
    // Bytes, not characters, and not the escapes in which they may travel.
    await kvs.set("s", "\u0001".repeat(40_000));
    expect(await codeOf(kvs.set("s", "ü".repeat(kv / 2)))).toBe("MAX_SIZE");
    expect(await codeOf(kvs.set("s", ofSize(kv + 1)))).toBe("MAX_SIZE");
    expect(await codeOf(kvs.set("s", ofSize(2 * 1024 * 1024)))).toBe("MAX_SIZE");
    expect(await codeOf(kvs.setSecret("s", ofSize(secret + 1)))).toBe("MAX_SIZE");
    expect(
      await codeOf(
        kvs
          .transact()
          .set("s", ofSize(kv + 1))
          .execute(),
      ),
    ).toBe("MAX_SIZE");
    await kvs.set("d", nested(31));
    expect(await kvs.get("d")).toEqual(nested(31));
    expect(await codeOf(kvs.set("d", nested(32)))).toBe("MAX_DEPTH");
    expect(await codeOf(kvs.setSecret("d", nested(32)))).toBe("MAX_DEPTH");
    const deep = `{"key":"d","value":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    const answer = await call("POST", `${gateway.url}/compat/forge/${bucket}/v1/set`, deep);
    expect([answer.status, answer.body.code]).toEqual([400, "MAX_DEPTH"]);
  });

  test.each([
    [{ ttl: { value: 366, unit: "DAYS" } }, "INVALID_TTL"],
    [{ ttl: { value: 0, unit: "SECONDS" } }, "INVALID_TTL"],
    [{ ttl: { value: -1, unit: "DAYS" } }, "INVALID_TTL"],
    [{ ttl: { value: 1, unit: "WEEKS" } }, "INVALID_REQUEST"],
    [{ ttl: { value: "1", unit: "DAYS" } }, "INVALID_REQUEST"],
    [{ ttl: { value: 1, unit: "constructor" } }, "INVALID_REQUEST"],
    [{ keyPolicy: "MERGE" }, "INVALID_REQUEST"],
    [{ keyPolicy: "FAIL_IF_EXISTS", returnValue: "PREVIOUS" }, "INVALID_REQUEST"],
    [{ returnMetadataFields: ["CREATED_AT"] }, "INVALID_REQUEST"],
    [{ returnValue: "LATEST", metadataFields: ["CREATED_AT"] }, "INVALID_REQUEST"],
    [{ returnValue: "LATEST", returnMetadataFields: ["SIZE"] }, "INVALID_REQUEST"],
  ])("the options %j", async (options, code) => {
    for (const path of ["v1/set", "v1/secret/set"]) {
      const answer = await post(path, { key: "o", value: 1, options });
      expect(answer).toMatchObject({ status: 400, body: { code, message: expect.any(String) } });
    }
    expect(await kvs.get("o")).toBeUndefined();
  });

  test("a value that is missing, JSON that is none, and what has no place here, in Forge's form", async () => {
    expect(await codeOf(kvs.set("a", undefined))).toBe("INVALID_REQUEST");
    const at = `${gateway.url}/compat/forge/${bucket}`;
    const form = { message: expect.any(String) };
    expect(await call("POST", `${at}/api/v1/set`, "{")).toMatchObject({
      status: 400,
      body: { ...form, code: "INVALID_JSON" },
    });
    expect(await post("api/v1/nothing", {})).toMatchObject({
      status: 404,
      body: { ...form, code: "NOT_FOUND" },
    });
    expect(await post("api/v2/get", { key: "a" })).toMatchObject({ body: { code: "NOT_FOUND" } });
    expect(await call("POST", at, "{}")).toMatchObject({
      status: 404,
      body: { code: "NOT_FOUND" },
    });
    const get = await call("GET", `${at}/v1/get`);
    expect(get).toMatchObject({ status: 405, body: { code: "METHOD_NOT_ALLOWED" } });
    expect([get.headers.get("allow"), get.headers.get("x-trace-id")]).toEqual([
      "POST",
      get.headers.get("x-request-id"),
    ]);
    expect(await post("v1/get", { key: "a" }, "SYS_secrets_default")).toMatchObject({
      status: 400,
      body: { code: "INVALID_BUCKET_NAME" },
    });
    expect(Object.keys(get.body as object).sort()).toEqual(["code", "context", "message"]);
  });

  test("custom entities", async () => {
    const person = kvs.entity<{ name: string }>("person");
    expect(await codeOf(person.get("a"))).toBe("ENTITIES_NOT_SUPPORTED");
    expect(await codeOf(person.set("a", { name: "b" }))).toBe("ENTITIES_NOT_SUPPORTED");
    expect(await codeOf(person.query().index("by").getMany())).toBe("ENTITIES_NOT_SUPPORTED");
    expect((await post("api/v1/entity/get", {})).status).toBe(501);
    const transaction = kvs.transact().set("a", 1, { entityName: "person" });
    expect(await codeOf(transaction.execute())).toBe("ENTITIES_NOT_SUPPORTED");
    const batch = await kvs.batchSet([
      { key: "a", value: 1 },
      { key: "a", value: 1, entityName: "person" },
    ]);
    expect(batch).toMatchObject({
      successfulKeys: [{ key: "a" }],
      failedKeys: [{ key: "a", entityName: "person", error: { code: "ENTITIES_NOT_SUPPORTED" } }],
    });
  });

  test("a page of another origin", async () => {
    const evil = { Origin: "https://evil.example" };
    const answer = await callJson(
      "POST",
      `${gateway.url}/compat/forge/${bucket}/v1/set`,
      { key: "a", value: 1 },
      evil,
    );
    expect(answer).toMatchObject({ status: 403, body: { code: "FORBIDDEN" } });
  });
});

describe("a query", () => {
  test("goes through a thousand keys by its cursor while keys come and go", async () => {
    await kvs.set("other", 1);
    const names = Array.from({ length: 1000 }, (_, i) => `item:${String(i).padStart(4, "0")}`);
    await callJson("POST", native("batch"), { set: names.map((key) => ({ key, value: { key } })) });
    const seen: string[] = [];
    let pages = 0;
    for (let cursor: string | undefined; ;) {
      const query = kvs
        .query(metadata())
        .where("key", WhereConditions.beginsWith("item:"))
        .limit(100);
      const page = await (cursor === undefined ? query : query.cursor(cursor)).getMany<{
        key: string;
      }>();
      for (const { key, value } of page.results) {
        expect(value.key).toBe(key);
        seen.push(key);
      }
      cursor = page.nextCursor;
      pages += 1;
      if (cursor === undefined) break;
      // What the cursor stands for goes, and something comes before it.
      await kvs.delete(seen.at(-1)!);
      await kvs.set(`item:${String(pages - 1).padStart(4, "0")}:new`, 1);
    }
    expect([pages, seen]).toEqual([10, names]);
  });

  test("gives ten, in order, without secrets, and one", async () => {
    await Promise.all(Array.from({ length: 12 }, (_, i) => kvs.set(`k${i}`, i)));
    await kvs.setSecret("k0secret", "hidden");
    const { results, nextCursor } = await kvs.query().getMany();
    expect(results).toHaveLength(10);
    expect(results.slice(0, 3)).toEqual([
      { key: "k0", value: 0 },
      { key: "k1", value: 1 },
      { key: "k10", value: 10 },
    ]);
    const rest = await kvs.query().cursor(nextCursor!).getMany();
    expect(rest.results.map(({ key }) => key)).toEqual(["k8", "k9"]);
    expect(rest.nextCursor).toBeUndefined();
    expect(await kvs.query().where("key", WhereConditions.beginsWith("k1")).getOne()).toEqual({
      key: "k1",
      value: 1,
    });
    expect(
      await kvs.query().where("key", WhereConditions.beginsWith("none")).getOne(),
    ).toBeUndefined();
    expect((await kvs.query().limit(12).getMany()).nextCursor).toBeUndefined();
    const [shown] = (await kvs.query(metadata()).getMany()).results;
    expect(Object.keys(shown!).sort()).toEqual(["createdAt", "key", "updatedAt", "value"]);
  });

  test("may share its options with get, although the package writes into them", async () => {
    const options = metadata();
    await kvs.set("a", 1);
    await kvs.query(options).where("key", WhereConditions.beginsWith("a")).limit(5).getMany();
    expect(await kvs.get("a", options)).toMatchObject({ value: 1, createdAt: expect.any(Number) });
  });

  test.each([
    [{ limit: 101 }, "LIST_QUERY_LIMIT_EXCEEDED"],
    [{ limit: 0 }, "LIST_QUERY_LIMIT_EXCEEDED"],
    [{ limit: 1.5 }, "LIST_QUERY_LIMIT_EXCEEDED"],
    [{ where: [begins("key", "a"), begins("key", "b")] }, "QUERY_WHERE_INVALID"],
    [{ where: [begins("value", "a")] }, "QUERY_WHERE_FIELD_INVALID"],
    [{ where: [{ ...begins("key", "a"), condition: "EQUAL_TO" }] }, "INVALID_FILTER_CONDITION"],
    [{ where: [{ ...begins("key", "a"), values: ["a", "b"] }] }, "INVALID_FILTER_VALUES"],
    [{ where: [{ ...begins("key", "a"), values: [{}] }] }, "INVALID_FILTER_VALUES"],
    [{ after: "!" }, "INVALID_REQUEST"],
    [{ sort: "ASC" }, "INVALID_REQUEST"],
  ])("refuses %j", async (body, code) => {
    expect(await post("v1/query", body)).toMatchObject({ status: 400, body: { code } });
  });

  test("passes over keys that Forge's clients cannot name", async () => {
    for (const key of ["a", "b/c", "ü", "d"]) {
      await kvs.set("made", 1);
      await callJson("PUT", native(`keys/${encodeURIComponent(key)}`), key);
    }
    const seen: string[] = [];
    for (let cursor: string | undefined; ;) {
      const query = kvs.query().limit(1);
      const page = await (cursor === undefined ? query : query.cursor(cursor)).getMany();
      seen.push(...page.results.map(({ key }) => key));
      cursor = page.nextCursor;
      if (cursor === undefined) break;
    }
    expect(seen).toEqual(["a", "d", "made"]);
  });
});

function begins(property: string, value: string) {
  return { property, condition: "BEGINS_WITH", values: [value] };
}

describe("a batch", () => {
  test("does what it can, and says which keys failed and why", async () => {
    const set = await kvs.batchSet<unknown>([
      { key: "a", value: 1 },
      { key: "b", value: 2, options: { ttl: { value: 1, unit: "HOURS" } } },
      { key: "c/d", value: 3 },
      { key: "e", value: ofSize(240 * 1024 + 1) },
      { key: "f", value: undefined },
      { key: "g", value: 1, options: { ttl: { value: 366, unit: "DAYS" } } },
    ]);
    expect(set.successfulKeys).toEqual([{ key: "a" }, { key: "b" }]);
    expect(set.failedKeys.map(({ key, error }) => [key, error.code])).toEqual([
      ["c/d", "INVALID_KEY"],
      ["e", "MAX_SIZE"],
      ["f", "INVALID_REQUEST"],
      ["g", "INVALID_TTL"],
    ]);
    const { body: got } = await post("api/v1/batch/get", [
      { key: "b", options: { metadataFields: ["EXPIRE_TIME"] } },
      { key: "a" },
      { key: "missing" },
    ]);
    expect(got).toEqual({
      successfulKeys: [
        { key: "b", value: 2, expireTime: expect.any(String) },
        { key: "a", value: 1 },
      ],
      failedKeys: [
        { key: "missing", error: { code: "KEY_NOT_FOUND", message: expect.any(String) } },
      ],
    });
    expect(await kvs.batchDelete([{ key: "a" }, { key: "missing" }, { key: "" }])).toMatchObject({
      successfulKeys: [{ key: "a" }, { key: "missing" }],
      failedKeys: [{ key: "", error: { code: "KEY_TOO_SHORT" } }],
    });
    expect(await kvs.get("a")).toBeUndefined();
  });

  test("makes the bucket once, by 25 keys at the same time", async () => {
    const items = Array.from({ length: 25 }, (_, i) => ({ key: `k${i}`, value: i }));
    expect((await kvs.batchSet(items)).successfulKeys).toHaveLength(25);
    expect((await kvs.batchGet(items)).successfulKeys).toHaveLength(25);
  });

  test("fails as a whole when it is empty, too large, or has a key twice", async () => {
    const items = Array.from({ length: 26 }, (_, i) => ({ key: `k${i}`, value: i }));
    const twice = [items[0]!, items[1]!, items[0]!];
    for (const [batch, code] of [
      [[], "EMPTY_BATCH"],
      [items, "BATCH_LIMIT_EXCEEDED"],
      [twice, "DUPLICATE_KEY"],
    ] as const) {
      expect(await codeOf(kvs.batchSet([...batch]))).toBe(code);
      expect(await codeOf(kvs.batchGet(batch.map(({ key }) => ({ key }))))).toBe(code);
      expect(await codeOf(kvs.batchDelete(batch.map(({ key }) => ({ key }))))).toBe(code);
    }
    const large = items.slice(0, 22).map(({ key }) => ({ key, value: ofSize(200 * 1024) }));
    expect(await codeOf(kvs.batchSet(large))).toBe("MAX_SIZE");
    expect(await post("v1/batch/set", { key: "a" })).toMatchObject({
      status: 400,
      body: { code: "INVALID_REQUEST" },
    });
    expect(await kvs.get("k0")).toBeUndefined();
  });
});

describe("a transaction", () => {
  interface Account {
    balance: number;
    owner: string;
  }
  type Conditions = ReturnType<Filter<Account>["and"]> | ReturnType<Filter<Account>["or"]>;
  /** A condition on a plain key: on the wire it is one without an entity's name. */
  const on = (conditions: Conditions) => ({ conditions }) as never;
  const balance = (least: number): Conditions =>
    new Filter<Account>().and("balance", FilterConditions.greaterThanEqualTo(least));

  test("sets and deletes all of its keys", async () => {
    await kvs.set("old", 1);
    await kvs
      .transact()
      .set("a", { n: 1 })
      .set("b", "text", undefined, { ttl: { value: 1, unit: "MINUTES" } })
      .delete("old")
      .delete("never")
      .execute();
    expect((await kvs.query().getMany()).results).toEqual([
      { key: "a", value: { n: 1 } },
      { key: "b", value: "text" },
    ]);
    expect((await kvs.get("b", metadata()))!.expireTime).toEqual(expect.any(String));
    // Nothing is told of a key that never was.
    expect((await call("GET", native("history/never"))).status).toBe(404);
  });

  test("does nothing when one of its conditions does not hold", async () => {
    await kvs.set("a", { balance: 5, owner: "x" });
    const transfer = (least: number): Promise<unknown> =>
      codeOf(
        kvs
          .transact()
          .set("a", { balance: 0, owner: "x" }, on(balance(least)))
          .set("b", { balance: 5, owner: "y" })
          .execute(),
      );
    expect(await transfer(6)).toBe("CONDITIONAL_CHECK_FAILED");
    expect(await kvs.get("b")).toBeUndefined();
    expect(await transfer(5)).toEqual({ value: undefined });
    expect(await kvs.get("a")).toEqual({ balance: 0, owner: "x" });
    const check = (filter: Conditions): Promise<unknown> =>
      codeOf(kvs.transact().check("a", on(filter)).delete("b").execute());
    const eq = (owner: string): Conditions =>
      new Filter<Account>().and("owner", FilterConditions.equalTo(owner));
    expect(await check(eq("z"))).toBe("CONDITIONAL_CHECK_FAILED");
    expect(await kvs.get("b")).toBeDefined();
    expect(await check(eq("x"))).toEqual({ value: undefined });
    expect(await kvs.get("b")).toBeUndefined();
  });

  test.each([
    [FilterConditions.equalTo("max"), true],
    [FilterConditions.equalTo("min"), false],
    [FilterConditions.notEqualTo("min"), true],
    [FilterConditions.beginsWith("ma"), true],
    [FilterConditions.beginsWith("ax"), false],
    [FilterConditions.contains("ax"), true],
    [FilterConditions.notContains("ax"), false],
    [FilterConditions.exists(), true],
    [FilterConditions.notExists(), false],
    [FilterConditions.greaterThan("max"), false],
    [FilterConditions.greaterThanEqualTo("max"), true],
    [FilterConditions.lessThan("may"), true],
    [FilterConditions.lessThanEqualTo("maw"), false],
    [FilterConditions.between("a", "z"), true],
    [FilterConditions.between("a", "b"), false],
    [FilterConditions.lessThan(7), false],
  ])("knows the condition %j", async (condition, holds) => {
    await kvs.set("a", { owner: "max" });
    for (const [builder, expected] of [
      [new Filter<Account>().and("owner", condition), holds],
      [
        new Filter<Account>().or("owner", condition).or("balance", FilterConditions.exists()),
        holds,
      ],
      [
        new Filter<Account>().and("owner", condition).and("balance", FilterConditions.exists()),
        false,
      ],
    ] as const) {
      const code = await codeOf(kvs.transact().check("a", on(builder)).execute());
      expect(code).toEqual(expected ? { value: undefined } : "CONDITIONAL_CHECK_FAILED");
    }
  });

  test("with conditions only finds nothing where there is no bucket", async () => {
    const check = (filter: Conditions): Promise<unknown> =>
      codeOf(kvs.transact().check("a", on(filter)).execute());
    const exists = new Filter<Account>().and("owner", FilterConditions.exists());
    const missing = new Filter<Account>().and("owner", FilterConditions.notExists());
    expect(await check(exists)).toBe("CONDITIONAL_CHECK_FAILED");
    expect(await check(missing)).toEqual({ value: undefined });
    await kvs.transact().delete("a").execute();
    expect((await call("GET", native("keys"))).status).toBe(404);
  });

  test("of many that spend the same money at once goes through as often as it lasts", async () => {
    await kvs.set("purse", { balance: 3, owner: "x" });
    const spend = async (i: number): Promise<unknown> => {
      for (;;) {
        const { balance: left } = (await kvs.get<Account>("purse"))!;
        const filter = new Filter<Account>()
          .and("balance", FilterConditions.equalTo(left))
          .and("balance", FilterConditions.greaterThan(0));
        const code = await codeOf(
          kvs
            .transact()
            .set("purse", { balance: left - 1, owner: "x" }, on(filter))
            .set(`spent:${i}`, 1)
            .execute(),
        );
        if (code !== "CONDITIONAL_CHECK_FAILED") return "spent";
        if (left === 0) return "broke";
      }
    };
    const ends = await Promise.all(Array.from({ length: 8 }, (_, i) => spend(i)));
    expect(ends.filter((end) => end === "spent")).toHaveLength(3);
    const spent = await kvs.query().where("key", WhereConditions.beginsWith("spent:")).getMany();
    expect(spent.results).toHaveLength(3);
    expect(await kvs.get("purse")).toMatchObject({ balance: 0 });
  });

  test("is one of many on the same keys at once, all of which go through", async () => {
    const all = Array.from({ length: 60 }, (_, i) =>
      i % 3 === 0
        ? kvs.set("b", i)
        : kvs
            .transact()
            .set(i % 2 === 0 ? "a" : "b", i)
            .set(i % 2 === 0 ? "b" : "a", i)
            .execute(),
    );
    await Promise.all(all);
    expect((await call("GET", native("keys/b"))).body.revision).toBeGreaterThan(95);
  });

  test("is refused when it is empty, too large, or has a key twice", async () => {
    expect(await codeOf(kvs.transact().execute())).toBe("EMPTY_TRANSACTION");
    const many = kvs.transact();
    for (let i = 0; i < 26; i++) many.set(`k${i}`, i);
    expect(await codeOf(many.execute())).toBe("TRANSACTION_LIMIT_EXCEEDED");
    expect(await codeOf(kvs.transact().set("a", 1).delete("a").execute())).toBe("DUPLICATE_KEY");
    const large = kvs.transact();
    for (let i = 0; i < 22; i++) large.set(`k${i}`, ofSize(200 * 1024));
    expect(await codeOf(large.execute())).toBe("MAX_SIZE");
    const odd = { and: [{ property: "a", condition: "LIKE", values: ["a"] }] };
    const check = (conditions: object) =>
      post("v1/transaction", { check: [{ key: "a", conditions }] });
    expect(await check(odd)).toMatchObject({ body: { code: "INVALID_FILTER_CONDITION" } });
    const none = { and: [{ property: "a", condition: "BETWEEN", values: ["a"] }] };
    expect(await check(none)).toMatchObject({ body: { code: "INVALID_FILTER_VALUES" } });
    expect(await kvs.get("k0")).toBeUndefined();
  });
});

describe("a secret", () => {
  test.each([
    [["Hello", "World"]],
    [true],
    [123],
    [{ hello: "world" }],
    ["Hello world"],
    ["123"],
    ["\ud800"],
    [null],
  ])("keeps its value: %j", async (value) => {
    await kvs.setSecret("s", value);
    expect(await kvs.getSecret("s")).toEqual(value);
  });

  test("has metadata, policies and an end as keys have", async () => {
    const previous = { ...returned, returnValue: "PREVIOUS" } as const;
    expect(await kvs.setSecret<number, number>("s", 1, previous)).toBeUndefined();
    const first = await kvs.getSecret<number>("s", metadata());
    expect(first).toEqual({
      key: "s",
      value: 1,
      createdAt: expect.any(Number),
      updatedAt: first!.createdAt,
      expireTime: undefined,
    });
    expect(await codeOf(kvs.setSecret("s", 2, { keyPolicy: "FAIL_IF_EXISTS" }))).toBe(
      "KEY_CONFLICT",
    );
    const latest = await kvs.setSecret("s", [2], {
      ...returned,
      returnValue: "LATEST",
      ttl: { value: 1, unit: "DAYS" },
    });
    expect(latest).toMatchObject({ key: "s", value: [2], createdAt: first!.createdAt });
    expect(Date.parse(latest!.expireTime!) - latest!.updatedAt!).toBeGreaterThan(86_390_000);
    expect(await kvs.setSecret<number, number>("s", 3, previous)).toMatchObject({ value: [2] });
    await kvs.deleteSecret("s");
    await kvs.deleteSecret("s");
    expect(await kvs.getSecret("s")).toBeUndefined();
    const races = Array.from({ length: 10 }, (_, i) =>
      codeOf(kvs.setSecret("s", i, { keyPolicy: "FAIL_IF_EXISTS" })),
    );
    expect((await Promise.all(races)).filter((code) => code === "KEY_CONFLICT")).toHaveLength(9);
  });

  test("is in no other space, no listing, no watch, and nowhere in the clear", async () => {
    await kvs.set("both", "open");
    const watch = await openEvents(native("watch"));
    await kvs.set("key", "open");
    await kvs.setSecret("both", "hidden-value");
    await kvs.setSecret("secret", { deep: "hidden-value" });
    expect(await kvs.get("both")).toBe("open");
    expect(await kvs.get("secret")).toBeUndefined();
    expect(await kvs.getSecret("key")).toBeUndefined();
    const { successfulKeys } = await kvs.batchGet([{ key: "both" }, { key: "secret" }]);
    expect(successfulKeys).toEqual([{ key: "both", value: "open" }]);
    await kvs.delete("both");
    expect(await kvs.getSecret("both")).toBe("hidden-value");
    await eventually(() => watch.pairs.at(-1)).toEqual(["both", undefined]);
    expect(watch.pairs).toEqual([
      ["both", "open"],
      ["key", "open"],
      ["both", undefined],
    ]);
    expect((await call("GET", native("keys"))).body.keys).toEqual(["key"]);
    const names = (await call("GET", `${gateway.api}/buckets`)).body.buckets as { name: string }[];
    expect(names.filter(({ name }) => /secret|SYS/.test(name))).toEqual([]);
    const { kvm } = await connectForeign(gateway.server.url);
    const stored = await kvm.open(`SYS_secrets_forge_${bucket}`);
    for (const key of ["secret.both", "secret.secret"])
      expect((await stored.get(key))!.string()).not.toContain("hidden-value");
  });

  test("is a secret of the bucket's environment, for those who manage and rotate secrets", async () => {
    await kvs.setSecret("text", "Hello");
    await kvs.setSecret("json", { hello: 1 });
    const environment = { "X-Ironflow-Environment": `forge_${bucket}` };
    const at = `${gateway.url}/api/v1/secrets`;
    const reveal = async (name: string): Promise<unknown> =>
      (await call("GET", `${at}/${name}/value`, undefined, environment)).body.value;
    expect([await reveal("text"), await reveal("json")]).toEqual(["Hello", '{"hello":1}']);
    await callJson("PUT", `${at}/json`, { value: "123" }, environment);
    expect(await kvs.getSecret("json")).toBe("123");
  });

  test("is not given to pages, and not there without a master key", async () => {
    await kvs.setSecret("s", 1);
    const at = `${gateway.url}/compat/forge/${bucket}/v1/secret`;
    const page = { Origin: gateway.url };
    expect(await callJson("POST", `${at}/get`, { key: "s" }, page)).toMatchObject({
      status: 403,
      body: { code: "FORBIDDEN" },
    });
    const options = { returnValue: "PREVIOUS" };
    const set = await callJson("POST", `${at}/set`, { key: "s", value: 2, options }, page);
    expect(set).toMatchObject({ status: 403, body: { code: "FORBIDDEN" } });
    expect(await kvs.getSecret("s")).toBe(1);
    const without = await startGateway(gateway.server);
    undo();
    undo = installForge({ serverUrl: without.url, bucket });
    expect(await codeOf(kvs.getSecret("s"))).toBe("SECRETS_DISABLED");
    expect(await codeOf(kvs.setSecret("s", 2))).toBe("SECRETS_DISABLED");
    expect(await codeOf(kvs.deleteSecret("s"))).toBe("SECRETS_DISABLED");
    expect(await kvs.get("s")).toBeUndefined();
  });
});

describe("what others have written", () => {
  test("reads as JSON, text as a string, bytes in base64, and the other way round", async () => {
    await kvs.set("mine", { a: 1 });
    const put = (key: string, body: BodyInit, type: string): Promise<Answer> =>
      call("PUT", native(`keys/${key}`), body, { "Content-Type": type });
    await put("json", '{"b": [1, 2]}', "application/json");
    await put("text", '{"not": "parsed"}', "text/plain");
    await put("bytes", new Uint8Array([0xff, 0xfe, 0]), "application/octet-stream");
    const { kvm } = await connectForeign(gateway.server.url);
    const kv = await kvm.open(`APP_${bucket}`);
    await kv.put("foreign", '{"c": 3}');
    await kv.put("plain", "words");
    const values = await Promise.all(
      ["json", "text", "bytes", "foreign", "plain"].map((key) => kvs.get(key)),
    );
    expect(values).toEqual([{ b: [1, 2] }, '{"not": "parsed"}', "//4A", { c: 3 }, "words"]);
    expect(await kvs.get("foreign", metadata())).toMatchObject({ createdAt: expect.any(Number) });
    expect((await call("GET", native("keys/mine"))).body).toMatchObject({
      value: { a: 1 },
      encoding: "json",
    });
    expect((await kv.get("mine"))!.json()).toEqual({ a: 1 });
  });
});

test("two gateways serve the same data, also right after a bucket was deleted and made anew", async () => {
  const nats = await startTestNats();
  const [one, two] = [await startGateway(nats), await startGateway(nats)];
  const on = async <T>(at: TestGateway, work: () => Promise<T>): Promise<T> => {
    const off = installForge({ serverUrl: at.url, bucket: "shared" });
    return work().finally(off);
  };
  for (let i = 0; i < 3; i++) {
    await on(one, () => kvs.set("a", i));
    expect(await on(two, () => kvs.get("a"))).toBe(i);
    await call("DELETE", `${two.api}/buckets/shared`);
    await on(two, () => kvs.set("b", i));
    expect(await on(one, () => kvs.get("b"))).toBe(i);
    expect(await on(one, () => kvs.get("a"))).toBeUndefined();
  }
});
