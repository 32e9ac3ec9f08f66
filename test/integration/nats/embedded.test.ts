import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";

import { Kvm } from "@nats-io/kv";
import { connect } from "nats";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";

import {
  DataFolderInUseError,
  NatsServerStartError,
  startNatsServer,
  type EmbeddedNatsOptions,
  type EmbeddedNatsServer,
} from "../../../src/nats/embedded.ts";
import { isRunning } from "../../../src/nats/processes.ts";

const binary = process.env.NATS_SERVER_BIN!;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-embedded-"));
  onTestFinished(() => rm(folder, { recursive: true }));
});

async function start(options: Partial<EmbeddedNatsOptions> = {}): Promise<EmbeddedNatsServer> {
  const server = await startNatsServer({
    binary,
    dataDir: join(folder, "data"),
    port: 0,
    ...options,
  });
  onTestFinished(() => server.stop());
  return server;
}

async function failureOf<T extends Error>(
  promise: Promise<unknown>,
  type: abstract new (...parameters: never[]) => T,
): Promise<T> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(type);
  return error as T;
}

async function withBucket<T>(
  url: string,
  work: (bucket: Awaited<ReturnType<Kvm["create"]>>) => Promise<T>,
): Promise<T> {
  const connection = await connect({ servers: url });
  try {
    return await work(await new Kvm(connection).create("b"));
  } finally {
    await connection.close();
  }
}

async function takenPort(): Promise<number> {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  return (other.address() as AddressInfo).port;
}

test("is ready for JetStream when it has started", async () => {
  const server = await start();
  expect(server.url).toBe(`nats://127.0.0.1:${server.port}`);
  expect(server.version).toMatch(/^\d+\.\d+\.\d+/);
  expect(await isRunning(server.pid)).toBe(true);
  const value = await withBucket(server.url, async (bucket) => {
    await bucket.put("k", "v");
    return (await bucket.get("k"))?.string();
  });
  expect(value).toBe("v");
});

test("listens on the port that it is told", async () => {
  const first = await start();
  await first.stop();
  expect((await start({ port: first.port, portFallback: false })).port).toBe(first.port);
});

test("takes a free port when the wanted one is taken", async () => {
  const port = await takenPort();
  const server = await start({ port });
  expect(server.port).not.toBe(port);
});

test("fails on a taken port when it must not take another one", async () => {
  const port = await takenPort();
  const error = await failureOf(start({ port, portFallback: false }), NatsServerStartError);
  expect(error.reason).toBe("port-in-use");
});

test("stops within 3 seconds, frees the folder, and may be told twice", async () => {
  const server = await start();
  const before = performance.now();
  await Promise.all([server.stop(), server.stop()]);
  await server.stop();
  expect(performance.now() - before).toBeLessThan(3500);
  expect(await isRunning(server.pid)).toBe(false);
  expect((await server.exited).signal).toBeNull();
  await start();
});

test("stops a suspended server", async () => {
  const server = await start();
  server.kill("SIGSTOP");
  await server.stop();
  expect(await isRunning(server.pid)).toBe(false);
});

test("tells of an unwanted end, after which the folder can be used again", async () => {
  const server = await start();
  server.kill("SIGKILL");
  expect(await server.exited).toEqual({ code: null, signal: "SIGKILL" });
  server.kill("SIGKILL");
  await failureOf(start(), DataFolderInUseError);
  await server.stop();
  await start();
});

test.each(["SIGTERM", "SIGKILL"] as const)("keeps its data over %s", async (signal) => {
  const first = await start();
  await withBucket(first.url, (bucket) => bucket.put("k", "kept"));
  first.kill(signal);
  await first.stop();
  const second = await start();
  const value = await withBucket(second.url, async (bucket) => (await bucket.get("k"))?.string());
  expect(value).toBe("kept");
});

test("creates its data folder for the owner only", async () => {
  const server = await start({ dataDir: join(folder, "a", "b") });
  for (const path of [server.dataDir, join(server.dataDir, "nats")]) {
    expect((await stat(path)).mode & 0o777).toBe(0o700);
  }
  expect((await stat(join(server.dataDir, "nats", "nats.conf"))).mode & 0o777).toBe(0o600);
});

