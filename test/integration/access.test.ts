import { createHmac, generateKeyPairSync } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { SignJWT } from "jose";
import { beforeAll, afterAll, describe, expect, test } from "vitest";
import type { ApiKeyList, CreatedApiKey } from "../../src/protocol/access.ts";
import type { Scope } from "../../src/protocol/scopes.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { openEvents } from "../support/events-client.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";
import { openWatch, refusedWatch, watchUrl } from "../support/watch-client.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";
const MASTER = "5".repeat(64);
const flags = ["--root-key", ROOT, "--master-key", MASTER];
const everything: Scope = {
  verbs: ["read", "write", "watch", "delete", "admin", "config", "secrets", "audit"],
};

let nats: TestNats;
let a: TestGateway;
let b: TestGateway;

beforeAll(async () => {
  nats = await startTestNats();
  [a, b] = await Promise.all([startGateway(nats, flags), startGateway(nats, flags)]);
  await as(ROOT, "POST", `${a.api}/buckets`, { name: "carts" });
});

afterAll(async () => {
  await Promise.all([a.close(), b.close()]);
});

function bearer(credential: string): Record<string, string> {
  return { Authorization: `Bearer ${credential}` };
}

function as(credential: string, method: string, url: string, body?: unknown): Promise<Answer> {
  return body === undefined
    ? call(method, url, undefined, bearer(credential))
    : callJson(method, url, body, bearer(credential));
}

async function makeKey(more: Record<string, unknown> = {}): Promise<CreatedApiKey> {
  const request = { name: "test", scopes: [everything], ...more };
  const { status, body } = await as(ROOT, "POST", `${a.url}/api/v1/api-keys`, request);
  expect(status, JSON.stringify(body)).toBe(201);
  return body as CreatedApiKey;
}

async function makeToken(key: string, request: object = {}): Promise<string> {
  const { status, body } = await as(key, "POST", `${a.url}/api/v1/tokens`, request);
  expect(status, JSON.stringify(body)).toBe(201);
  return (body as { token: string }).token;
}

async function makeTicket(key: string): Promise<string> {
  const { status, body } = await as(key, "POST", `${a.url}/api/v1/tickets`);
  expect(status, JSON.stringify(body)).toBe(201);
  return (body as { ticket: string }).ticket;
}

const buckets = (gateway: TestGateway): string => `${gateway.api}/buckets`;

describe("without good credentials", () => {
  test("nobody comes in, and is told how to", async () => {
    for (const path of ["/api/v1/kv/buckets", "/api/v1/api-keys", "/api/v1/nothing", "/metrics"]) {
      const { status, body, headers } = await call("GET", a.url + path);
      expect([path, status, body.code]).toEqual([path, 401, "unauthenticated"]);
      expect(headers.get("www-authenticate")).toBe("Bearer");
    }
    const refusal = await refusedWatch(watchUrl(a.api, "carts"));
    expect(refusal).toMatchObject({ status: 401, headers: { "www-authenticate": "Bearer" } });
  });

  test("what is no secret answers all the same", async () => {
    for (const path of ["/", "/health", "/ready", "/api/v1/capabilities"]) {
      expect((await call("GET", a.url + path)).status).toBe(200);
    }
  });

  test("a key that was cut off is told from one that is wrong", async () => {
    const { key, id } = await makeKey();
    const cut = await as(key.slice(0, -1), "GET", buckets(a));
    expect([cut.status, cut.body.error]).toEqual([401, expect.stringContaining("cut off")]);
    const typo = await as(
      key.replace(/.$/, (last) => (last === "A" ? "B" : "A")),
      "GET",
      buckets(a),
    );
    expect([typo.status, typo.body.error]).toEqual([401, expect.stringContaining("mistyped")]);
    await as(ROOT, "DELETE", `${a.url}/api/v1/api-keys/${id}`);
    const wrong = await as(key, "GET", buckets(a));
    expect([wrong.status, wrong.body.error]).toEqual([401, expect.stringContaining(id)]);
  });

  test.each([
    ["another scheme", { Authorization: `Basic ${ROOT}` }],
    ["no scheme", { Authorization: ROOT }],
    ["an almost right root key", bearer(`${ROOT}x`)],
    ["something else", bearer("a.b.c")],
    ["nothing", { Authorization: "" }],
  ])("%s is refused", async (_, headers) => {
    const { status, body } = await call("GET", buckets(a), undefined, headers);
    expect([status, body.code]).toEqual([401, "unauthenticated"]);
  });

  test("a key in an address is refused, and said to be lost", async () => {
    const { key } = await makeKey();
    for (const text of [key, ROOT]) {
      const refusal = await refusedWatch(`${watchUrl(a.api, "carts")}?ticket=${text}`);
      expect(refusal.status).toBe(401);
      expect(refusal.body.error).toContain("revoke it");
    }
  });
});

