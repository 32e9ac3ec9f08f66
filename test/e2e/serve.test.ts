import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { call, callJson } from "../support/gateway.ts";

/** A gateway as a process of its own, from the built package, with its own embedded NATS server. */
interface GatewayProcess {
  child: ChildProcess;
  url: string;
  nats: { url: string; version: string; embedded: boolean; dataDir: string };
  output(): string;
}

const running = new Set<ChildProcess>();
let dataDir: string;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "jetbucket-serve-"));
});

afterEach(async () => {
  for (const child of running) {
    child.kill("SIGTERM");
    await exitOf(child);
  }
  running.clear();
  await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
});

function run(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], {
    env: { ...process.env, PORT: "0", JETBUCKET_NATS_PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  return child;
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode;
}

async function start(
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<GatewayProcess> {
  const child = run(args, { JETBUCKET_DATA_DIR: dataDir, JETBUCKET_SYNC: "2m", ...env });
  let output = "";
  const ready = new Promise<{ url: string; nats: GatewayProcess["nats"] }>((resolve, reject) => {
    const read = (chunk: Buffer): void => {
      output += chunk.toString();
      const line = output
        .split("\n")
        .find((each) => each.includes('"msg":"ready"') && each.endsWith("}"));
      if (line !== undefined) resolve(JSON.parse(line) as GatewayProcess);
    };
    child.stdout!.on("data", read);
    child.stderr!.on("data", read);
    child.on("exit", () => reject(new Error(`the gateway ended: ${output}`)));
  });
  const { url, nats } = await ready;
  return { child, url, nats, output: () => output };
}

/** Whether something listens on a port of this machine. */
async function isTaken(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once("error", reject).listen(port, "127.0.0.1", resolve);
    });
    return false;
  } catch {
    return true;
  } finally {
    probe.close();
  }
}

const portOf = (url: string): number => Number(/:(\d+)$/.exec(url)![1]);

describe("starting", () => {
  test("prints the address, the NATS in use and where the data lies", async () => {
    const gateway = await start();
    expect(gateway.output()).toContain(gateway.url);
    expect(gateway.output()).toMatch(
      /NATS +nats:\/\/127\.0\.0\.1:\d+, nats-server 2\.\d+\.\d+ \(embedded\)/,
    );
    expect(gateway.output()).toContain(gateway.nats.dataDir);
    expect((await stat(gateway.nats.dataDir)).isDirectory()).toBe(true);
    expect((await call("GET", `${gateway.url}/health`)).body).toEqual({ status: "ok" });
    expect((await call("GET", `${gateway.url}/ready`)).body).toEqual({ status: "ready" });
  });

  test("documents flags and variables with --help", async () => {
    const child = run(["--help"]);
    let output = "";
    child.stdout!.on("data", (chunk: Buffer) => (output += chunk.toString()));
    expect(await exitOf(child)).toBe(0);
    for (const name of [
      "--port",
      "PORT",
      "--host",
      "HOST",
      "NATS_URL",
      "JETBUCKET_DATA_DIR",
      "JETBUCKET_NATS_PORT",
      "NATS_CREDS",
    ]) {
      expect(output).toContain(name);
    }
  });

  test.each([
    [["--port", "ninety"], "--port"],
    [["--colour"], "--colour"],
    [["--host", "0.0.0.0"], "--insecure"],
    [["--sync", "sometimes"], "--sync"],
  ])("refuses %j by name", async (args, name) => {
    const child = run(args);
    let output = "";
    child.stderr!.on("data", (chunk: Buffer) => (output += chunk.toString()));
    expect(await exitOf(child)).toBe(2);
    expect(output).toContain(name);
  });

  test("says so when its port is taken", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address() as AddressInfo;
    const child = run(["--port", String(port)], { JETBUCKET_DATA_DIR: dataDir });
    let output = "";
    child.stderr!.on("data", (chunk: Buffer) => (output += chunk.toString()));
    expect(await exitOf(child)).toBe(1);
    expect(output).toContain(`port ${port} on 127.0.0.1 is taken`);
    holder.close();
  });

  test("takes another NATS port when the wanted one is taken, and says which", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address() as AddressInfo;
    const gateway = await start(["--nats-port", String(port)]);
    expect(portOf(gateway.nats.url)).not.toBe(port);
    expect(gateway.output()).toContain(
      `port ${port} is taken: the embedded NATS server uses ${portOf(gateway.nats.url)}`,
    );
    holder.close();
  });

  test("runs beside another gateway with its own data folder, and refuses to share one", async () => {
    const other = await mkdtemp(join(tmpdir(), "jetbucket-serve-"));
    const [first, second] = await Promise.all([start(), start([], { JETBUCKET_DATA_DIR: other })]);
    await callJson("POST", `${first.url}/api/v1/kv/buckets`, { name: "mine" });
    expect((await call("GET", `${second.url}/api/v1/kv/buckets`)).body).toEqual({
      buckets: [],
      count: 0,
    });
    const third = run([], { JETBUCKET_DATA_DIR: other });
    let output = "";
    third.stderr!.on("data", (chunk: Buffer) => (output += chunk.toString()));
    expect(await exitOf(third)).toBe(1);
    expect(output).toContain(String(second.child.pid));
    second.child.kill("SIGTERM");
    await exitOf(second.child);
    await rm(other, { recursive: true, force: true, maxRetries: 5 });
  });

  test("connects to the NATS server that NATS_URL names", async () => {
    const first = await start();
    const second = await start([], { NATS_URL: first.nats.url });
    expect(second.nats.embedded).toBe(false);
    await callJson("POST", `${first.url}/api/v1/kv/buckets`, { name: "shared" });
    expect((await call("GET", `${second.url}/api/v1/kv/buckets/shared`)).status).toBe(200);
  });
});

