import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";

import { beforeEach, expect, onTestFinished, test, vi } from "vitest";

import { DataFolderInUseError } from "../../../src/nats/errors.ts";
import { lockDataFolder } from "../../../src/nats/lock.ts";
import { placeOfProcesses, startTime } from "../../../src/nats/processes.ts";
import { runScript } from "./gateway-process.ts";

/** Milliseconds; a short one keeps the tests short. */
const HEARTBEAT = 400;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-lock-"));
  onTestFinished(() => rm(folder, { recursive: true }));
});

/** Puts a lock into the folder as another process would have left it. */
async function leaveLock(owner: Record<string, unknown>, age = 0): Promise<string> {
  await mkdir(join(folder, "lock"), { recursive: true });
  const file = join(folder, "lock", `${crypto.randomUUID()}.json`);
  const place = await placeOfProcesses();
  await writeFile(
    file,
    JSON.stringify({ pid: 1, started: null, place, hostname: hostname(), lockedAt: 0, ...owner }),
  );
  const time = new Date(Date.now() - age);
  await utimes(file, time, time);
  return file;
}

function lockInAnotherProcess() {
  return runScript(
    { lockDataFolder: "lock.ts" },
    `await lockDataFolder(${JSON.stringify(folder)});
     console.log(JSON.stringify(process.pid));
     setInterval(() => {}, 1000);`,
  );
}

async function lock() {
  const held = await lockDataFolder(folder, undefined, HEARTBEAT);
  onTestFinished(() => held.release());
  return held;
}

test("refuses a folder that another process holds, and names it", async () => {
  const owner = await lockInAnotherProcess();
  const before = performance.now();
  const error: unknown = await lock().catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DataFolderInUseError);
  expect(error).toMatchObject({ pid: owner.pid, dataDir: folder });
  expect((error as Error).message).toContain(`process ${owner.pid}`);
  expect(performance.now() - before).toBeLessThan(1500);
});

test("takes over from a process that was killed", async () => {
  const owner = await lockInAnotherProcess();
  await owner.kill();
  await lock();
  expect(await readdir(join(folder, "lock"))).toHaveLength(1);
});

test("is free again after its release", async () => {
  const first = await lockDataFolder(folder);
  await expect(lockDataFolder(folder)).rejects.toThrow(DataFolderInUseError);
  await first.release();
  await first.release();
  await lock();
});

test.skipIf(process.platform === "win32")(
  "takes over when another process has the dead owner's id",
  async () => {
    await leaveLock({ pid: process.pid, started: `not ${await startTime(process.pid)}` });
    await lock();
  },
);

test("lets exactly one of many have it", async () => {
  await leaveLock({ pid: 2 ** 22 + 1, started: "long ago" });
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockDataFolder(folder)));
  const held = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  onTestFinished(async () => {
    await Promise.all(held.map((one) => one.release()));
  });
  expect(held).toHaveLength(1);
});

test("respects the owner in another container as long as its heart beats", async () => {
  const file = await leaveLock({ place: "elsewhere", hostname: "other", pid: 7 });
  const beat = setInterval(() => void utimes(file, new Date(), new Date()), HEARTBEAT / 2);
  onTestFinished(() => clearInterval(beat));
  await expect(lock()).rejects.toMatchObject({ pid: 7, hostname: "other" });
});

test("takes over from another container after a silence", async () => {
  await leaveLock({ place: "elsewhere" });
  await lock();
});

test("takes over at once from another container that was silent for long", async () => {
  await leaveLock({ place: "elsewhere" }, 10 * 60_000);
  const before = performance.now();
  await lock();
  expect(performance.now() - before).toBeLessThan(2000);
});

test("tells its holder when the lock is lost", async () => {
  const onLost = vi.fn();
  const held = await lockDataFolder(folder, onLost, HEARTBEAT);
  onTestFinished(() => held.release());
  await rm(join(folder, "lock"), { recursive: true });
  await vi.waitFor(() => expect(onLost).toHaveBeenCalledOnce(), { timeout: 10_000 });
});
