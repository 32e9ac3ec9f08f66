import { randomUUID } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { DataFolderInUseError, errorCode } from "./errors.ts";
import { isRunning, placeOfProcesses, startTime } from "./processes.ts";

/** A held lock on a data folder. */
export type DataFolderLock = {
  /** Gives the folder back. May be called again. */
  release(): Promise<void>;
};

type LockOwner = {
  pid: number;
  /** See `startTime()`; null where the system does not tell. */
  started: string | null;
  /** See `placeOfProcesses()`. */
  place: string;
  hostname: string;
  /** Milliseconds since the epoch. */
  lockedAt: number;
};

const HEARTBEAT_MS = 2000;
/** How many heartbeats must be missing from a lock that cannot be judged by its process. */
const MISSED_HEARTBEATS = 3.25;
/** A lock that had no heartbeat for so long needs no watching. */
const LONG_SILENCE_MS = 5 * 60_000;
const CONTENTION_MS = 1000;
const CONTENTION_TRIES = 10;

/**
 * Locks a data folder for this process.
 *
 * Every contender first puts a file of its own into `<dataDir>/lock`, then looks at the others:
 * of two contenders at least one sees the other, and because no file name is ever used twice,
 * removing a dead owner's file can never remove a live one's.
 *
 * @param dataDir the folder, which exists
 * @param onLost called once if the lock's file disappears while it is held
 * @param heartbeat milliseconds between two signs of life; equal for all who use the folder
 * @throws DataFolderInUseError when a live process holds it. This is known at once for a process
 *   of the same machine and container, and after some missing heartbeats (7 seconds) for any other.
 */
export async function lockDataFolder(
  dataDir: string,
  onLost: () => void = () => undefined,
  heartbeat: number = HEARTBEAT_MS,
): Promise<DataFolderLock> {
  const folder = join(dataDir, "lock");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (let attempt = 1; ; attempt += 1) {
    const file = await announce(folder);
    const rival = await findLiveOwner(folder, file, heartbeat);
    if (rival === undefined) return hold(file, onLost, heartbeat);
    await rm(file, { force: true });
    const isContender = Date.now() - rival.lockedAt < CONTENTION_MS;
    if (!isContender || attempt >= CONTENTION_TRIES) {
      throw new DataFolderInUseError(dataDir, rival.pid, rival.hostname);
    }
    // Both of two simultaneous contenders may have stepped back: unequal waits let one through.
    await delay(10 + Math.random() * 60);
  }
}

async function announce(folder: string): Promise<string> {
  const owner: LockOwner = {
    pid: process.pid,
    started: (await startTime(process.pid)) ?? null,
    place: await placeOfProcesses(),
    hostname: hostname(),
    lockedAt: Date.now(),
  };
  const name = `${process.pid}-${randomUUID()}`;
  const draft = join(folder, `${name}.draft`);
  const file = join(folder, `${name}.json`);
  await writeFile(draft, JSON.stringify(owner), { mode: 0o600, flag: "wx" });
  await rename(draft, file);
  return file;
}

async function findLiveOwner(
  folder: string,
  own: string,
  heartbeat: number,
): Promise<LockOwner | undefined> {
  for (const name of await readdir(folder)) {
    const file = join(folder, name);
    if (file === own || !name.endsWith(".json")) continue;
    const owner = await readOwner(file);
    if (owner === undefined) continue;
    if (await isAlive(owner, file, heartbeat)) return owner;
    await rm(file, { force: true });
  }
  return undefined;
}

async function readOwner(file: string): Promise<LockOwner | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as LockOwner;
  } catch {
    // A power failure may leave the file empty. Only its heartbeat can tell then.
    return { pid: 0, started: null, place: "", hostname: "an unknown machine", lockedAt: 0 };
  }
}

async function isAlive(owner: LockOwner, file: string, heartbeat: number): Promise<boolean> {
  if (owner.place === (await placeOfProcesses())) {
    if (!(await isRunning(owner.pid))) return false;
    if (owner.started !== null) return owner.started === (await startTime(owner.pid));
  }
  return hasHeartbeat(file, heartbeat);
}

async function hasHeartbeat(file: string, heartbeat: number): Promise<boolean> {
  const first = await modifiedAt(file);
  if (first === undefined || Date.now() - first > LONG_SILENCE_MS) return false;
  // Only a change counts: the clocks of two machines need not agree.
  const deadline = Date.now() + MISSED_HEARTBEATS * heartbeat;
  while (Date.now() < deadline) {
    await delay(heartbeat / 8);
    const now = await modifiedAt(file);
    if (now === undefined) return false;
    if (now !== first) return true;
  }
  return false;
}

async function modifiedAt(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).mtimeMs;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

function hold(file: string, onLost: () => void, heartbeat: number): DataFolderLock {
  let released = false;
  const beating = setInterval(() => {
    const now = new Date();
    utimes(file, now, now).catch((error: unknown) => {
      if (errorCode(error) !== "ENOENT" || released) return;
      clearInterval(beating);
      onLost();
    });
  }, heartbeat);
  beating.unref();
  return {
    async release() {
      released = true;
      clearInterval(beating);
      await rm(file, { force: true });
    },
  };
}
