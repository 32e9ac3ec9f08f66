import { Writable } from "node:stream";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createServer, type GatewayServer } from "../../src/server.ts";
import { readSettings } from "../../src/settings.ts";
import { call, callJson } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";
import { Connection, sendRaw } from "../support/raw-http.ts";

let gateway: GatewayServer;
let base: string;
const logLines: string[] = [];

beforeAll(async () => {
  const nats = await startTestNats();
  const settings = readSettings(
    ["--port", "0", "--nats-url", nats.url, "--log-level", "debug"],
    {},
  );
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      logLines.push(chunk.toString());
      done();
    },
  });
  gateway = await createServer(settings, pino({ level: "debug" }, sink));
  base = `${gateway.url}/api/v1/kv`;
  await callJson("POST", `${base}/buckets`, { name: "b" });
  await callJson("PUT", `${base}/buckets/b/keys/k`, 1);
});

afterAll(() => gateway.close());

const form = (code: string): object => ({
  error: expect.stringMatching(/^.{4,}$/s) as string,
  code,
  retryable: expect.any(Boolean) as boolean,
  request_id: expect.stringMatching(/^[\w.-]{1,64}$/) as string,
});

describe("what does not exist answers 404 in the one form", () => {
  test.each([
    "/nothing",
    "/api/v1",
    "/api/v1/kv",
    "/api/v1/kv/bucket",
    "/api/v2/kv/buckets",
    "/api/v1/kv/buckets/b/nothing",
    "/api/v1/kv/buckets/b/entry/k",
    "/health/",
    "/%00",
    "/%FF",
    "/..%2F..%2Fetc%2Fpasswd",
    "/sdk/../package.json",
    "/sdk/%2e%2e/package.json",
    "/sdk/browser.js%00",
    "//example.com/api/v1/kv/buckets",
    "/API/V1/KV/BUCKETS",
  ])("%s", async (path) => {
    const answer = await new Connection(gateway.url).send("GET", path);
    expect(answer.status).toBe(404);
    expect(answer.body).toMatchObject(form("not_found"));
    expect(answer.headers["content-type"]).toBe("application/json");
    expect(answer.headers["x-request-id"]).toBe((answer.body as { request_id: string }).request_id);
  });
});

describe("a method that does not work somewhere answers 405 with those that do", () => {
  test.each([
    ["PUT", "/api/v1/kv/buckets", "GET, HEAD, POST"],
    ["POST", "/api/v1/kv/buckets/b", "GET, HEAD, PATCH, DELETE"],
    ["POST", "/api/v1/kv/buckets/b/keys/k", "GET, HEAD, PUT, PATCH, DELETE"],
    ["POST", "/api/v1/kv/buckets/b/entry", "GET, HEAD, PUT, PATCH, DELETE"],
    ["PUT", "/api/v1/kv/buckets/b/keys", "GET, HEAD"],
    ["DELETE", "/api/v1/kv/buckets/b/history/k", "GET, HEAD"],
    ["POST", "/health", "GET, HEAD"],
    ["OPTIONS", "/api/v1/kv/buckets/b/keys/k", "GET, HEAD, PUT, PATCH, DELETE"],
    ["PROPFIND", "/api/v1/kv/buckets/b/keys/k", "GET, HEAD, PUT, PATCH, DELETE"],
    ["TRACE", "/api/v1/kv/buckets/b/keys/k", "GET, HEAD, PUT, PATCH, DELETE"],
  ])("%s %s: %s", async (method, path, allow) => {
    const answer = await new Connection(gateway.url).send(method, path);
    expect(answer.status).toBe(405);
    expect(answer.body).toMatchObject({
      ...form("method_not_allowed"),
      details: { allow: allow.split(", ") },
    });
    expect(answer.headers.allow).toBe(allow);
  });
});

describe("a body", () => {
  test.each([
    ["broken", "{"],
    ["empty", ""],
    ["not UTF-8", Uint8Array.of(0x7b, 0xff, 0x7d)],
    ["followed by more", "{} 1"],
  ])("that is %s instead of JSON is 400 invalid_json", async (_what, body) => {
    for (const [method, path] of [
      ["POST", "/buckets"],
      ["PATCH", "/buckets/b"],
    ] as const) {
      const answer = await call(method, base + path, body, { "Content-Type": "application/json" });
      expect(answer.status).toBe(400);
      expect(answer.body).toMatchObject(form("invalid_json"));
    }
  });

  test.each(["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json"])(
    "of the media type %s instead of JSON is 415",
    async (type) => {
      const answer = await call("POST", `${base}/buckets`, "{}", { "Content-Type": type });
      expect(answer.status).toBe(415);
      expect(answer.body).toMatchObject(form("unsupported_media_type"));
    },
  );

  test("of JSON beyond 64 KiB is 413, and the connection lives on", async () => {
    const connection = new Connection(gateway.url);
    const headers = { "Content-Type": "application/json" };
    const large = JSON.stringify({ name: "x", description: "d".repeat(70_000) });
    const answer = await connection.send("POST", "/api/v1/kv/buckets", large, headers);
    expect(answer.status).toBe(413);
    expect(answer.body).toMatchObject(form("value_too_large"));
    const next = await connection.send("GET", "/health");
    expect(next).toMatchObject({ status: 200, connection: answer.connection });
  });

  test("cannot change what objects inherit", async () => {
    const body = '{"name": "p", "__proto__": {"history": 9}, "constructor": {}}';
    const answer = await call("POST", `${base}/buckets`, body, {
      "Content-Type": "application/json",
    });
    expect(answer.status).toBe(400);
    expect(({} as { history?: number }).history).toBeUndefined();
  });
});

