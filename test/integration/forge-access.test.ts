/** Who may do what through the Forge dialect, and how it tells those who may not. */
import { kvs, type ForgeKvsAPIError } from "@forge/kvs";
import pino from "pino";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { errorResponse } from "../../src/http/errors.ts";
import type { CreatedApiKey } from "../../src/protocol/access.ts";
import { KvError } from "../../src/protocol/errors.ts";
import type { Scope } from "../../src/protocol/scopes.ts";
import { installForge } from "../../src/sdk/forge.ts";
import { callJson, startGateway, type TestGateway } from "../support/gateway.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";

let gateway: TestGateway;
let bucket = "";
let count = 0;

beforeAll(async () => {
  const flags = ["--root-key", ROOT, "--master-key", "01".repeat(32)];
  gateway = await startGateway(undefined, flags);
});
afterAll(() => gateway.close());
beforeEach(() => {
  bucket = `app${count++}`;
});

const use = (apiKey: string): void =>
  onTestFinished(installForge({ serverUrl: gateway.url, bucket, apiKey }));

/** Lets the package go on with a key that may do this. */
async function become(...scopes: Scope[]): Promise<string> {
  const answer = await callJson(
    "POST",
    `${gateway.url}/api/v1/api-keys`,
    { name: "test", scopes },
    { Authorization: `Bearer ${ROOT}` },
  );
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  const { key } = answer.body as CreatedApiKey;
  use(key);
  return key;
}

const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "ok",
    (error: unknown) => (error as ForgeKvsAPIError).code,
  );
const everything: Scope = { verbs: ["read", "write", "delete"] };

test("each operation wants its verb on its key", async () => {
  await become(everything);
  await kvs.batchSet(["mine.a", "mine.b", "other"].map((key) => ({ key, value: 1 })));
  await become(
    { verbs: ["read"], bucket, keys: ["mine.>"] },
    { verbs: ["write"], bucket, keys: ["mine.a"] },
  );
  const may: [() => Promise<unknown>, string][] = [
    [() => kvs.get("mine.a"), "ok"],
    [() => kvs.get("other"), "FORBIDDEN"],
    [() => kvs.get("missing"), "FORBIDDEN"],
    [() => kvs.set("mine.a", 2), "ok"],
    [() => kvs.set("mine.b", 2), "FORBIDDEN"],
    [() => kvs.delete("mine.a"), "FORBIDDEN"],
    [() => kvs.transact().set("mine.a", 3).execute(), "ok"],
    [() => kvs.transact().set("mine.a", 3).delete("mine.b").execute(), "FORBIDDEN"],
    [() => kvs.getSecret("mine.a"), "FORBIDDEN"],
    [() => kvs.setSecret("mine.a", 1), "FORBIDDEN"],
    [() => kvs.deleteSecret("mine.a"), "FORBIDDEN"],
  ];
  for (const [work, expected] of may) expect(await codeOf(work())).toBe(expected);
  const batch = await kvs.batchGet([{ key: "mine.b" }, { key: "other" }]);
  expect(batch).toMatchObject({
    successfulKeys: [{ key: "mine.b", value: 1 }],
    failedKeys: [{ key: "other", error: { code: "FORBIDDEN" } }],
  });
  expect((await kvs.query().getMany()).results.map(({ key }) => key)).toEqual(["mine.a", "mine.b"]);
  await become({ verbs: ["read"], bucket: "another" });
  expect(await codeOf(kvs.query().getMany())).toBe("FORBIDDEN");
});

test("what shows a value wants the right to read it", async () => {
  const key = await become({ verbs: ["write"] });
  const previous = { keyPolicy: "OVERRIDE", returnValue: "PREVIOUS" } as const;
  expect(await codeOf(kvs.set("w", 1))).toBe("ok");
  expect(await codeOf(kvs.set("w", 2, previous))).toBe("FORBIDDEN");
  const conditions = { and: [{ property: "a", condition: "EXISTS", values: [true] }] };
  const answer = await callJson(
    "POST",
    `${gateway.url}/compat/forge/${bucket}/v1/transaction`,
    { set: [{ key: "w", value: 1, conditions }] },
    { Authorization: `Bearer ${key}` },
  );
  expect(answer).toMatchObject({ status: 403, body: { code: "FORBIDDEN" } });
});

test("a query finds what is within reach among a thousand keys that are not, page by page", async () => {
  await become(everything);
  for (let i = 0; i < 1050; i += 25) {
    const names = Array.from({ length: 25 }, (_, j) => `far.${String(i + j).padStart(4, "0")}`);
    await kvs.batchSet(names.map((key) => ({ key, value: 1 })));
  }
  await kvs.batchSet(["far.0500.near", "zz.1", "zz.2"].map((key) => ({ key, value: key })));
  await become({ verbs: ["read"], bucket, keys: ["far.*.near", "zz.>"] });
  const seen: string[] = [];
  for (let cursor: string | undefined; ;) {
    const query = kvs.query().limit(1);
    const page = await (cursor === undefined ? query : query.cursor(cursor)).getMany();
    seen.push(...page.results.map(({ key }) => key));
    cursor = page.nextCursor;
    if (cursor === undefined) break;
  }
  expect(seen).toEqual(["far.0500.near", "zz.1", "zz.2"]);
});

test("secrets are managed and revealed by those who may in the bucket's environment", async () => {
  await become({ verbs: ["secrets"], environment: `forge_${bucket}` });
  expect(await codeOf(kvs.setSecret("s", "hidden"))).toBe("ok");
  expect(await codeOf(kvs.getSecret("s"))).toBe("FORBIDDEN");
  const previous = { keyPolicy: "OVERRIDE", returnValue: "PREVIOUS" } as const;
  expect(await codeOf(kvs.setSecret("s", "other", previous))).toBe("FORBIDDEN");
  await become({ verbs: ["secrets:reveal"], environment: `forge_${bucket}`, keys: ["s"] });
  expect(await kvs.getSecret("s")).toBe("hidden");
  expect(await codeOf(kvs.getSecret("t"))).toBe("FORBIDDEN");
  expect(await codeOf(kvs.deleteSecret("s"))).toBe("FORBIDDEN");
  await become({ verbs: ["secrets", "secrets:reveal"], environment: "forge_other" });
  expect(await codeOf(kvs.getSecret("s"))).toBe("FORBIDDEN");
});

test("whoever is not known is told so in Forge's form", async () => {
  use("unknown");
  const error = await kvs.get("a").catch((thrown: unknown) => thrown as ForgeKvsAPIError);
  expect(error).toMatchObject({
    code: "UNAUTHENTICATED",
    responseDetails: { status: 401, traceId: expect.any(String) },
  });
});

test("whoever asks too often is told so in Forge's form", async () => {
  const url = `${gateway.url}/compat/forge/${bucket}/api/v1/get`;
  const error = new KvError("rate_limited", "too many requests", { retryAfter: 3 });
  const response = errorResponse(error, pino({ level: "silent" }), "id", url);
  expect([response.status, response.headers.get("retry-after")]).toEqual([429, "3"]);
  expect(await response.json()).toEqual({
    code: "RATE_LIMIT_EXCEEDED",
    message: "too many requests",
  });
  const own = errorResponse(error, pino({ level: "silent" }), "id", `${gateway.api}/buckets`);
  expect(await own.json()).toMatchObject({ code: "rate_limited", retryable: true });
});
