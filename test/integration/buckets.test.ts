import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BucketInfo, BucketList } from "../../src/protocol/messages.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";

let gateway: TestGateway;
let foreign: ForeignClient;
let buckets: string;

beforeAll(async () => {
  gateway = await startGateway();
  foreign = await connectForeign(gateway.server.url);
  buckets = `${gateway.api}/buckets`;
});

afterAll(async () => {
  await foreign.close();
  await gateway.close();
});

let count = 0;
const newName = (): string => `b${++count}`;

async function create(settings: object = {}): Promise<BucketInfo> {
  const answer = await callJson("POST", buckets, { name: newName(), ...settings });
  expect(answer.status).toBe(201);
  return answer.body as BucketInfo;
}

const listed = async (): Promise<string[]> =>
  ((await call("GET", buckets)).body as BucketList).buckets.map(({ name }) => name);

const refusal = (status: number, code: string): object => ({
  status,
  body: expect.objectContaining({ code, error: expect.any(String) as string }) as object,
});

describe("creating a bucket", () => {
  test("answers 201 with its defaults and where it is", async () => {
    const name = newName();
    const answer = await callJson("POST", buckets, { name });
    expect(answer.status).toBe(201);
    expect(answer.headers.get("Location")).toBe(`/api/v1/kv/buckets/${name}`);
    expect(answer.body).toEqual({
      name,
      history: 1,
      replicas: 1,
      storage: "file",
      compression: false,
      values: 0,
      keys: 0,
      bytes: 0,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
    });
  });

  test("makes an ordinary KV stream that allows all that jetbucket needs", async () => {
    const { name } = await create();
    const { config } = await foreign.jsm.streams.info(`KV_APP_${name}`);
    expect(config).toMatchObject({
      name: `KV_APP_${name}`,
      subjects: [`$KV.APP_${name}.>`],
      max_msgs_per_subject: 1,
      discard: "new",
      retention: "limits",
      allow_rollup_hdrs: true,
      deny_delete: true,
      allow_direct: true,
      allow_msg_ttl: true,
      subject_delete_marker_ttl: 1_000_000_000,
      allow_atomic: true,
      storage: "file",
      compression: "none",
      max_age: 0,
      max_bytes: -1,
      max_msg_size: -1,
    });
  });

  test("applies every setting to the stream, and shows it", async () => {
    const settings = {
      description: "Übersicht",
      ttl_seconds: 60,
      max_value_size: 1000,
      max_bytes: 1_000_000,
      history: 5,
      replicas: 1,
      storage: "memory",
      compression: true,
    };
    const info = await create(settings);
    expect(info).toMatchObject(settings);
    const { config } = await foreign.jsm.streams.info(`KV_APP_${info.name}`);
    expect(config).toMatchObject({
      description: "Übersicht",
      max_age: 60_000_000_000,
      duplicate_window: 60_000_000_000,
      max_bytes: 1_000_000,
      max_msgs_per_subject: 5,
      num_replicas: 1,
      storage: "memory",
      compression: "s2",
    });
    expect(config.max_msg_size).toBeGreaterThanOrEqual(1000);
  });

  test("takes zero for no limit", async () => {
    const info = await create({ ttl_seconds: 0, max_value_size: 0, max_bytes: 0 });
    expect(Object.keys(info)).not.toContain("ttl_seconds");
    expect(Object.keys(info)).not.toContain("max_value_size");
    expect(Object.keys(info)).not.toContain("max_bytes");
  });

  test("answers 409 on a name that exists, whether the settings are the same or not", async () => {
    const { name } = await create({ history: 3 });
    for (const settings of [{ name, history: 3 }, { name, history: 4 }, { name }]) {
      expect(await callJson("POST", buckets, settings)).toMatchObject(
        refusal(409, "bucket_exists"),
      );
    }
  });

  test("succeeds for exactly one of many who race for a name", async () => {
    const name = newName();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => callJson("POST", buckets, { name })),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([201, ...Array.from({ length: 19 }, () => 409)]);
  });

  test.each([
    ["an unknown field", { name: "x", histori: 5 }, "histori"],
    ["no name", {}, "name"],
    ["a name that is no string", { name: 7 }, "name"],
    ["too much history", { name: "x", history: 65 }, "history"],
    ["no history", { name: "x", history: 0 }, "history"],
    ["a broken number", { name: "x", history: 1.5 }, "history"],
    ["a negative TTL", { name: "x", ttl_seconds: -1 }, "ttl_seconds"],
    ["a TTL in text", { name: "x", ttl_seconds: "60" }, "ttl_seconds"],
    ["more replicas than there are servers", { name: "x", replicas: 3 }, "replicas"],
    ["an unknown storage", { name: "x", storage: "tape" }, "storage"],
    [
      "a value size beyond what JetStream can say",
      { name: "x", max_value_size: 2 ** 40 },
      "max_value_size",
    ],
    ["a description that is too long", { name: "x", description: "d".repeat(1025) }, "description"],
  ])("with %s is refused, and the field named", async (_what, body, field) => {
    const answer = await callJson("POST", buckets, body);
    const code = field === "ttl_seconds" ? "invalid_ttl" : "invalid_request";
    expect(answer).toMatchObject(refusal(400, code));
    expect((answer.body as { error: string }).error).toContain(field);
    expect(await listed()).not.toContain("x");
  });

  test("takes a description in the longest form there is", async () => {
    expect(await create({ description: "漢".repeat(1024) })).toMatchObject({
      description: "漢".repeat(1024),
    });
  });

  test.each(["null", "[]", '"x"', "7"])("from %s instead of an object is refused", async (body) => {
    const headers = { "Content-Type": "application/json" };
    expect(await call("POST", buckets, body, headers)).toMatchObject(
      refusal(400, "invalid_request"),
    );
  });

  test.each([
    "../x",
    "a/b",
    "a%2Fb",
    "APP_x",
    "SYS_x",
    "sys_x",
    "ЅYS_x",
    "a\0",
    "",
    "x".repeat(65),
  ])("under the name %j is refused", async (name) => {
    expect(await callJson("POST", buckets, { name })).toMatchObject(
      refusal(400, "invalid_bucket_name"),
    );
  });
});

