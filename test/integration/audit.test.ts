import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Audit } from "../../src/audit/audit.ts";
import type { AuditPage, AuditRecord } from "../../src/protocol/audit.ts";
import type { CreatedApiKey } from "../../src/protocol/access.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { RecordLog } from "../../src/store/record-log.ts";
import { eventually } from "../support/eventually.ts";
import { openEvents } from "../support/events-client.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";
import { sendRaw } from "../support/raw-http.ts";
import { openMultiplex, openWatch, refusedWatch, watchUrl } from "../support/watch-client.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";
const MASTER = "7".repeat(64);
const flags = ["--root-key", ROOT, "--master-key", MASTER];
const PLAIN = "nobody-may-ever-read-this-value";

let nats: TestNats;
let gateway: TestGateway;
let base: string;

beforeAll(async () => {
  nats = await startTestNats();
  gateway = await startGateway(nats, flags);
  base = `${gateway.url}/api/v1`;
  await as(ROOT, "POST", "/kv/buckets", { name: "carts" });
});
afterAll(() => gateway.close());

const bearer = (credential: string) => ({ Authorization: `Bearer ${credential}` });

function as(
  credential: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const all = { ...bearer(credential), ...headers };
  return body === undefined
    ? call(method, base + path, undefined, all)
    : callJson(method, base + path, body, all);
}

async function makeKey(scopes: object[]): Promise<CreatedApiKey> {
  return (await as(ROOT, "POST", "/api-keys", { name: "k", scopes })).body as CreatedApiKey;
}