test
  .skipIf(process.platform === "win32")
  .each([
    "with blanks",
    `with "double" and 'single' quotes`,
    "ünï ☃ cödé",
    "$HOME {x} #not a comment; \\back\\slash",
  ])("works in a folder named %j", async (name) => {
  const dataDir = join(folder, name);
  const server = await start({ dataDir });
  await withBucket(server.url, (bucket) => bucket.put("k", "v"));
  expect(await stat(join(server.dataDir, "nats", "jetstream"))).toBeTruthy();
  expect(await readFile(server.logFile, "utf8")).toContain("Server is ready");
});

test("applies the largest message and extra configuration", async () => {
  const server = await start({ maxPayload: 3_000_000, extraConfig: "max_connections: 7" });
  const connection = await connect({ servers: server.url });
  onTestFinished(() => connection.close());
  expect(connection.info?.max_payload).toBe(3_000_000);
  expect(await readFile(join(server.dataDir, "nats", "nats.conf"), "utf8")).toContain(
    "max_connections: 7",
  );
});

test("passes on the server's log and says when it is ready", async () => {
  const lines: string[] = [];
  const server = await start({ onLog: (line) => lines.push(line) });
  expect(lines.at(-1)).toContain(`is ready on ${server.url}`);
  await vi.waitFor(() => expect(lines.join("\n")).toContain("Listening for client connections"), {
    timeout: 5000,
  });
  await server.stop();
  expect(lines.join("\n")).toContain("Server Exiting");
});

test("says what the server says about a wrong configuration, and frees the folder", async () => {
  const error = await failureOf(start({ extraConfig: "port: {" }), NatsServerStartError);
  expect(error.reason).toBe("exited");
  expect(error.logTail).toContain("Parse error");
  await start();
});

test("says that the program is missing", async () => {
  const missing = join(folder, "no-such-server");
  const error = await failureOf(start({ binary: missing }), NatsServerStartError);
  expect(error.reason).toBe("exited");
  expect(error.message).toContain(missing);
});

test("gives up on a server that does not become ready, and ends it", async () => {
  const pidFile = join(folder, "pid");
  const sleeper = join(folder, "sleeper");
  await writeFile(sleeper, `#!/bin/sh\necho $$ > '${pidFile}'\nexec sleep 60\n`, { mode: 0o755 });
  const error = await failureOf(
    start({ binary: sleeper, startTimeout: 400 }),
    NatsServerStartError,
  );
  expect(error.reason).toBe("timeout");
  expect(await isRunning(Number(await readFile(pidFile, "utf8")))).toBe(false);
});

test.skipIf(process.platform === "win32")("ends a server by force that does not stop", async () => {
  const stubborn = join(folder, "stubborn");
  await writeFile(
    stubborn,
    `#!${process.execPath}
process.on("SIGTERM", () => {});
const { readFileSync, writeFileSync } = require("node:fs");
const ports = /ports_file_dir: "(.*)"/.exec(readFileSync(process.argv[3], "utf8"))[1];
const info = 'INFO {"version":"2.99.0","auth_required":true}\\r\\n';
const server = require("node:net").createServer((socket) => socket.write(info));
server.listen(0, "127.0.0.1", () => {
  const content = { nats: ["nats://127.0.0.1:" + server.address().port] };
  writeFileSync(ports + "/stubborn_" + process.pid + ".ports", JSON.stringify(content));
});
`,
    { mode: 0o755 },
  );
  const server = await start({ binary: stubborn });
  const before = performance.now();
  await server.stop();
  expect(performance.now() - before).toBeLessThan(4000);
  expect(await server.exited).toEqual({ code: null, signal: "SIGKILL" });
});

test("one of two cores is left to this process, unless told otherwise", async () => {
  const coresOf = async (options: Partial<EmbeddedNatsOptions>): Promise<number> => {
    const dataDir = await mkdtemp(join(folder, "cores-"));
    await start({ dataDir, extraConfig: 'http: "127.0.0.1:-1"', ...options });
    const ports = join(dataDir, "nats", "ports");
    const [file] = await readdir(ports);
    const text = await readFile(join(ports, file!), "utf8");
    const { monitoring } = JSON.parse(text) as { monitoring: string[] };
    const response = await fetch(`${monitoring[0]!}/varz`);
    return ((await response.json()) as { gomaxprocs: number }).gomaxprocs;
  };
  const all = availableParallelism();
  expect(await coresOf({})).toBe(all === 2 ? 1 : all);
  expect(await coresOf({ cores: 2 })).toBe(2);
});
