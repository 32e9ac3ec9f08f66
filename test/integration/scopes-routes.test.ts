/** Every route that there is, and what it takes to be let through. A route without a line here fails. */
import { request } from "node:http";
import pino from "pino";
import { beforeAll, describe, expect, test } from "vitest";
import { forgeOperations } from "../../src/dialects/forge/routes.ts";
import { secretsEnvironment } from "../../src/dialects/forge/secrets.ts";
import { createRoutes, type AppDeps } from "../../src/http/app.ts";
import { bucketOfNamespace, MAIN_TENANT } from "../../src/protocol/kestra.ts";
import { environmentVerbs, keyVerbs, type Scope, type Verb } from "../../src/protocol/scopes.ts";
import type { Answer } from "../support/gateway.ts";
import { startScopedGateway, type Asker, type ScopedGateway } from "../support/scoped.ts";

/** What a route is about, and so what of a scope decides. */
interface Line {
  /** `open`: nobody is refused. `all`: an administrator of all buckets. `audit`: whoever has that verb, wherever. */
  about: "key" | "keys" | "admin" | "environment" | "named" | "all" | "audit" | "open";
  /** All of them are needed. */
  verbs?: readonly Verb[];
  body?: unknown;
  headers?: Record<string, string>;
  query?: string;
  environment?: string;
}

const merge = { "Content-Type": "application/merge-patch+json" };
const read: Line = { about: "key", verbs: ["read"] };
const put: Line = { about: "key", verbs: ["write"], body: { n: 1 } };
const patch: Line = { about: "key", verbs: ["write", "read"], body: { n: 1 }, headers: merge };
const remove: Line = { about: "key", verbs: ["delete"] };
const increment: Line = { about: "key", verbs: ["write", "read"], body: { by: 1 } };
const touch: Line = { about: "key", verbs: ["write"], body: { ttl: 60 } };
const restore: Line = { about: "key", verbs: ["write", "read"], body: { revision: 1 } };
const diff: Line = { ...read, query: "from=1" };
const config: Line = { about: "named", verbs: ["config"] };
const secret: Line = { about: "named", verbs: ["secrets"] };
const open: Line = { about: "open" };

const KV = "/api/v1/kv/buckets/:bucket";
const KEY = ":key{[\\s\\S]+}";
const NS = ["/api/v1/namespaces/:namespace/kv", "/api/v1/:tenant/namespaces/:namespace/kv"];

