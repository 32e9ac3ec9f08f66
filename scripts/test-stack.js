#!/usr/bin/env node
/**
 * `npm run test:stack`: builds the image, brings docker-compose.yml up as an instance of its own on a free port, uses it
 * from outside as a user would, and takes it down with everything that was made, whatever happens.
 *
 * With --if-possible it is content on machines that have no container engine.
 */
import assert from "node:assert/strict";
import { findEngine } from "./stack/engine.js";
import { Stack } from "./stack/stack.js";
import { until } from "./stack/wait.js";
import { Watcher } from "./stack/watcher.js";

/** Milliseconds within which the gateway has to answer whatever it is asked; during an outage most of all. */
const AT_ONCE = 1_500;

const buckets = "/api/v1/kv/buckets";
const theme = `${buckets}/settings/keys/theme`;

const interrupt = new AbortController();
const { signal } = interrupt;
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
}

let engine;
let stack;
let watcher;

try {
  engine = await step("look for an engine", () => findEngine({ signal, onProgress: note }));
  if (engine === undefined) {
    note(
      "nothing was tested: neither `docker compose` nor `docker-compose` reaches an engine here",
    );
    process.exitCode = process.argv.includes("--if-possible") ? 0 : 1;
  } else {
    note(engine.name);
    await test();
    note("the stack works");
  }
} catch (error) {
  if (stack !== undefined && !signal.aborted) console.error(await stack.logs().catch(String));
  failed(error);
} finally {
  watcher?.terminate();
  if (stack !== undefined) await step("take everything down", () => stack.remove()).catch(failed);
  await engine?.close();
}

async function test() {
  stack = await Stack.create(engine, signal);
  await step("build the image", () => stack.build());
  await step("bring it up", () => stack.up());
  await step("both services become healthy", healthy);
  await step("the gateway has neither root nor a writable disk", confined);
  await step("create a bucket; put, get, list, refuse a stale write", tour);
  await step("a watcher sees the value, a change and a delete", watch);
  await step("NATS stops: 503 at once, and still healthy", outage);
  await step("NATS starts: works again by itself, the watcher goes on", recovery);
  await step("the gateway stops in time and sends the watcher elsewhere", stopGateway);
  await step("down and up: the data is still there", survive);
}

async function healthy() {
  for (const service of ["nats", "gateway"]) {
    await until(`${service} healthy`, () => stack.isHealthy(service), { timeout: 60_000, signal });
  }
  await expect("GET", "/ready", 200);
}

async function confined() {
  const [user, touched] = await stack.shell("gateway", "id -u; touch /app/x 2>&1 || true");
  assert.notEqual(user, "0");
  assert.match(touched, /Read-only file system/);
}

async function tour() {
  await expect("POST", buckets, 201, { json: { name: "settings", history: 5 } });
  const { body: put, headers: written } = await expect("PUT", theme, 200, { json: "light" });
  assert.equal(written.get("durability"), "fsync");
  const { body: entry, headers } = await expect("GET", theme, 200);
  assert.deepEqual([entry.value, entry.revision], ["light", put.revision]);
  assert.equal(headers.get("etag"), `"${put.revision}"`);
  const { body: list } = await expect("GET", `${buckets}/settings/keys`, 200);
  assert.deepEqual(list.keys, ["theme"]);
  await expect("PUT", theme, 412, { json: "x", headers: { "If-Match": String(put.revision + 1) } });
  const { body: sdk } = await expect("GET", "/sdk/browser.js", 200);
  assert.match(sdk, /export/);
}

async function watch() {
  watcher = await Watcher.open(`${stack.url}${buckets}/settings/watch?key=theme`);
  await story(/^theme="light" ready$/);
  await expect("PUT", theme, 200, { json: "dark" });
  await story(/ready theme="dark"$/);
  await expect("DELETE", theme, 204);
  await expect("GET", theme, 404);
  await story(/theme="dark" theme-$/);
}

async function outage() {
  await expect("PUT", `${buckets}/settings/keys/kept`, 200, { json: "before" });
  await stack.stop("nats");
  await until("a 503", () => expect("GET", theme, 503), { timeout: 5_000, signal });
  for (const [method, path] of [
    ["GET", "/ready"],
    ["PUT", theme],
    ["GET", `${buckets}/settings/keys`],
  ]) {
    const { body, headers } = await expect(method, path, 503, method === "PUT" && { json: "lost" });
    assert.equal(body.code, "store_unavailable");
    assert.ok(headers.has("retry-after"));
  }
  await expect("GET", "/health", 200);
  await story(/ stale$/);
}

async function recovery() {
  await stack.start("nats");
  await until("ready", () => expect("GET", "/ready", 200), { timeout: 30_000, signal });
  await expect("PUT", theme, 200, { json: "again" });
  await story(/ stale .*theme="again"/);
}

async function stopGateway() {
  const started = performance.now();
  await stack.stop("gateway");
  const took = performance.now() - started;
  assert.ok(took < 10_000, `took ${took} ms`);
  await until("the watcher's end", () => watcher.closeCode, { timeout: 5_000, signal });
  assert.equal(watcher.closeCode, 1001);
  assert.equal(await stack.exitCode("gateway"), 0);
}

async function survive() {
  await stack.down();
  await stack.up();
  await until("healthy", () => stack.isHealthy("gateway"), { timeout: 60_000, signal });
  const { body: list } = await expect("GET", `${buckets}/settings/keys`, 200);
  assert.deepEqual(list.keys, ["kept", "theme"]);
  const { body: history } = await expect("GET", `${buckets}/settings/history/theme`, 200);
  assert.deepEqual(
    history.entries.map(({ operation, value }) => value ?? operation),
    ["light", "dark", "delete", "again"],
  );
}

/** Sends a request and resolves to its answer, which has to have this status and to come at once. */
async function expect(method, path, status, { json, headers } = {}) {
  const response = await fetch(stack.url + path, {
    method,
    headers: { ...(json !== undefined && { "Content-Type": "application/json" }), ...headers },
    body: json === undefined ? undefined : JSON.stringify(json),
    signal: AbortSignal.any([signal, AbortSignal.timeout(AT_ONCE)]),
  });
  const text = await response.text();
  assert.equal(response.status, status, `${method} ${path}: ${response.status} ${text}`);
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  return { headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

/** Waits until the watcher has been told what the pattern says. */
async function story(pattern) {
  const told = () => pattern.test(watcher.story);
  try {
    await until(`the watcher's ${pattern}`, told, { timeout: 10_000, signal });
  } catch (error) {
    throw new Error(`the watcher has got: ${watcher.story}`, { cause: error });
  }
}

/** One line for a step, when it is over. */
async function step(name, work) {
  const started = performance.now();
  const say = (result) =>
    console.log(`${result} ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  try {
    const value = await work();
    say("ok    ");
    return value;
  } catch (error) {
    say("FAILED");
    throw error;
  }
}

function note(line) {
  console.log(`       ${line}`);
}

function failed(error) {
  process.exitCode = 1;
  console.error(signal.aborted && error === signal.reason ? error.message : error);
}