describe("a bucket", () => {
  test("counts live keys, and all stored revisions", async () => {
    const { name } = await create({ history: 5 });
    const key = (k: string): string => `${buckets}/${name}/keys/${k}`;
    for (const k of ["a", "a", "b", "c"]) await call("PUT", key(k), "1");
    await call("DELETE", key("b"));
    expect(await call("GET", `${buckets}/${name}`)).toMatchObject({
      status: 200,
      body: { name, keys: 2, values: 5, bytes: expect.any(Number) as number },
    });
    expect(((await call("GET", buckets)).body as BucketList).buckets).toContainEqual(
      expect.objectContaining({ name, keys: 2, values: 5 }),
    );
  });

  test("that does not exist answers 404 on every route", async () => {
    const at = `${buckets}/nothing`;
    const answers: Answer[] = [
      await call("GET", at),
      await callJson("PATCH", at, { history: 2 }),
      await call("DELETE", at),
      await call("GET", `${at}/keys`),
      await call("GET", `${at}/keys/k`),
      await call("PUT", `${at}/keys/k`, "1"),
      await call("DELETE", `${at}/keys/k`),
      await call("GET", `${at}/history/k`),
      await call("GET", `${at}/keys/k?revision=1`),
    ];
    for (const answer of answers) expect(answer).toMatchObject(refusal(404, "bucket_not_found"));
  });

  test("is listed by name, with the count", async () => {
    await create();
    const { body } = (await call("GET", buckets)) as { body: BucketList };
    const names = body.buckets.map(({ name }) => name);
    expect(names).toEqual([...names].sort());
    expect(body.count).toBe(names.length);
  });

  test("is deleted with all it holds, and can be created anew", async () => {
    const { name } = await create();
    await call("PUT", `${buckets}/${name}/keys/k`, "1");
    const deleted = await call("DELETE", `${buckets}/${name}`);
    expect(deleted).toMatchObject({ status: 204, body: "" });
    expect(await call("GET", `${buckets}/${name}/keys/k`)).toMatchObject(
      refusal(404, "bucket_not_found"),
    );
    expect(await call("DELETE", `${buckets}/${name}`)).toMatchObject(
      refusal(404, "bucket_not_found"),
    );
    expect(await listed()).not.toContain(name);
    expect(await callJson("POST", buckets, { name })).toMatchObject({ status: 201 });
    expect(await call("GET", `${buckets}/${name}/keys/k`)).toMatchObject(
      refusal(404, "key_not_found"),
    );
  });

  test("that another client deletes is gone for the gateway at once", async () => {
    const { name } = await create();
    await call("PUT", `${buckets}/${name}/keys/k`, "1");
    await foreign.jsm.streams.delete(`KV_APP_${name}`);
    expect(await call("GET", `${buckets}/${name}/keys/k`)).toMatchObject(
      refusal(404, "bucket_not_found"),
    );
    expect(await call("PUT", `${buckets}/${name}/keys/k`, "1")).toMatchObject(
      refusal(404, "bucket_not_found"),
    );
  });

  test("that another client limits is limited for the gateway, too", async () => {
    const { name } = await create();
    const put = (): Promise<Answer> => call("PUT", `${buckets}/${name}/keys/k`, "x".repeat(600));
    expect(await put()).toMatchObject({ status: 200 });
    await foreign.jsm.streams.update(`KV_APP_${name}`, { max_msg_size: 500 });
    expect(await put()).toMatchObject(refusal(413, "value_too_large"));
  });
});

