import { createServer } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { answerClientError, httpOptions } from "../../src/http/client-errors.ts";
import { eventually } from "../support/eventually.ts";
import { requestEvents } from "../support/events-client.ts";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";
import { openWatch, refusedWatch, watchUrl } from "../support/watch-client.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";
const root = { Authorization: `Bearer ${ROOT}` };
const from = (address: string): Record<string, string> => ({ "X-Forwarded-For": address });

let nats: TestNats;
/** Allows 20 requests a second, 40 at once, and two sockets. */
let strict: TestGateway;
let open: TestGateway;

beforeAll(async () => {
  nats = await startTestNats();
  const flags = ["--rate-limit", "20", "--max-sockets-each", "2", "--trust-proxy", "1"];
  [strict, open] = await Promise.all([
    startGateway(nats, ["--root-key", ROOT, ...flags]),
    startGateway(nats, ["--rate-limit", "20"]),
  ]);
  await callJson("POST", `${open.api}/buckets`, { name: "b" });
  await callJson("PUT", `${open.api}/buckets/b/keys/k`, 1);
});

afterAll(async () => {
  await Promise.all([strict.close(), open.close()]);
});

/** Sends bytes as they are, and collects what comes until the other side ends it. */
function raw(gateway: { url: string }, bytes: string): { socket: Socket; answer: Promise<string> } {
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  onTestFinished(() => void socket.destroy());
  let text = "";
  const answer = new Promise<string>((resolve) => {
    socket.on("data", (chunk) => (text += chunk.toString("latin1")));
    socket.on("error", () => resolve(text));
    socket.on("close", () => resolve(text));
  });
  socket.write(bytes);
  return { socket, answer };
}

describe("rates", () => {
  test("are kept to by principal, whatever way a request is answered, and told", async () => {
    const url = `${strict.api}/buckets/b/keys/k`;
    const statuses: number[] = [];
    for (let i = 0; i < 60; i++) {
      const { status, headers, body } = await call(
        "GET",
        url + (i % 2 ? "?" : ""),
        undefined,
        root,
      );
      statuses.push(status);
      expect(headers.get("ratelimit-policy")).toBe('"default";q=40;w=2');
      expect(headers.get("ratelimit")).toMatch(/^"default";r=\d+;t=\d+$/);
      if (status !== 429) continue;
      expect(headers.get("retry-after")).toBe("1");
      expect(body).toMatchObject({ code: "rate_limited", retryable: true });
      break;
    }
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(40);
    expect(statuses.at(-1)).toBe(429);
  });

  test("do not hold where everybody is anonymous", async () => {
    for (let i = 0; i < 60; i++) {
      const { status, headers } = await call("GET", `${open.api}/buckets/b/keys/k`);
      expect(status).toBe(200);
      expect(headers.get("ratelimit")).toBeNull();
    }
  });

  test("of wrong credentials are low, for their address only", async () => {
    const attempt = async (address: string, key = "wrong"): Promise<number> => {
      const headers = { Authorization: `Bearer ${key}`, ...from(address) };
      return (await call("GET", `${strict.api}/buckets`, undefined, headers)).status;
    };
    const statuses = [];
    for (let i = 0; i < 40; i++) statuses.push(await attempt("198.51.100.7"));
    expect(statuses.slice(0, 30).every((status) => status === 401)).toBe(true);
    expect(statuses.at(-1)).toBe(429);
    expect(await attempt("198.51.100.8")).toBe(401);
    const { status } = await refusedWatch(watchUrl(strict.api, "b"), {
      headers: { Authorization: "Bearer wrong", ...from("198.51.100.7") },
    });
    expect(status).toBe(429);
  });
});

test("sockets of one principal are bounded, and free again when they are gone", async () => {
  const { status, body } = await callJson(
    "POST",
    `${strict.url}/api/v1/tokens`,
    { subject: "crowd" },
    { ...root, ...from("127.0.0.1") },
  );
  expect(status, JSON.stringify(body)).toBe(201);
  const options = { headers: { Authorization: `Bearer ${(body as { token: string }).token}` } };
  const watch = (): ReturnType<typeof openWatch> => openWatch(watchUrl(strict.api, "b"), options);
  const first = await watch();
  await watch();
  expect(await refusedWatch(watchUrl(strict.api, "b"), options)).toMatchObject({ status: 429 });
  first.socket.close();
  await expect
    .poll(
      () =>
        watch().then(
          () => true,
          () => false,
        ),
      { timeout: 5_000 },
    )
    .toBe(true);
});

