import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { Connection, sendRaw, type RawAnswer } from "../support/raw-http.ts";

let gateway: TestGateway;
const keys = "/api/v1/kv/buckets/b/keys";
const json = { "Content-Type": "application/json" };

beforeAll(async () => {
  gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
  await callJson("PUT", `${gateway.url}${keys}/user:42/cart.items`, { text: "für alle" });
  await call("PUT", `${gateway.url}${keys}/page`, "<p>", { "Content-Type": "text/html" });
  await call("PUT", `${gateway.url}${keys}/gone`, "1");
  await call("DELETE", `${gateway.url}${keys}/gone`);
});

afterAll(() => gateway.close());

/** What must be the same for two answers to the same request: all but what counts on, or tells the time. */
function comparable({ status, headers, bytes }: RawAnswer): object {
  const length = headers["content-length"] === String(bytes.length) ? "right" : "wrong or missing";
  const others = { ...headers, date: "", "content-length": length };
  const text = JSON.stringify({ status, others, body: String(bytes) });
  return JSON.parse(
    text
      .replace(/(revision\\":|etag":"\\")\d+/g, "$1N")
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME"),
  ) as object;
}

describe("a read or write is answered alike, whether it is plain or has a query", () => {
  type Case = [title: string, method: string, key: string, headers?: object, body?: string];
  const cases: Case[] = [
    ["a value", "GET", "/user:42/cart.items"],
    ["a value as it is stored", "GET", "/page", { Accept: "text/html" }],
    ["a value that the reader has", "GET", "/page", { "If-None-Match": "*" }],
    ["a revision that is not reached", "GET", "/page", { "Min-Revision": "1000000" }],
    ["a header that cannot be read", "GET", "/page", { "Min-Revision": "soon" }],
    ["a key that was never there", "GET", "/nothing"],
    ["a deleted key", "GET", "/gone"],
    ["a write of JSON", "PUT", "/new", json, `{"a":1}`],
    ["a write of nothing", "PUT", "/new", {}, ""],
    ["a write of text", "PUT", "/new", { "Content-Type": "text/plain;charset=utf-8" }, "ü"],
    ["JSON that does not parse", "PUT", "/new", json, `{"a":`],
    ["a write that must not replace", "PUT", "/page", { ...json, "If-None-Match": "*" }, "1"],
    ["a write of an old revision", "PUT", "/page", { ...json, "If-Match": "1" }, "1"],
    ["a condition that cannot be read", "PUT", "/page", { ...json, "If-Match": "x" }, "1"],
    ["a key that is too long", "PUT", `/${"k".repeat(600)}`, json, "1"],
  ];
  test.each(cases)("%s", async (_title, method, key, headers = {}, body = "") => {
    const connection = new Connection(gateway.url);
    const id = { "X-Request-Id": "mine", ...headers };
    const plain = await connection.send(method, `${keys}${key}`, body, id);
    const other = await connection.send(method, `${keys}${key}?unknown=1`, body, id);
    expect(comparable(plain)).toEqual(comparable(other));
    expect(plain.connection).toBe(other.connection);
  });

  test("a bucket that does not exist", async () => {
    const connection = new Connection(gateway.url);
    const path = "/api/v1/kv/buckets/none/keys/k";
    const headers = { "X-Request-Id": "mine" };
    const plain = await connection.send("PUT", path, "1", headers);
    expect(plain.status).toBe(404);
    expect(comparable(plain)).toEqual(
      comparable(await connection.send("PUT", `${path}?unknown=1`, "1", headers)),
    );
  });
});

test("a name that is not the gateway's is refused before anything is written", async () => {
  const connection = new Connection(gateway.url);
  const answer = await connection.send("PUT", `${keys}/forbidden`, "1", { Host: "evil.example" });
  expect(answer).toMatchObject({ status: 403, body: { code: "forbidden" } });
  expect((await connection.send("GET", `${keys}/forbidden`)).status).toBe(404);
});

test("a page of this machine may read the answer to a plain request", async () => {
  const origin = "http://localhost:5173";
  const answer = await call("GET", `${gateway.url}${keys}/page`, undefined, { Origin: origin });
  expect(answer.headers.get("access-control-allow-origin")).toBe(origin);
});

test("requests that are sent behind one another are answered in order", async () => {
  const { host } = new URL(gateway.url);
  const put = (key: string, body: string): string =>
    `PUT ${keys}/${key} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const get = (key: string, more = ""): string =>
    `GET ${keys}/${key} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;
  const received = await sendRaw(
    gateway.url,
    put("p", "12") +
      get("page") +
      get("page?raw") +
      get("q") +
      get("page", "Connection: close\r\n"),
  );
  const statuses = Array.from(received.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => status);
  expect(statuses).toEqual(["200", "200", "200", "404", "200"]);
});
