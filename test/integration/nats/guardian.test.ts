import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { Kvm } from "@nats-io/kv";
import { connect } from "nats";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";

import { startNatsServer } from "../../../src/nats/embedded.ts";
import { isRunning, sendSignal } from "../../../src/nats/processes.ts";
import { runScript } from "./gateway-process.ts";

const binary = process.env.NATS_SERVER_BIN!;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-guardian-"));
  onTestFinished(() => rm(folder, { recursive: true, maxRetries: 5, retryDelay: 100 }));
});

/** A gateway that ignores Ctrl-C, as one does while it drains. */
async function startGateway() {
  const gateway = await runScript(
    { startNatsServer: "embedded.ts" },
    `process.on("SIGINT", () => {});
     const server = await startNatsServer(${JSON.stringify({ binary, dataDir: folder, port: 0 })});
     console.log(JSON.stringify({ url: server.url, pid: server.pid }));`,
  );
  const nats = gateway.said as { url: string; pid: number };
  onTestFinished(() => sendSignal(nats.pid, "SIGKILL"));
  return { gateway, nats };
}

async function putOne(url: string): Promise<void> {
  const connection = await connect({ servers: url });
  await (await new Kvm(connection).create("b")).put("k", "kept");
  await connection.close();
}

async function readOne(url: string): Promise<string | undefined> {
  const connection = await connect({ servers: url });
  const entry = await (await new Kvm(connection).open("b")).get("k");
  await connection.close();
  return entry?.string();
}

async function startHere() {
  const server = await startNatsServer({ binary, dataDir: folder, port: 0 });
  onTestFinished(() => server.stop());
  return server;
}

async function expectEnd(pid: number): Promise<void> {
  await vi.waitFor(async () => expect(await isRunning(pid)).toBe(false), { timeout: 5000 });
}

describe.skipIf(process.platform === "win32")("a gateway that dies", () => {
  test("takes its server along, and the next one has the data", async () => {
    const { gateway, nats } = await startGateway();
    await putOne(nats.url);
    await gateway.kill();
    await expectEnd(nats.pid);
    expect(await readOne((await startHere()).url)).toBe("kept");
  });

  test("takes even a suspended server along", async () => {
    const { gateway, nats } = await startGateway();
    sendSignal(nats.pid, "SIGSTOP");
    await gateway.kill();
    await expectEnd(nats.pid);
  });

  test("can be replaced at once", async () => {
    const { gateway, nats } = await startGateway();
    await putOne(nats.url);
    await gateway.kill();
    expect(await readOne((await startHere()).url)).toBe("kept");
    expect(await isRunning(nats.pid)).toBe(false);
  });

  test("can be replaced even if its guardian died as well", async () => {
    const { gateway, nats } = await startGateway();
    await putOne(nats.url);
    const { stdout } = await promisify(execFile)("ps", ["-e", "-o", "pid=,ppid="]);
    const guardians = stdout
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number))
      .filter(([, parent]) => parent === nats.pid);
    expect(guardians).toHaveLength(1);
    sendSignal(guardians[0]![0]!, "SIGKILL");
    await gateway.kill();
    expect(await isRunning(nats.pid)).toBe(true);
    const next = await startHere();
    expect(await isRunning(nats.pid)).toBe(false);
    expect(await readOne(next.url)).toBe("kept");
  });
});

test.skipIf(process.platform === "win32")("Ctrl-C does not reach the server", async () => {
  const { gateway, nats } = await startGateway();
  gateway.signal("SIGINT", { group: true });
  await putOne(nats.url);
  expect(await readOne(nats.url)).toBe("kept");
  expect(await isRunning(nats.pid)).toBe(true);
});

describe("the guardian for systems without a shell", () => {
  const start = (then: string) =>
    runScript(
      { spawnGuarded: "guardian.ts" },
      `import { openSync } from "node:fs";
       const program = "console.log(process.pid); process.stdin.resume(); setInterval(() => {}, 1000)";
       const child = spawnGuarded(process.execPath, ["-e", program], 1, {}, "node");
       ${then}`,
    );

  test("ends the program when its parent is killed", async () => {
    const parent = await start("setInterval(() => {}, 1000);");
    const pid = parent.said as number;
    expect(await isRunning(pid)).toBe(true);
    await parent.kill();
    await expectEnd(pid);
  });
});