describe("answers", () => {
  test("where credentials are wanted are for no cache, no frame, and no guess", async () => {
    const { headers } = await call("GET", `${strict.url}/health`);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(headers.get("referrer-policy")).toBe("no-referrer");
  });

  test("of an open gateway are at least not guessed at", async () => {
    for (const path of ["/b/keys/k", "/b/keys/k?", "/b/keys/none"]) {
      const { headers } = await call("GET", `${open.api}/buckets${path}`);
      expect(headers.get("x-content-type-options"), path).toBe("nosniff");
    }
  });
});

describe("requests that node:http does not take", () => {
  const bodyOf = (text: string): { code: string } =>
    JSON.parse(text.slice(text.indexOf("\r\n\r\n"))) as { code: string };

  test("because their headers are too large are told so", async () => {
    const text = await raw(
      open,
      `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(20_000)}\r\n\r\n`,
    ).answer;
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(bodyOf(text).code).toBe("headers_too_large");
  });

  test("because they are not HTTP are told so, and hear nothing of what they sent", async () => {
    const text = await raw(open, "SECRET \x1b[31m nonsense\r\n\r\n").answer;
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(bodyOf(text).code).toBe("invalid_request");
    expect(text).not.toContain("nonsense");
  });

  test("because there are two lengths, or a length and chunks, are refused", async () => {
    for (const headers of [
      "Content-Length: 1\r\nContent-Length: 2",
      "Content-Length: 1\r\nTransfer-Encoding: chunked",
    ]) {
      const text = await raw(
        open,
        `PUT /api/v1/kv/buckets/b/keys/k HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n0\r\n\r\n`,
      ).answer;
      expect(text).toMatch(/^HTTP\/1\.1 400 /);
    }
  });

  test("an address that is too long is 414", async () => {
    const { status, body } = await call(
      "GET",
      `${open.api}/buckets/b/keys?prefix=${"x".repeat(13_000)}`,
    );
    expect(status).toBe(414);
    expect(body).toMatchObject({ code: "address_too_long" });
  });

  test("nor is a watch at one", async () => {
    const url = watchUrl(open.api, "b", `key=${"x".repeat(13_000)}`);
    expect(await refusedWatch(url)).toMatchObject({
      status: 414,
      body: { code: "address_too_long" },
    });
  });

  test("do not get an answer into another one that has begun", async () => {
    const { socket, answer } = raw(
      open,
      "GET /api/v1/kv/buckets/b/watch HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    );
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString()));
    await eventually(() => text).toContain("kv_ready");
    socket.write("garbage\r\n\r\n");
    expect((await answer).match(/HTTP\/1\.1/g)).toHaveLength(1);
  });

  test("because they do not come to their end in time are told so", async () => {
    // As the gateway's server, but less patient.
    const server = createServer(
      { ...httpOptions, headersTimeout: 100, requestTimeout: 200, connectionsCheckingInterval: 50 },
      (request) => void request.resume(),
    );
    server.on("clientError", answerClientError);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const slow = [
      raw({ url }, "GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n"),
      raw({ url }, "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n1"),
    ];
    for (const { answer } of slow) {
      const text = await answer;
      expect(text).toMatch(/^HTTP\/1\.1 408 /);
      expect(bodyOf(text).code).toBe("request_timeout");
    }
  });

  test("a request that is left half sent does not hold up others, nor a shutdown", async () => {
    const gateway = await startGateway(nats);
    const half = raw(
      gateway,
      "PUT /api/v1/kv/buckets/b/keys/k HTTP/1.1\r\nHost: localhost\r\nContent-Le",
    );
    const body = raw(
      gateway,
      "PUT /api/v1/kv/buckets/b/keys/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123",
    );
    expect((await call("GET", `${gateway.api}/buckets/b/keys/k`)).status).toBe(200);
    await gateway.close();
    await Promise.all([half.answer, body.answer]);
    expect((await call("GET", `${open.api}/buckets/b/keys/half`)).status).toBe(404);
  });
});

test("a page of another site can neither watch a config document nor a bucket", async () => {
  const headers = { Origin: "https://evil.example.com" };
  const config = `${open.url}/api/v1/config/app/watch`;
  for (const url of [config, `${open.api}/buckets/b/watch`]) {
    expect(await refusedWatch(url.replace("http", "ws"), { headers })).toMatchObject({
      status: 403,
    });
    expect(await requestEvents(url, headers)).toMatchObject({ status: 403 });
  }
});
