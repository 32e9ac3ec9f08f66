import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Authenticator } from "../../../src/auth/authenticator.ts";
import { anonymous, type Principal } from "../../../src/auth/principal.ts";
import { principalOf, type Answer, type Asked } from "../../../src/http/answer.ts";
import { directAnswers } from "../../../src/http/direct.ts";
import { originPolicy } from "../../../src/http/origins.ts";
import { RateLimits } from "../../../src/http/rate-limits.ts";
import { KvError } from "../../../src/protocol/errors.ts";
import { Connection } from "../../support/raw-http.ts";

const base = "/api/v1/kv/buckets";
let url: string;

/** Knows three credentials, and takes its time for one of them. */
const authenticator: Authenticator = {
  authenticate({ authorization }) {
    if (authorization === undefined) return anonymous;
    if (authorization === "slow") return Promise.resolve({ ...anonymous, id: "slow" });
    const error = new KvError("unauthenticated", "who is that?");
    if (authorization === "slowly wrong") return Promise.reject<Principal>(error);
    throw error;
  },
  isValid: () => true,
};

const tell = (name: string) => (c: Asked) =>
  Promise.resolve<Answer>({ body: `${name} ${principalOf(c).id}`, status: 200, headers: {} });

const direct = directAnswers(
  base,
  { get: tell("get"), put: tell("put") },
  {
    origins: originPolicy([], () => false),
    authenticator,
    rates: new RateLimits(undefined),
    addressOf: () => undefined,
  },
  () => 10,
  pino({ level: "silent" }),
);

const server = createServer((incoming, outgoing) => {
  if (!direct(incoming, outgoing)) outgoing.end("framework");
});

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => server.close());

describe("the direct way", () => {
  test.each(["/b/keys/k", "/b-1_x/keys/user:42", "/b/keys/a.b.c/d=e~f"])(
    "is taken by reads and writes of %s",
    async (path) => {
      const connection = new Connection(url);
      expect((await connection.send("GET", base + path)).body).toBe("get anonymous");
      expect((await connection.send("PUT", base + path, "1")).body).toBe("put anonymous");
    },
  );

  test.each([
    ["a query", "GET", "/b/keys/k?raw", {}],
    ["an escape in the key", "GET", "/b/keys/a%2Fb", {}],
    ["an escape in the bucket's name", "GET", "/%62/keys/k", {}],
    ["a dot segment", "GET", "/b/keys/../keys/k", {}],
    ["a dot segment at the end", "GET", "/b/keys/a/..", {}],
    ["a hidden file's name", "GET", "/b/keys/.k", {}],
    ["two slashes", "GET", "/b/keys/a//b", {}],
    ["a slash at the end", "GET", "/b/keys/a/", {}],
    ["no key", "GET", "/b/keys/", {}],
    ["another path", "GET", "/b/history/k", {}],
    ["an origin", "GET", "/b/keys/k", { Origin: "http://localhost:1" }],
    ["a host that has to be normalised", "GET", "/b/keys/k", { Host: "LOCALHOST" }],
    ["another method", "DELETE", "/b/keys/k", {}],
    ["HEAD", "HEAD", "/b/keys/k", {}],
  ])("is not taken with %s", async (_title, method, path, headers) => {
    const answer = await new Connection(url).send(method, base + path, "", headers);
    expect(answer).toMatchObject({ status: 200, body: method === "HEAD" ? "" : "framework" });
  });

  test("is not taken by bodies that are large, or do not say how large they are", async () => {
    const connection = new Connection(url);
    const part = Buffer.from("1");
    expect((await connection.send("PUT", `${base}/b/keys/k`, "x".repeat(11))).body).toBe(
      "framework",
    );
    expect((await connection.send("PUT", `${base}/b/keys/k`, [part, part])).body).toBe("framework");
    expect((await connection.send("GET", `${base}/b/keys/k`, "body")).body).toBe("framework");
  });

  test("asks who sends the request", async () => {
    const connection = new Connection(url);
    const ask = (authorization: string, method = "GET"): Promise<object> =>
      connection.send(method, `${base}/b/keys/k`, "", { Authorization: authorization });
    expect(await ask("slow")).toMatchObject({ status: 200, body: "get slow" });
    for (const wrong of ["wrong", "slowly wrong"]) {
      for (const method of ["GET", "PUT"])
        expect(await ask(wrong, method)).toMatchObject({
          status: 401,
          headers: { "www-authenticate": "Bearer" },
          body: { code: "unauthenticated" },
        });
    }
  });
});