const ours: Record<string, Line> = {
  "GET /api/v1/kv/buckets": open,
  "POST /api/v1/kv/buckets": { about: "admin", body: { name: ":bucket" } },
  [`GET ${KV}`]: { about: "keys", verbs: ["delete"] },
  [`PATCH ${KV}`]: { about: "admin", body: { history: 5 } },
  [`DELETE ${KV}`]: { about: "admin" },
  [`POST ${KV}/compact`]: { about: "admin" },
  [`GET ${KV}/keys`]: { about: "keys", verbs: ["read"] },
  [`POST ${KV}/batch`]: { about: "keys", verbs: ["write"], body: { get: ["mine.x"] } },
  [`POST ${KV}/transactions`]: {
    about: "key",
    verbs: ["write"],
    body: { operations: [{ op: "put", key: ":key", value: 1 }] },
  },
  [`GET ${KV}/watch`]: {
    about: "keys",
    verbs: ["watch", "read"],
    headers: { Accept: "text/event-stream" },
  },
  "GET /api/v1/kv/watch": open,
  ...Object.fromEntries(
    [`keys/${KEY}`, "entry"].flatMap((path) => [
      [`GET ${KV}/${path}`, read],
      [`PUT ${KV}/${path}`, put],
      [`PATCH ${KV}/${path}`, patch],
      [`DELETE ${KV}/${path}`, remove],
    ]),
  ),
  ...Object.fromEntries(
    Object.entries({ increment, touch, restore }).flatMap(([name, line]) => [
      [`POST ${KV}/${name}/${KEY}`, line],
      [`POST ${KV}/${name}`, line],
    ]),
  ),
  ...Object.fromEntries(
    Object.entries({ history: read, diff }).flatMap(([name, line]) => [
      [`GET ${KV}/${name}/${KEY}`, line],
      [`GET ${KV}/${name}`, line],
    ]),
  ),
  "GET /api/v1/config": { about: "environment", verbs: ["config"] },
  "GET /api/v1/config/:name": config,
  "POST /api/v1/config/:name": { ...config, body: { a: 1 } },
  "PATCH /api/v1/config/:name": { ...config, body: { a: 1 } },
  "DELETE /api/v1/config/:name": config,
  "GET /api/v1/config/:name/watch": { ...config, headers: { Accept: "text/event-stream" } },
  "GET /api/v1/secrets": { about: "environment", verbs: ["secrets"] },
  "POST /api/v1/secrets": { ...secret, body: { name: ":name", value: "s" } },
  "GET /api/v1/secrets/:name": secret,
  "PUT /api/v1/secrets/:name": { ...secret, body: { value: "s" } },
  "PATCH /api/v1/secrets/:name": { ...secret, body: { description: "d" } },
  "DELETE /api/v1/secrets/:name": secret,
  "GET /api/v1/secrets/:name/value": { about: "named", verbs: ["secrets:reveal"] },
  "GET /api/v1/api-keys": { about: "all" },
  "POST /api/v1/api-keys": {
    about: "all",
    body: { name: "x", expires_in: 60, scopes: [{ verbs: ["read"], bucket: "none" }] },
  },
  "GET /api/v1/api-keys/:id": { about: "all" },
  "DELETE /api/v1/api-keys/:id": { about: "all" },
  "GET /api/v1/audit": { about: "audit" },
  // What they hand on is less than what the caller has: tests of access have that.
  "POST /api/v1/tokens": open,
  "POST /api/v1/tickets": open,
  ...Object.fromEntries(
    ["/metrics", "/", "/health", "/ready", "/api/v1/capabilities", "/sdk/browser.js"].map(
      (path) => [`GET ${path}`, open],
    ),
  ),
  // Kestra's own paths.
  ...Object.fromEntries(
    NS.flatMap((base) => [
      [`GET ${base}`, { about: "keys", verbs: ["read"] }],
      [`DELETE ${base}`, { about: "key", verbs: ["delete"], body: { keys: [":key"] } }],
      [`GET ${base}/inheritance`, open],
      [`GET ${base}/:key`, read],
      [`PUT ${base}/:key`, { about: "key", verbs: ["write"], body: "1" }],
      [`DELETE ${base}/:key`, remove],
    ]),
  ),
  "GET /api/v1/:tenant/kv": open,
};

/** Some of ours are there a second time, for Ironflow's clients. */
const again = Object.entries(ours).flatMap(([route, line]) => {
  const [method, path] = route.split(" ") as [string, string];
  const word = /^\/api\/v1\/(?:kv|config|secrets)(?:\/buckets(?:\/:bucket(?:\/(\w+))?)?)?/.exec(
    path,
  );
  const isThere =
    word !== null && !/batch|transactions|compact|increment|touch|restore|diff/.test(word[1] ?? "");
  return isThere ? [[`${method} /compat/ironflow${path}`, line] as const] : [];
});

/** A Forge app's calls, which name keys in their bodies. Batches have an error per item: the tests of Forge show that. */
const forge: Record<(typeof forgeOperations)[number], Line> = {
  get: { ...read, body: { key: ":key" } },
  set: { about: "key", verbs: ["write"], body: { key: ":key", value: 1 } },
  delete: { ...remove, body: { key: ":key" } },
  query: { about: "keys", verbs: ["read"], body: {} },
  transaction: { about: "key", verbs: ["write"], body: { set: [{ key: ":key", value: 1 }] } },
  "secret/get": forgeSecret("secrets:reveal"),
  "secret/set": { ...forgeSecret("secrets"), body: { key: ":key", value: 1 } },
  "secret/delete": forgeSecret("secrets"),
  "batch/get": { about: "open", body: [{ key: ":key" }] },
  "batch/set": { about: "open", body: [{ key: ":key", value: 1 }] },
  "batch/delete": { about: "open", body: [{ key: ":key" }] },
};

