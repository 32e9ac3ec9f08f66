import { beforeAll, describe, expect, test } from "vitest";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";

let nats: TestNats;
let gateways: [TestGateway, TestGateway];
let count = 0;

beforeAll(async () => {
  nats = await startTestNats();
  gateways = [await startGateway(nats), await startGateway(nats)];
  return () => Promise.all(gateways.map((gateway) => gateway.close()));
});

/** A new bucket's address on the first gateway. */
async function newBucket(settings: object = {}): Promise<string> {
  const name = `t${count++}`;
  await callJson("POST", `${gateways[0].api}/buckets`, { name, ...settings });
  return `${gateways[0].api}/buckets/${name}`;
}

const put = (bucket: string, key: string, value: unknown): Promise<Answer> =>
  callJson("PUT", `${bucket}/keys/${key}`, value);
const transact = (bucket: string, operations: object[]): Promise<Answer> =>
  callJson("POST", `${bucket}/transactions`, { operations });
const values = async (bucket: string): Promise<Record<string, unknown>> => {
  const { keys } = (await call("GET", `${bucket}/keys`)).body as { keys: string[] };
  const entries = await Promise.all(
    keys.map(
      async (key) =>
        [
          key,
          ((await call("GET", `${bucket}/keys/${key}`)).body as { value: unknown }).value,
        ] as const,
    ),
  );
  return Object.fromEntries(entries);
};

describe("a transaction", () => {
  test.each([1, 5])("carries out every kind of operation, history %i", async (history) => {
    const bucket = await newBucket({ history });
    const old = (await put(bucket, "u", 1)).body.revision;
    const guard = (await put(bucket, "guard", 1)).body.revision;
    await put(bucket, "d", 1);
    await put(bucket, "p", 1);
    const answer = await transact(bucket, [
      { op: "put", key: "a", value: { n: 1 } },
      { op: "create", key: "c", value: "text", encoding: "text" },
      { op: "update", key: "u", value: 2, revision: old },
      { op: "delete", key: "d" },
      { op: "purge", key: "p" },
      { op: "check", key: "guard", revision: guard },
      { op: "check", key: "nothing", revision: 0 },
    ]);
    expect(answer.status).toBe(200);
    expect(Object.keys(answer.body.revisions)).toEqual(["a", "c", "u", "d", "p"]);
    expect(answer.headers.get("Durability")).toBe("cached");
    expect(await values(bucket)).toEqual({ a: { n: 1 }, c: "text", u: 2, guard: 1 });
    for (const key of ["a", "c", "u"]) {
      const { revision } = (await call("GET", `${bucket}/keys/${key}`)).body as {
        revision: number;
      };
      expect(revision).toBe(answer.body.revisions[key]);
    }
  });

  test("of which one condition does not hold changes nothing and names the operation", async () => {
    const bucket = await newBucket();
    const revision = (await put(bucket, "u", 1)).body.revision;
    const before = await values(bucket);
    const bad: [object, string, string][] = [
      [{ op: "create", key: "u", value: 2 }, "key_exists", "create"],
      [{ op: "update", key: "u", value: 2, revision: revision + 5 }, "revision_mismatch", "update"],
      [{ op: "check", key: "u", revision: 0 }, "revision_mismatch", "check"],
      [{ op: "check", key: "none", revision: 3 }, "revision_mismatch", "check"],
      [{ op: "delete", key: "u", revision: revision + 5 }, "revision_mismatch", "delete"],
    ];
    for (const [operation, code, op] of bad) {
      const answer = await transact(bucket, [{ op: "put", key: "x", value: 1 }, operation]);
      expect(answer).toMatchObject({ status: 412, body: { code, details: { index: 1, op } } });
    }
    const answer = await transact(bucket, [{ op: "create", key: "u", value: 2 }]);
    expect(answer.body.details).toEqual({
      current_revision: revision,
      index: 0,
      op: "create",
      key: "u",
    });
    expect(await values(bucket)).toEqual(before);
  });

  test("creates a key that was deleted before", async () => {
    const bucket = await newBucket({ history: 3 });
    await put(bucket, "gone", 1);
    await call("DELETE", `${bucket}/keys/gone`);
    expect(
      (
        await transact(bucket, [
          { op: "create", key: "gone", value: 2 },
          { op: "check", key: "gone2", revision: 0 },
        ])
      ).status,
    ).toBe(200);
    expect(await values(bucket)).toEqual({ gone: 2 });
  });

  test("may have more checks than writes, and none of their traces is left", async () => {
    const bucket = await newBucket();
    const revision = (await put(bucket, "w", 1)).body.revision;
    const a = (await put(bucket, "a", 1)).body.revision;
    const answer = await transact(bucket, [
      { op: "update", key: "w", value: 2, revision },
      { op: "check", key: "a", revision: a },
      { op: "check", key: "b", revision: 0 },
      { op: "check", key: "c", revision: 0 },
    ]);
    expect(answer.status).toBe(200);
    expect(await values(bucket)).toEqual({ a: 1, w: 2 });
    await expect
      .poll(async () => (await call("GET", bucket)).body.values as number, { timeout: 5_000 })
      .toBe(2);
  });

  test("takes 1000 operations and not one more", async () => {
    const bucket = await newBucket();
    const operations = Array.from({ length: 1000 }, (_, i) => ({
      op: "create",
      key: `k${i}`,
      value: i,
    }));
    expect((await transact(bucket, operations)).status).toBe(200);
    expect(((await call("GET", bucket)).body as { keys: number }).keys).toBe(1000);
    expect(
      (await transact(bucket, [...operations, { op: "put", key: "more", value: 1 }])).body.code,
    ).toBe("invalid_request");
    expect((await transact(bucket, operations)).body).toMatchObject({
      code: "key_exists",
      details: { index: 0, key: "k0" },
    });
  });

  test.each([
    [[], "invalid_request"],
    [
      [
        { op: "put", key: "k", value: 1 },
        { op: "delete", key: "k" },
      ],
      "invalid_request",
    ],
    [[{ op: "put", key: "", value: 1 }], "invalid_key"],
    [[{ op: "put", key: "k" }], "invalid_request"],
    [[{ op: "put", key: "k", value: 1, ttl: "soon" }], "invalid_ttl"],
    [[{ op: "update", key: "k", value: 1 }], "invalid_request"],
    [[{ op: "steal", key: "k" }], "invalid_request"],
    [[{ op: "put", key: "k", value: "%%", encoding: "base64" }], "invalid_request"],
  ])("%j is refused with %s", async (operations, code) => {
    const bucket = await newBucket();
    expect((await transact(bucket, operations)).body.code).toBe(code);
    expect(await values(bucket)).toEqual({});
  });

  test("gives its keys a time to live that takes them whole", async () => {
    const bucket = await newBucket({ history: 5 });
    await put(bucket, "k", "old");
    expect(
      (
        await transact(bucket, [
          { op: "put", key: "k", value: 1, ttl: 1 },
          { op: "put", key: "stays", value: 1 },
        ])
      ).status,
    ).toBe(200);
    await expect.poll(() => values(bucket), { timeout: 5_000 }).toEqual({ stays: 1 });
  });

  test("of two gateways that move money back and forth never loses any", async () => {
    const bucket = await newBucket();
    await put(bucket, "a", 500);
    await put(bucket, "b", 500);
    const name = bucket.split("/").at(-1)!;
    const move = async (gateway: TestGateway, amount: number): Promise<void> => {
      const own = `${gateway.api}/buckets/${name}`;
      for (let done = false; !done;) {
        const [a, b] = await Promise.all([
          call("GET", `${own}/keys/a`),
          call("GET", `${own}/keys/b`),
        ]);
        const answer = await transact(own, [
          { op: "update", key: "a", value: a.body.value - amount, revision: a.body.revision },
          { op: "update", key: "b", value: b.body.value + amount, revision: b.body.revision },
        ]);
        expect([200, 412]).toContain(answer.status);
        done = answer.status === 200;
      }
    };
    await Promise.all(
      gateways.map(async (gateway, i) => {
        for (let round = 0; round < 30; round++) await move(gateway, i === 0 ? 7 : -5);
      }),
    );
    expect(await values(bucket)).toEqual({ a: 500 - 30 * 2, b: 500 + 30 * 2 });
  });
});