describe("API keys", () => {
  test("work on every gateway at once, and are shown once", async () => {
    const created = await makeKey({ name: "ci", environment: "staging", expires_in: "30d" });
    expect(created.key).toMatch(/^jbk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$/);
    expect((await as(created.key, "GET", buckets(b))).status).toBe(200);
    const { key, ...info } = created;
    const one = await as(ROOT, "GET", `${b.url}/api/v1/api-keys/${info.id}`);
    expect(one.body).toEqual({
      ...info,
      ...(one.body.last_used_at && { last_used_at: expect.any(String) }),
    });
    const list = await as(ROOT, "GET", `${b.url}/api/v1/api-keys`);
    expect((list.body as ApiKeyList).keys.map(({ id }) => id)).toContain(info.id);
    expect(JSON.stringify(list.body)).not.toMatch(/hash|jbk_/);
    expect(JSON.stringify(list.body)).not.toContain(key.slice(-20));
  });

  test("hand on no more than their maker has, and are for administrators", async () => {
    const admin = await makeKey({ scopes: [{ verbs: ["admin", "read"] }] });
    const tooMuch = { name: "x", scopes: [{ verbs: ["write"] }] };
    const { status, body } = await as(admin.key, "POST", `${a.url}/api/v1/api-keys`, tooMuch);
    expect([status, body.code]).toEqual([403, "forbidden"]);
    const reader = await makeKey({ scopes: [{ verbs: ["read"] }] });
    for (const [method, path] of [
      ["GET", ""],
      ["GET", `/${admin.id}`],
      ["DELETE", `/${admin.id}`],
    ] as const) {
      const refused = await as(reader.key, method, `${a.url}/api/v1/api-keys${path}`);
      expect(refused.status).toBe(403);
    }
    const own = { name: "x", scopes: [{ verbs: ["read"] }] };
    expect((await as(reader.key, "POST", `${a.url}/api/v1/api-keys`, own)).status).toBe(403);
  });

  test("do not outlive what they were made with", async () => {
    const admin = await makeKey({ expires_in: "1h" });
    const scopes = [{ verbs: ["read"] }];
    const url = `${a.url}/api/v1/api-keys`;
    expect((await as(admin.key, "POST", url, { name: "x", scopes })).status).toBe(403);
    const longer = { name: "x", scopes, expires_in: "2h" };
    expect((await as(admin.key, "POST", url, longer)).status).toBe(403);
    const shorter = { name: "x", scopes, expires_in: "30m" };
    expect((await as(admin.key, "POST", url, shorter)).status).toBe(201);
  });

  test.each([
    [{ name: "" }, "name"],
    [{ scopes: [] }, "scopes"],
    [{ scopes: [{ verbs: ["fly"] }] }, "verbs"],
    [{ colour: "red" }, "colour"],
    [{ expires_at: "2001-01-01T00:00:00Z" }, "past"],
    [{ expires_at: "2101-01-01T00:00:00Z", expires_in: "1h" }, "exclude"],
    [{ expires_in: "soon" }, "soon"],
  ])("are not made of %j", async (change, said) => {
    const request = { name: "x", scopes: [everything], ...change };
    const { status, body } = await as(ROOT, "POST", `${a.url}/api/v1/api-keys`, request);
    expect([status, body.error]).toEqual([400, expect.stringContaining(said)]);
  });

  test("end when they expire, with their sockets", async () => {
    const { key } = await makeKey({ expires_at: new Date(Date.now() + 1_200).toISOString() });
    const watch = await openWatch(watchUrl(a.api, "carts"), { headers: bearer(key) });
    await eventually(() => watch.closed).toMatchObject({ code: 4401 });
    const { status, body } = await as(key, "GET", buckets(a));
    expect([status, body.error]).toEqual([401, expect.stringContaining("expired")]);
  });

  test("a revocation ends requests and sockets of another gateway within a second", async () => {
    const { key, id } = await makeKey();
    const token = await makeToken(key);
    const headers = bearer(key);
    const one = await openWatch(watchUrl(b.api, "carts"), { headers });
    const ofToken = await openWatch(watchUrl(b.api, "carts"), { headers: bearer(token) });
    const many = await openWatch(`${b.api.replace("http", "ws")}/watch`, { headers });
    const events = await openEvents(`${buckets(b)}/carts/watch`, headers);
    const other = await openWatch(watchUrl(b.api, "carts"), { headers: bearer(ROOT) });
    expect((await as(key, "GET", buckets(b))).status).toBe(200);

    const revoked = performance.now();
    expect((await as(ROOT, "DELETE", `${a.url}/api/v1/api-keys/${id}`)).status).toBe(204);
    for (const client of [one, ofToken, many]) {
      await eventually(() => client.closed).toMatchObject({ code: 4403 });
    }
    await eventually(() => events.isEnded).toBe(true);
    expect(performance.now() - revoked).toBeLessThan(1_000);
    expect(events.frames.at(-1)).toMatchObject({ type: "error", code: "forbidden" });
    for (const credential of [key, token]) {
      expect((await as(credential, "GET", buckets(b))).status).toBe(401);
    }
    expect(other.closed).toBeUndefined();
    expect((await as(ROOT, "DELETE", `${a.url}/api/v1/api-keys/${id}`)).status).toBe(404);
  });

  test("what was used last is known a little later, without a write per request", async () => {
    const { key, id } = await makeKey();
    const gateway = await startGateway(nats, flags);
    for (let i = 0; i < 20; i++) await as(key, "GET", buckets(gateway));
    const before = Date.now();
    await gateway.close();
    const { body } = await as(ROOT, "GET", `${a.url}/api/v1/api-keys/${id}`);
    expect(Math.abs(Date.parse(body.last_used_at) - before)).toBeLessThan(5_000);
    const foreign = await connectForeign(nats.url);
    const info = await foreign.jsm.streams.info("KV_SYS_auth", {
      subjects_filter: `$KV.SYS_auth.used.${id}`,
    });
    expect(info.state.subjects).toEqual({ [`$KV.SYS_auth.used.${id}`]: 1 });
  });
});