describe("stopping", () => {
  test.each(["SIGINT", "SIGTERM"] as const)(
    "%s stops gateway and NATS within 5 seconds, watchers are sent elsewhere",
    async (signal) => {
      const gateway = await start();
      await callJson("POST", `${gateway.url}/api/v1/kv/buckets`, { name: "b" });
      const socket = new WebSocket(
        `${gateway.url.replace("http", "ws")}/api/v1/kv/buckets/b/watch`,
      );
      await once(socket, "open");
      const closed = once(socket, "close");
      const started = Date.now();
      gateway.child.kill(signal);
      expect(await exitOf(gateway.child)).toBe(0);
      expect(Date.now() - started).toBeLessThan(5_000);
      expect((await closed)[0]).toBe(1001);
      expect(await isTaken(portOf(gateway.nats.url))).toBe(false);
    },
  );

  test("a killed gateway leaves no NATS server behind, and the next start finds the data", async () => {
    const first = await start();
    await callJson("POST", `${first.url}/api/v1/kv/buckets`, { name: "b" });
    await callJson("PUT", `${first.url}/api/v1/kv/buckets/b/keys/k`, { kept: true });
    first.child.kill("SIGKILL");
    await exitOf(first.child);
    await expect.poll(() => isTaken(portOf(first.nats.url)), { timeout: 10_000 }).toBe(false);
    const second = await start();
    expect((await call("GET", `${second.url}/api/v1/kv/buckets/b/keys/k`)).body).toMatchObject({
      value: { kept: true },
      revision: 1,
    });
  });

  test("a NATS server that dies is started again on its port", async () => {
    const gateway = await start();
    await callJson("POST", `${gateway.url}/api/v1/kv/buckets`, { name: "b" });
    await callJson("PUT", `${gateway.url}/api/v1/kv/buckets/b/keys/k`, 1);
    process.kill(await natsPid(), "SIGKILL");
    await expect.poll(() => gateway.output(), { timeout: 10_000 }).toContain("starting it again");
    await expect
      .poll(async () => (await call("GET", `${gateway.url}/api/v1/kv/buckets/b/keys/k`)).status, {
        timeout: 20_000,
      })
      .toBe(200);
  });
});

/** The pid of the nats-server that works on the data folder. */
async function natsPid(): Promise<number> {
  return Number(await readFile(join(dataDir, "nats", "nats-server.pid"), "utf8"));
}