describe("changing a bucket", () => {
  test("changes what is named, and leaves the rest", async () => {
    const before = await create({ history: 3, ttl_seconds: 100, description: "old" });
    await call("PUT", `${buckets}/${before.name}/keys/k`, "1");
    const change = { description: "new", ttl_seconds: 50, max_value_size: 10, history: 4 };
    const answer = await callJson("PATCH", `${buckets}/${before.name}`, change);
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      ...before,
      ...change,
      values: 1,
      keys: 1,
      bytes: expect.any(Number) as number,
    });
    const { config } = await foreign.jsm.streams.info(`KV_APP_${before.name}`);
    expect(config).toMatchObject({
      description: "new",
      max_age: 50_000_000_000,
      duplicate_window: 50_000_000_000,
      max_msgs_per_subject: 4,
      allow_direct: true,
      deny_delete: true,
      allow_atomic: true,
    });
    expect(await call("GET", `${buckets}/${before.name}`)).toMatchObject({ body: change });
  });

  test("takes effect on the next write", async () => {
    const { name } = await create();
    const put = (value: string): Promise<Answer> => call("PUT", `${buckets}/${name}/keys/k`, value);
    expect((await put("12345")).status).toBe(200);
    await callJson("PATCH", `${buckets}/${name}`, { max_value_size: 4 });
    expect((await put("12345")).status).toBe(413);
    await callJson("PATCH", `${buckets}/${name}`, { max_value_size: 0 });
    expect((await put("12345")).status).toBe(200);
  });

  test("lifts limits by zero", async () => {
    const { name } = await create({ ttl_seconds: 9, max_value_size: 9, max_bytes: 9000 });
    const off = { ttl_seconds: 0, max_value_size: 0, max_bytes: 0 };
    const { body } = await callJson("PATCH", `${buckets}/${name}`, off);
    for (const field of Object.keys(off)) expect(body).not.toHaveProperty(field);
  });

  test.each([
    ["storage", { storage: "memory" }],
    ["compression", { compression: true }],
    ["name", { name: "other" }],
    ["values", { values: 0 }],
    ["__proto__", JSON.parse('{"__proto__": {"history": 5}}') as object],
  ])("refuses the field %s by name", async (field, change) => {
    const { name } = await create();
    const answer = await callJson("PATCH", `${buckets}/${name}`, change);
    expect(answer).toMatchObject(refusal(400, "invalid_request"));
    expect((answer.body as { error: string }).error).toContain(field);
  });

  test("refuses more replicas than there are servers", async () => {
    const { name } = await create();
    expect(await callJson("PATCH", `${buckets}/${name}`, { replicas: 3 })).toMatchObject(
      refusal(400, "invalid_request"),
    );
  });
});

describe("buckets of others", () => {
  test("of the system are neither listed nor reachable, by whatever name", async () => {
    const kv = await foreign.kvm.create("SYS_vault");
    await kv.put("k", "secret");
    await foreign.kvm.create("plain");
    expect(await listed()).not.toContain("SYS_vault");
    expect((await listed()).join()).not.toMatch(/vault|plain/);
    const names = ["SYS_vault", "APP_SYS_vault", "sys_vault", "SYS%5Fvault", "..%2FSYS_vault"];
    names.push(
      "x%2F..%2FSYS_vault",
      "%53YS_vault",
      "SYS_vault%00",
      "SYS_vault.k",
      "*",
      "%3E",
      "SY%D0%85_vault",
    );
    for (const name of names) {
      for (const path of ["", "/keys", "/keys/k", "/history/k"]) {
        const answer = await call("GET", `${buckets}/${name}${path}`);
        expect(answer).toMatchObject(refusal(400, "invalid_bucket_name"));
      }
      expect((await call("DELETE", `${buckets}/${name}`)).status).toBe(400);
      expect((await call("PUT", `${buckets}/${name}/keys/k`, "1")).status).toBe(400);
    }
    expect((await call("GET", `${buckets}/vault/keys/k`)).status).toBe(404);
    expect((await call("GET", `${buckets}/plain/keys/k`)).status).toBe(404);
    expect((await kv.get("k"))?.string()).toBe("secret");
  });

  test("made by another client under APP_ are listed, described, changed and deleted like any", async () => {
    const name = newName();
    const kv = await foreign.kvm.create(`APP_${name}`, {
      history: 3,
      ttl: 60_000,
      maxValueSize: 2000,
      description: "theirs",
    });
    await kv.put("k", "1");
    expect(await listed()).toContain(name);
    const info = { name, history: 3, ttl_seconds: 60, max_value_size: 2000, keys: 1, values: 1 };
    expect(await call("GET", `${buckets}/${name}`)).toMatchObject({
      status: 200,
      body: { ...info, description: "theirs" },
    });
    expect(
      await callJson("PATCH", `${buckets}/${name}`, { max_value_size: 100, history: 4 }),
    ).toMatchObject({ status: 200, body: { max_value_size: 100, history: 4, keys: 1 } });
    expect((await call("PUT", `${buckets}/${name}/keys/k`, "x".repeat(101))).status).toBe(413);
    expect((await call("DELETE", `${buckets}/${name}`)).status).toBe(204);
    expect(await listed()).not.toContain(name);
  });
});