describe("an answer says which request it is to", () => {
  test("by the id that the caller gave", async () => {
    const answer = await call("GET", `${base}/buckets/b/keys/no`, undefined, {
      "X-Request-Id": "my-id.7",
    });
    expect(answer.body).toMatchObject({ request_id: "my-id.7" });
    expect(answer.headers.get("X-Request-Id")).toBe("my-id.7");
  });

  test.each(["a b", "x".repeat(65), 'a"b', "<script>", "ü", "a\tb", ""])(
    "by one of its own where the caller's %j could do harm",
    async (id) => {
      const answer = await call("GET", `${base}/buckets/b/keys/no`, undefined, {
        "X-Request-Id": id,
      });
      expect(answer.body).toMatchObject(form("key_not_found"));
      expect((answer.body as { request_id: string }).request_id).not.toBe(id);
    },
  );
});

describe("injection", () => {
  test("of headers by a key or a bucket name fails", async () => {
    const attempt = "k%0D%0ASet-Cookie:%20evil=1%0D%0A%0D%0A<script>";
    const answers = await Promise.all([
      sendRaw(gateway.url, `GET /api/v1/kv/buckets/b/keys/${attempt} HTTP/1.0\r\n\r\n`),
      sendRaw(gateway.url, `GET /api/v1/kv/buckets/${attempt} HTTP/1.0\r\n\r\n`),
      sendRaw(gateway.url, `POST /api/v1/kv/buckets/${attempt}/watch HTTP/1.0\r\n\r\n`),
      sendRaw(
        gateway.url,
        `GET /api/v1/kv/buckets/b/watch?key=${attempt}&include=${attempt} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      ),
    ]);
    for (const answer of answers) {
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
      expect(answer).not.toMatch(/^set-cookie/im);
    }
  });

  test("of headers by a stored content type fails", async () => {
    const answer = await sendRaw(
      gateway.url,
      "PUT /api/v1/kv/buckets/b/keys/ct HTTP/1.0\r\nContent-Type: text/x\rSet-Cookie: evil=1\r\nContent-Length: 1\r\n\r\n1",
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("of log lines fails: each line stays one JSON object", async () => {
    const evil = '%0A%7B"level":60,"msg":"forged"%7D%0A%1B[2J';
    await call("GET", `${base}/buckets/b/keys/${evil}`);
    await call("GET", `${base}/${evil}`, undefined, { "X-Request-Id": '"}{"forged":1' });
    expect(logLines.length).toBeGreaterThan(2);
    for (const line of logLines) {
      expect(line).toMatch(/^[^\n\u001b]*\n$/);
      expect((JSON.parse(line) as { level: number }).level).toBeLessThan(60);
    }
  });

  test("values and credentials do not get into the log", async () => {
    const secret = "c0ffee-s3cret";
    const headers = { Authorization: `Bearer ${secret}`, "Content-Type": "application/json" };
    await call("PUT", `${base}/buckets/b/keys/quiet`, JSON.stringify(secret), headers);
    await call("PUT", `${base}/buckets/b/keys/quiet`, `{${secret}`, headers);
    await call("POST", `${base}/buckets`, `{${secret}`, headers);
    await call("GET", `${base}/buckets/b/keys/quiet`, undefined, headers);
    expect(logLines.join("")).not.toContain(secret);
  });
});

describe("malformed HTTP", () => {
  test.each([
    ["no host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"],
    ["a broken host", "GET /health HTTP/1.1\r\nHost: a b/../\r\nConnection: close\r\n\r\n"],
    ["garbage", "\0\0\0\r\n\r\n"],
    [
      "two lengths",
      "PUT /api/v1/kv/buckets/b/keys/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n12",
    ],
    [
      "a length and chunks",
      "PUT /api/v1/kv/buckets/b/keys/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    ],
  ])("(%s) is answered by 400, and the gateway lives on", async (_what, bytes) => {
    expect(await sendRaw(gateway.url, bytes)).toMatch(/^HTTP\/1\.1 400 /);
    expect((await call("GET", `${gateway.url}/health`)).status).toBe(200);
  });

  test("a client that goes away in the middle of its body leaves nothing behind", async () => {
    const head =
      "PUT /api/v1/kv/buckets/b/keys/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
    const { hostname, port } = new URL(gateway.url);
    const { connect } = await import("node:net");
    await new Promise<void>((resolve) => {
      const socket = connect(Number(port), hostname, () => {
        socket.write(`${head}half`, () => socket.resetAndDestroy());
      });
      socket.on("close", () => resolve());
    });
    expect((await call("GET", `${base}/buckets/b/keys/cut`)).status).toBe(404);
  });

  test("a request that offers an upgrade to HTTP/2, as Java and curl do, is served, with its body", async () => {
    const offer = "Host: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    const put = `PUT /api/v1/kv/buckets/b/keys/h2c HTTP/1.1\r\n${offer}Connection: Upgrade, HTTP2-Settings, close\r\n`;
    expect(await sendRaw(gateway.url, `${put}Content-Length: 5\r\n\r\nhello`)).toMatch(
      /^HTTP\/1\.1 200 /,
    );
    expect((await call("GET", `${base}/buckets/b/keys/h2c`)).body).toMatchObject({
      value: "hello",
    });
  });

  test("a connection that began with such an offer can be used for more requests", async () => {
    const connection = new Connection(gateway.url);
    const offer = { Connection: "Upgrade, HTTP2-Settings, keep-alive", Upgrade: "h2c" };
    const first = await connection.send("GET", "/health", "", offer);
    const second = await connection.send("GET", "/health");
    expect(first).toMatchObject({ status: 200 });
    expect(second).toMatchObject({ status: 200, connection: first.connection });
  });
});

test("health, readiness and the front door answer", async () => {
  expect(await call("GET", `${gateway.url}/health`)).toMatchObject({ body: { status: "ok" } });
  expect(await call("GET", `${gateway.url}/ready`)).toMatchObject({ body: { status: "ready" } });
  expect(await call("GET", gateway.url)).toMatchObject({
    body: { name: "jetbucket", buckets: "/api/v1/kv/buckets" },
  });
});

describe("pages of other origins", () => {
  test("that are allowed may read answers, errors too", async () => {
    const Origin = "http://localhost:5173";
    for (const key of ["k", "no"]) {
      const { headers } = await call("GET", `${base}/buckets/b/keys/${key}`, undefined, { Origin });
      expect(headers.get("Access-Control-Allow-Origin")).toBe(Origin);
      expect(headers.get("Access-Control-Expose-Headers")).toContain("ETag");
      expect(headers.get("Vary")).toBe("Origin");
    }
    const preflight = await call("OPTIONS", `${base}/buckets/b/keys/k`, undefined, {
      Origin,
      "Access-Control-Request-Method": "PUT",
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("Access-Control-Allow-Methods")).toContain("PUT");
    expect(preflight.headers.get("Access-Control-Allow-Headers")).toContain("If-Match");
  });

  test("that are not may not", async () => {
    for (const Origin of ["https://evil.example.com", "null", "http://localhost.evil.com"]) {
      const { headers } = await call("GET", `${base}/buckets/b/keys/k`, undefined, { Origin });
      expect(headers.get("Access-Control-Allow-Origin")).toBeNull();
      const preflight = await call("OPTIONS", `${base}/buckets/b/keys/k`, undefined, {
        Origin,
        "Access-Control-Request-Method": "PUT",
      });
      expect(preflight.headers.get("Access-Control-Allow-Origin")).toBeNull();
      expect(preflight.headers.get("Access-Control-Allow-Methods")).toBeNull();
    }
  });
});

test("a page of another origin can neither read answers nor write", async () => {
  const headers = { Origin: "https://evil.example" };
  const created = await call("POST", `${base}/buckets`, '{"name":"evil"}', headers);
  expect(created).toMatchObject({ status: 403, body: { code: "forbidden" } });
  expect((await call("GET", `${base}/buckets/evil`)).status).toBe(404);
  const read = await call("GET", `${base}/buckets`, undefined, headers);
  expect(read.headers.get("Access-Control-Allow-Origin")).toBeNull();
});

test("a page whose name was made to lead here (DNS rebinding) gets nothing", async () => {
  const { port } = new URL(gateway.url);
  for (const path of ["/api/v1/kv/buckets", "/health"]) {
    const answer = await sendRaw(
      gateway.url,
      `GET ${path} HTTP/1.1\r\nHost: evil.example:${port}\r\nConnection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 403 /);
  }
});