async function read(query = "", credential = ROOT): Promise<AuditRecord[]> {
  const { body, status } = await as(credential, "GET", `/audit${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return (body as AuditPage).entries;
}

/** What was recorded of somebody, oldest first, once there is so much of it. */
async function recordsOf(principal: string, count: number): Promise<AuditRecord[]> {
  const query = `?principal=${principal}&limit=1000`;
  await eventually(async () => (await read(query)).length).toBe(count);
  return (await read(query)).reverse();
}

const place = ({ action, bucket, key, name, environment, outcome, status, code }: AuditRecord) =>
  [action, bucket ?? environment, key ?? name, outcome, status, code].filter(
    (part) => part !== undefined,
  );

describe("the audit", () => {
  test("says who did what to what, with which outcome", async () => {
    const { id, key } = await makeKey([
      { verbs: ["read", "write", "watch", "delete"], bucket: "carts" },
      { verbs: ["config", "secrets", "secrets:reveal"] },
    ]);
    await as(key, "PUT", "/kv/buckets/carts/keys/user.1", PLAIN, { "X-Request-Id": "mine-1" });
    await as(key, "PUT", "/kv/buckets/carts/entry?key=user.a%2Fb", PLAIN);
    await as(key, "GET", "/kv/buckets/carts/keys/user.1");
    await as(key, "GET", "/api-keys");
    await as(key, "DELETE", `/api-keys/${id}`);
    await as(key, "DELETE", "/kv/buckets/carts/keys/user.1", undefined, { "If-Match": "999" });
    const operations = [{ op: "put", key: "user.2", value: PLAIN }];
    await as(key, "POST", "/kv/buckets/carts/transactions", { operations });
    await as(key, "POST", "/config/app", { text: PLAIN });
    await as(key, "POST", "/secrets", { name: "db", value: PLAIN });
    await as(key, "GET", "/secrets/db/value", undefined, { "X-Ironflow-Environment": "default" });
    const told = await recordsOf(id, 9);
    expect(told.map(place)).toEqual([
      ["key.put", "carts", "user.1", "ok", 200],
      ["key.put", "carts", "user.a/b", "ok", 200],
      ["access.list", "refused", 403, "forbidden"],
      ["access.revoke", id, "refused", 403, "forbidden"],
      ["key.delete", "carts", "user.1", "failed", 412, "revision_mismatch"],
      ["key.transaction", "carts", "ok", 200],
      ["config.set", "default", "app", "ok", 200],
      ["secret.create", "default", "db", "ok", 201],
      ["secret.reveal", "default", "db", "ok", 200],
    ]);
    expect(told[0]).toEqual({
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      principal: { kind: "key", id },
      action: "key.put",
      bucket: "carts",
      key: "user.1",
      outcome: "ok",
      status: 200,
      address: expect.stringMatching(/^(?:127\.0\.0\.1|::1)$/),
    });
    expect(told[5]).toMatchObject({ keys: ["user.2"], count: 1 });
    expect(await read(`?action=access.create`)).toMatchObject([
      { name: id, principal: { id: "root" } },
    ]);
  });

  test("has every watch that was opened or refused, on whatever socket", async () => {
    const { id, key } = await makeKey([{ verbs: ["read", "watch"] }]);
    const headers = bearer(key);
    await openWatch(watchUrl(gateway.api, "carts"), { headers });
    await refusedWatch(watchUrl(gateway.api, "other"), { headers });
    await openEvents(`${gateway.api}/buckets/carts/watch`, headers);
    const many = await openMultiplex(gateway.api, { headers });
    many.watch({ id: "1", bucket: "carts", keys: ["a.>"] });
    many.watch({ id: "2", bucket: "other" });
    await eventually(() => many.typesOf("2")).toContain("error");
    const told = await recordsOf(id, 6);
    expect(told.map(place).map((parts) => parts.join(" "))).toEqual(
      expect.arrayContaining([
        "watch.open carts ok 101",
        "watch.open other failed 404 bucket_not_found",
        "watch.open carts ok 200",
        "watch.open ok 101",
        "watch.open carts ok 101",
        "watch.open other failed 404 bucket_not_found",
      ]),
    );
    expect(told.filter(({ keys }) => keys !== undefined)).toContainEqual(
      expect.objectContaining({ bucket: "carts", keys: ["a.>"] }),
    );
  });

  test("counts strangers who are refused again and again instead of listing each time", async () => {
    const wrong = bearer("jbk_wrong");
    const since = new Date().toISOString();
    await Promise.all(
      Array.from({ length: 50 }, () => call("GET", `${base}/kv/buckets/x/keys/y`, null, wrong)),
    );
    const told = async (): Promise<number> => {
      const found = await read(`?outcome=refused&bucket=x&since=${since}`);
      return found.reduce((sum, { times = 1 }) => sum + times, 0);
    };
    await eventually(told).toBe(50);
    const found = await read(`?outcome=refused&bucket=x&since=${since}`);
    expect(found.length).toBeLessThan(25);
    expect(found[0]).toMatchObject({ principal: { kind: "nobody" }, code: "unauthenticated" });
  });

  test("comes in pages that go on where the last one ended, by any filter", async () => {
    const { id, key } = await makeKey([{ verbs: ["read", "write"], bucket: "carts" }]);
    for (let i = 0; i < 25; i++) await as(key, "PUT", `/kv/buckets/carts/keys/p${i}`, i);
    await recordsOf(id, 25);
    const seen: (string | undefined)[] = [];
    let cursor = "";
    do {
      const query = `?principal=${id}&action=key.*&limit=10${cursor}`;
      const page = (await as(ROOT, "GET", `/audit${query}`)).body as AuditPage;
      seen.push(...page.entries.map((entry) => entry.key));
      cursor = page.next_cursor === undefined ? "" : `&cursor=${page.next_cursor}`;
      // What is new does not move the pages.
      await as(key, "PUT", `/kv/buckets/carts/keys/more`, 1);
    } while (cursor !== "");
    expect(seen).toEqual(Array.from({ length: 25 }, (_, i) => `p${24 - i}`));
    const all = await recordsOf(id, 28);
    const middle = all[12]!.time;
    const until = await read(`?principal=${id}&until=${middle}&limit=1000`);
    const since = await read(`?principal=${id}&since=${middle}&limit=1000`);
    expect(until.length).toBeGreaterThanOrEqual(13);
    expect(until.every(({ time }) => time <= middle)).toBe(true);
    expect(since.every(({ time }) => time >= middle)).toBe(true);
    expect(new Set([...until, ...since].map(({ key: each }) => each)).size).toBe(26);
  });

  test.each(["?limit=0", "?limit=1001", "?cursor=x", "?since=yesterday", "?nothing=1"])(
    "is refused for %s",
    async (query) => {
      const { status, body } = await as(ROOT, "GET", `/audit${query}`);
      expect([status, body.code]).toEqual([400, "invalid_request"]);
    },
  );

  test("is for those who may read it", async () => {
    const { key } = await makeKey([{ verbs: ["read", "write", "admin"] }]);
    expect((await as(key, "GET", "/audit")).status).toBe(403);
    const { key: auditor } = await makeKey([{ verbs: ["audit"] }]);
    expect((await read("?limit=1", auditor)).length).toBe(1);
  });

  test("never has a value, a secret or a credential, nor what a header tries to bring in", async () => {
    const { id, key } = await makeKey([{ verbs: ["read", "write"], bucket: "carts" }]);
    await sendRaw(
      gateway.url,
      [
        "PUT /api/v1/kv/buckets/carts/keys/v HTTP/1.1",
        "Host: localhost",
        `Authorization: Bearer ${key}`,
        "X-Request-Id: [31m red",
        `User-Agent: agent ${PLAIN}`,
        "X-Forwarded-For: 6.6.6.6",
        "Connection: close",
        `Content-Length: ${PLAIN.length}`,
        "",
        PLAIN,
      ].join("\r\n"),
    );
    await as(key, "GET", `/nothing/${key}?ticket=${key}`);
    await call("DELETE", `${base}/nothing/${key}?ticket=${key}`, null, bearer(key));
    const misplaced = `jbk_${"A".repeat(12)}_${"B".repeat(49)}`;
    await as(key, "GET", `/api-keys/${misplaced}`);
    await call("DELETE", `${base}/api-keys/${misplaced}`, null, bearer(key));
    await call(
      "DELETE",
      `${base}/kv/buckets/${misplaced}/entry?key=${misplaced}`,
      null,
      bearer(key),
    );
    await recordsOf(id, 5);
    const { jsm } = await connectForeign(nats.url);
    const { state } = await jsm.streams.info("SYS_audit");
    let text = "";
    for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
      text += (await jsm.streams.getMessage("SYS_audit", { seq }))?.string() ?? "";
    }
    expect(text).toContain(id);
    for (const secret of [PLAIN, key, misplaced, ROOT, MASTER, "6.6.6.6", "[31m"])
      expect(text).not.toContain(secret);
  });

  test("is no bucket, and nobody can take a record out of it", async () => {
    expect((await as(ROOT, "GET", "/kv/buckets/audit")).status).toBe(404);
    const { jsm } = await connectForeign(nats.url);
    await expect(jsm.streams.deleteMessage("SYS_audit", 1)).rejects.toThrow();
    await expect(jsm.streams.purge("SYS_audit")).rejects.toThrow();
  });

  test("is complete when the gateway has been shut down", async () => {
    const other = await startGateway(nats, flags);
    const url = `${other.api}/buckets/carts/keys/last-words`;
    expect((await callJson("PUT", url, 1, bearer(ROOT))).status).toBe(200);
    await other.close();
    expect((await read("?bucket=carts&limit=1000")).map(({ key }) => key)).toContain("last-words");
  });

  test("has reads where that is asked for, and what the address of a proxy's client is", async () => {
    const other = await startGateway(nats, [...flags, "--audit-reads", "--trust-proxy", "1"]);
    const url = `${other.api}/buckets/carts/keys/read-me`;
    await call("GET", url, null, { ...bearer(ROOT), "X-Forwarded-For": "6.6.6.6, 10.1.2.3" });
    await eventually(async () =>
      (await read("?action=key.read")).find((r) => r.key === "read-me"),
    ).toMatchObject({ address: "10.1.2.3", outcome: "failed", status: 404 });
  });

  test("is kept by nobody where no credentials are asked for, unless that is wanted", async () => {
    const [open, wanted, off] = await Promise.all([
      startGateway(),
      startGateway(undefined, ["--audit-retention", "1h"]),
      startGateway(undefined, ["--audit-retention", "off", "--root-key", ROOT]),
    ]);
    for (const { api } of [open, wanted]) await callJson("POST", `${api}/buckets`, { name: "b" });
    const entries = async ({ url }: TestGateway): Promise<AuditRecord[]> =>
      ((await call("GET", `${url}/api/v1/audit`)).body as AuditPage).entries;
    await eventually(() => entries(wanted)).toMatchObject([
      { action: "bucket.create", bucket: "b", principal: { kind: "anonymous" } },
    ]);
    expect(await entries(open)).toEqual([]);
    expect((await call("GET", `${off.url}/api/v1/audit`, null, bearer(ROOT))).status).toBe(404);
    const { jsm } = await connectForeign(wanted.server.url);
    expect((await jsm.streams.info("SYS_audit")).config.max_age).toBe(3600 * 1e9);
  });

  test("counts what it has no room for while NATS does not answer, and says so afterwards", async () => {
    const own = await startTestNats();
    const connection = await StoreConnection.open({ servers: [own.url] });
    onTestFinished(() => connection.close());
    const problems: unknown[] = [];
    const log = new RecordLog(connection, "SYS_audit", { maxAge: 3_600_000, maxBytes: 1024 ** 2 });
    const audit = new Audit(log, { queue: 10, onProblem: (error) => problems.push(error) });
    const record = (key: string): void =>
      audit.record({
        time: new Date().toISOString(),
        principal: { kind: "key", id: "k" },
        action: "key.put",
        key,
        outcome: "ok",
        status: 200,
      });
    record("before");
    await eventually(async () => (await audit.read({})).entries.length).toBe(1);
    own.pause();
    const started = performance.now();
    for (let i = 0; i < 1000; i++) record(`key${i}`);
    expect(performance.now() - started).toBeLessThan(100);
    expect(audit.dropped).toBe(990);
    await eventually(() => problems.length).toBe(1);
    own.resume();
    await eventually(
      async () => (await audit.read({ action: "audit.dropped" })).entries,
    ).toMatchObject([{ action: "audit.dropped", count: 990 }]);
    const { entries } = await audit.read({ principal: "k" });
    expect(entries.map(({ key }) => key).reverse()).toEqual([
      "before",
      ...Array.from({ length: 10 }, (_, i) => `key${i}`),
    ]);
    await audit.close();
  });
});