describe("a batch", () => {
  test("answers for each item in its place, errors too", async () => {
    const bucket = await newBucket({ max_value_size: 20 });
    await put(bucket, "here", 1);
    await put(bucket, "there", 1);
    const { status, body } = await callJson("POST", `${bucket}/batch`, {
      get: ["here", "missing", ""],
      set: [
        { key: "s1", value: { a: 1 } },
        { key: "s2", value: "x".repeat(100) },
        {
          key: "s3",
          value: "aGk=",
          encoding: "base64",
          ttl: "1h",
          value_type: "T",
          description: "d",
        },
        { key: "s4", value: 1, ttl: "never" },
      ],
      delete: ["there", "s9"],
    });
    expect(status).toBe(200);
    expect(body.get).toMatchObject([
      { key: "here", value: 1 },
      { key: "missing", error: { code: "key_not_found" } },
      { key: "", error: { code: "invalid_key" } },
    ]);
    expect(body.set).toMatchObject([
      { key: "s1", revision: expect.any(Number) },
      { key: "s2", error: { code: "value_too_large" } },
      { key: "s3", revision: expect.any(Number), expires_at: expect.any(String) },
      { key: "s4", error: { code: "invalid_ttl" } },
    ]);
    expect(body.delete).toEqual([
      { key: "there", existed: true },
      { key: "s9", existed: false },
    ]);
    expect((await call("GET", `${bucket}/keys/s3`)).body).toMatchObject({
      value_type: "T",
      description: "d",
    });
    expect(await values(bucket)).toEqual({ here: 1, s1: { a: 1 }, s3: "hi" });
  });

  test("takes 1000 items and not one more", async () => {
    const bucket = await newBucket();
    const keys = Array.from({ length: 1000 }, (_, i) => `k${i}`);
    const set = await callJson("POST", `${bucket}/batch`, {
      set: keys.map((key) => ({ key, value: key })),
    });
    expect((set.body.set as object[]).every((item) => "revision" in item)).toBe(true);
    const got = await callJson("POST", `${bucket}/batch`, { get: keys });
    expect((got.body.get as { value: string }[]).map(({ value }) => value)).toEqual(keys);
    expect((await callJson("POST", `${bucket}/batch`, { get: [...keys, "more"] })).body.code).toBe(
      "invalid_request",
    );
    expect((await callJson("POST", `${bucket}/batch`, {})).body.code).toBe("invalid_request");
  });
});