function forgeSecret(verb: Verb): Line {
  const environment = secretsEnvironment("b");
  return { about: "named", verbs: [verb], environment, body: { key: ":key" } };
}

const FORGE = "POST /compat/forge/:bucket/api/v1";
const lines: Record<string, Line> = {
  ...ours,
  ...Object.fromEntries(again),
  ...Object.fromEntries(Object.entries(forge).map(([name, line]) => [`${FORGE}/${name}`, line])),
};

/** Methods and paths of all routes; those that only say which methods there are are left out. */
async function routes(url: string, headers: Record<string, string>): Promise<string[]> {
  // Routes are there before anybody asks, and only who asks needs what is behind them.
  const deps = { log: pino({ level: "silent" }), access: {} } as unknown as AppDeps;
  const { own, dialects } = createRoutes(deps);
  const found = new Set<string>();
  for (const { path } of own.routes) {
    // The path without its key, which is none.
    if (path.endsWith("/") && path !== "/") continue;
    if (path.startsWith("/compat/forge/")) {
      for (const operation of forgeOperations) found.add(`${FORGE}/${operation}`);
      continue;
    }
    const real = filled(path, "b", "mine.x", "mine.x").split("?")[0]!;
    for (const method of await allowed(url + real, headers)) found.add(`${method} ${path}`);
  }
  for (const { routes: own } of dialects)
    for (const { method, path } of own) if (method !== "ALL") found.add(`${method} ${path}`);
  return [...found].sort();
}

/** What a resource says that it takes. */
function allowed(url: string, headers: Record<string, string>): Promise<string[]> {
  return new Promise((resolve, reject) => {
    request(url, { method: "PROPFIND", headers }, (response) => {
      response.resume();
      const methods = response.headers.allow?.split(", ") ?? [];
      resolve(methods.filter((method) => method !== "HEAD"));
    })
      .on("error", reject)
      .end();
  });
}

function filled(path: string, bucket: string, key: string, name: string): string {
  const real = path
    .replace(KEY, key)
    .replace(":bucket", bucket)
    .replace(":key", key)
    .replace(":namespace", bucket)
    .replace(":tenant", MAIN_TENANT)
    .replace(/:(?:name|id)/, name);
  return /\/(?:entry|increment|touch|restore|history|diff)$/.test(path)
    ? `${real}?key=${key}`
    : real;
}

let gateway: ScopedGateway;
let nobody: Asker;

beforeAll(async () => {
  gateway = await startScopedGateway();
  nobody = await gateway.as({ verbs: ["read"], bucket: "another" });
  for (const name of ["b", bucketOf("b")]) {
    await gateway.root.ask("POST", "/api/v1/kv/buckets", { name, history: 5 });
    for (const key of ["mine.x", "other.here"])
      await gateway.root.ask("PUT", `/api/v1/kv/buckets/${name}/keys/${key}`, { n: 1 });
  }
  for (const name of ["mine.x", "other.here"]) {
    await gateway.root.ask("POST", `/api/v1/config/${name}`, { a: 1 });
    await gateway.root.ask("POST", "/api/v1/secrets", { name, value: "s" });
  }
  return () => gateway.close();
});

function bucketOf(namespace: string): string {
  return bucketOfNamespace({ tenant: MAIN_TENANT, name: namespace });
}

function bodyOf({ body }: Line, bucket: string, key: string): unknown {
  if (body === undefined) return undefined;
  const text = JSON.stringify(body).replaceAll(":bucket", bucket);
  return JSON.parse(text.replace(/:(?:key|name)/, key)) as unknown;
}

/** Sends what a line says. */
function send(who: Asker, route: string, line: Line, bucket: string, key: string): Promise<Answer> {
  const [method, path] = route.split(" ") as [string, string];
  const real = filled(path, bucket, key, key);
  const query = line.query === undefined ? "" : `${real.includes("?") ? "&" : "?"}${line.query}`;
  return who.ask(method, real + query, bodyOf(line, bucket, key), line.headers);
}