describe("tokens", () => {
  test("may do what their scopes say, on every gateway, and no more than their maker", async () => {
    const { key } = await makeKey({ scopes: [{ verbs: ["read", "watch"], bucket: "carts" }] });
    const scopes = [{ verbs: ["read"], bucket: "carts", keys: ["user.42.>"] }];
    const token = await makeToken(key, { scopes, ttl: "5m", subject: "user-42" });
    expect((await as(token, "GET", `${buckets(b)}/carts/keys/user.42.x`)).status).toBe(404);
    const wider = { scopes: [{ verbs: ["write"], bucket: "carts" }] };
    expect((await as(key, "POST", `${a.url}/api/v1/tokens`, wider)).body.code).toBe("forbidden");
    const again = await makeToken(token, { ttl: "24h" });
    const claims = JSON.parse(Buffer.from(again.split(".")[1]!, "base64url").toString());
    expect(claims).toMatchObject({ sub: "user-42", scopes });
    expect(claims.exp - Date.now() / 1000).toBeLessThan(301);
    const other = await as(token, "POST", `${a.url}/api/v1/tokens`, { subject: "user-43" });
    expect(other.status).toBe(403);
    const tooLong = await as(key, "POST", `${a.url}/api/v1/tokens`, { ttl: "25h" });
    expect([tooLong.status, tooLong.body.code]).toEqual([400, "invalid_ttl"]);
  });

  test("come in by a subprotocol, too, which is not told back", async () => {
    const token = await makeToken(ROOT);
    const watch = await openWatch(watchUrl(a.api, "carts"), { subprotocols: [`bearer.${token}`] });
    expect(watch.socket.protocol).toBe("jetbucket.v1");
  });

  test("end their sockets when they expire", async () => {
    const token = await makeToken(ROOT, { ttl: 1 });
    const watch = await openWatch(watchUrl(a.api, "carts"), { headers: bearer(token) });
    await eventually(() => watch.closed).toMatchObject({ code: 4401 });
    expect((await as(token, "GET", buckets(a))).body.error).toContain("expired");
  });

  test("that are forged are refused, each with its reason", async () => {
    const { privateKey } = generateKeyPairSync("ed25519");
    const good = await makeToken(ROOT);
    const [head, payload, signature] = good.split(".") as [string, string, string];
    const decoded = JSON.parse(Buffer.from(head, "base64url").toString()) as { kid: string };
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as object;
    const encode = (value: unknown): string =>
      Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = (kid: string, more: object = {}): Promise<string> =>
      new SignJWT({ ...claims, ...more })
        .setProtectedHeader({ alg: "EdDSA", kid })
        .sign(privateKey);
    const hmac = `${encode({ alg: "HS256", kid: decoded.kid })}.${payload}`;
    const hs256 = `${hmac}.${createHmac("sha256", decoded.kid).update(hmac).digest("base64url")}`;
    const cases: [string, string][] = [
      [`${encode({ alg: "none" })}.${payload}.`, "algorithm"],
      [`${encode({ alg: "none", kid: decoded.kid })}.${payload}.${signature}`, "algorithm"],
      [hs256, "algorithm"],
      [await signed("0123456789abcdef"), "not known here"],
      [await signed(decoded.kid), "signature"],
      [
        `${head}.${encode({ ...claims, scopes: [everything], key: "x" })}.${signature}`,
        "signature",
      ],
      [good.slice(0, -4), "signature"],
      [`${head}.${payload}.`, ""],
      [await makeTicket(ROOT), "audience"],
    ];
    for (const [token, reason] of cases) {
      const { status, body } = await as(token, "GET", buckets(a));
      expect([status, body.code, token]).toEqual([401, "unauthenticated", token]);
      expect(body.error).toContain(reason);
    }
    expect((await as(good, "GET", buckets(a))).status).toBe(200);
  });
});