/** The least that a line needs, without one verb, or for something else. */
function scopeOf(line: Line, bucket: string, without?: Verb, keys = ["mine.>"]): Scope[] {
  const isEnvironment = line.about === "environment" || line.about === "named";
  const verbs = (line.verbs ?? ["admin"]).filter((verb) => verb !== without);
  // All that is not needed does not help.
  const others = isEnvironment ? environmentVerbs : keyVerbs;
  const rest = others.filter((verb) => line.verbs?.includes(verb) !== true);
  const place = isEnvironment ? { environment: line.environment ?? "default" } : { bucket };
  return [
    ...(verbs.length === 0 ? [] : [{ verbs: [...verbs], ...place, ...(line.verbs && { keys }) }]),
    ...(without === undefined || rest.length === 0 ? [] : [{ verbs: [...rest], ...place }]),
    { verbs: ["read"], bucket: "another" },
  ];
}

/** An answer as far as it may tell of what it is about, which is called by the same name. */
function told({ status, body }: Answer, ...names: string[]): unknown {
  let text = JSON.stringify(body).replace(/,"request_id":"[^"]*"/, "");
  for (const name of names) text = text.replaceAll(name, "it");
  return { status, text };
}

test("has a line, and each line a route", async () => {
  expect(Object.keys(lines).sort()).toEqual(await routes(gateway.url, gateway.root.headers));
});

const guarded = Object.entries(lines).filter(([, { about }]) => about !== "open");

describe("is closed, and tells nothing,", () => {
  test.each(guarded)("%s", async (route, line) => {
    const isKestra = route.includes(":namespace");
    const bucket = isKestra ? bucketOf("b") : "b";
    const here = await send(nobody, route, line, "b", "other.here");
    expect(here.status, JSON.stringify(here.body)).toBe(403);
    // Whether it is there or not.
    const gone = await send(nobody, route, line, "gone", "other.gone");
    const names = [
      "other.here",
      "other.gone",
      `"b\\"`,
      `"gone\\"`,
      bucketOf("b"),
      bucketOf("gone"),
    ];
    expect(told(gone, ...names)).toEqual(told(here, ...names));

    for (const verb of line.verbs ?? []) {
      // The bucket is known to whoever may do anything in it.
      if (/\/(?::bucket|batch)$/.test(route)) continue;
      const without = await gateway.as(...scopeOf(line, bucket, verb));
      expect((await send(without, route, line, "b", "mine.x")).status).toBe(403);
    }
    if (line.about === "admin" || line.about === "all" || line.about === "audit") {
      const everything = await gateway.as({ verbs: [...keyVerbs] });
      expect((await send(everything, route, line, "b", "mine.x")).status).toBe(403);
    }
    if (line.about !== "key" && line.about !== "named") return;
    const mine = await gateway.as(...scopeOf(line, bucket));
    const [other, missing] = [
      await send(mine, route, line, "b", "other.here"),
      await send(mine, route, line, "b", "other.gone"),
    ];
    expect(other.status).toBe(403);
    expect(told(missing, "other.gone")).toEqual(told(other, "other.here"));
  });
});

describe("is open to whoever has what it takes:", () => {
  test.each(Object.entries(lines))("%s", async (route, line) => {
    const isKestra = route.includes(":namespace");
    const fresh = `fresh${Object.keys(lines).indexOf(route)}`;
    const bucket = line.about === "admin" ? fresh : "b";
    if (line.about === "admin" && !route.endsWith("/buckets"))
      await gateway.root.ask("POST", "/api/v1/kv/buckets", { name: fresh });
    const scopes: Scope[] =
      line.about === "all"
        ? [{ verbs: ["admin", "read"] }]
        : line.about === "audit"
          ? [{ verbs: ["audit"] }]
          : scopeOf(line, isKestra ? bucketOf(bucket) : bucket);
    const who = line.about === "open" ? nobody : await gateway.as(...scopes);
    if (line.headers?.Accept === "text/event-stream") {
      const answer = await fetch(gateway.url + filled(route.split(" ")[1]!, "b", "", "mine.x"), {
        headers: { ...who.headers, ...line.headers },
      });
      expect(answer.status).toBe(200);
      await answer.body?.cancel();
      return;
    }
    const { status, body } = await send(who, route, line, bucket, "mine.x");
    expect([401, 403, 500], JSON.stringify(body)).not.toContain(status);
  });
});