describe("tickets", () => {
  test("open one socket or stream, on whatever gateway, and never another", async () => {
    const { key } = await makeKey();
    const ticket = await makeTicket(key);
    const url = (gateway: TestGateway): string =>
      `${watchUrl(gateway.api, "carts")}?ticket=${ticket}`;
    const watch = await openWatch(url(b));
    await eventually(() => watch.ready.length).toBe(1);
    for (const gateway of [a, b]) {
      const refusal = await refusedWatch(url(gateway));
      expect([refusal.status, refusal.body.error]).toEqual([401, expect.stringContaining("used")]);
    }
    const events = await openEvents(`${buckets(a)}/carts/watch?ticket=${await makeTicket(key)}`);
    await eventually(() => events.types).toContain("kv_ready");
  });

  test("of ten attempts at once, on two gateways, one is let in", async () => {
    const ticket = await makeTicket(ROOT);
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, (_, i) =>
        openWatch(`${watchUrl((i % 2 === 0 ? a : b).api, "carts")}?ticket=${ticket}`),
      ),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  test("are good for watching only, and die with the key that made them", async () => {
    const { key, id } = await makeKey();
    const ticket = await makeTicket(key);
    for (const headers of [{}, { Accept: "text/event-stream" }] as Record<string, string>[]) {
      const url = `${buckets(a)}/carts/keys/k?ticket=${ticket}`;
      expect((await call("GET", url, undefined, headers)).status).toBe(401);
    }
    // What ends like the address of a watch is not one yet.
    const sse = { Accept: "text/event-stream" };
    for (const [method, path] of [
      ["GET", "/kv/buckets/carts/keys/x/watch"],
      ["PUT", "/kv/buckets/carts/keys/x/watch"],
      ["DELETE", "/kv/buckets/watch"],
      ["POST", "/config/watch"],
      ["GET", "/secrets/watch"],
    ] as const) {
      const url = `${a.url}/api/v1${path}?ticket=${ticket}`;
      const body = method === "GET" ? undefined : "{}";
      expect((await call(method, url, body, sse)).status, path).toBe(401);
    }
    expect((await as(ticket, "GET", buckets(a))).status).toBe(401);
    await as(ROOT, "DELETE", `${a.url}/api/v1/api-keys/${id}`);
    const refusal = await refusedWatch(`${watchUrl(a.api, "carts")}?ticket=${ticket}`);
    expect([refusal.status, refusal.body.error]).toEqual([401, expect.stringContaining("revoked")]);
  });
});

test("a key is revoked by its text as well, and a damaged one is not repeated", async () => {
  const { key } = await makeKey();
  const keys = `${a.url}/api/v1/api-keys`;
  const damaged = await as(ROOT, "DELETE", `${keys}/${key.slice(0, -1)}`);
  expect(damaged.status).toBe(404);
  expect(JSON.stringify(damaged.body)).not.toContain(key.slice(0, 20));
  expect((await as(ROOT, "DELETE", `${keys}/${key}`)).status).toBe(204);
  expect((await as(key, "GET", buckets(b))).status).toBe(401);
});

test("nothing of keys lies in the data folder of NATS", async () => {
  const { key } = await makeKey();
  const token = await makeToken(key);
  await as(token, "GET", buckets(a));
  const files = await readdir(nats.dataDir, { recursive: true, withFileTypes: true });
  const contents = await Promise.all(
    files
      .filter((file) => file.isFile())
      .map((file) => readFile(join(file.parentPath, file.name), "latin1")),
  );
  const all = contents.join("\n");
  expect(all).toContain('"hash"');
  expect(all).toContain('"signing"');
  expect(all).not.toContain('"plain"');
  // PKCS #8 of Ed25519 begins so, in base64.
  for (const hidden of [key, key.slice(-49), token, ROOT, "MC4CAQAwBQYDK2VwBCIE"]) {
    expect(all).not.toContain(hidden);
  }
});
