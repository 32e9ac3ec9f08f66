import { execFile } from "node:child_process";
import { readFile, readlink } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

import { errorCode } from "./errors.ts";

const execute = promisify(execFile);
const POLL_MS = 20;

/** Whether a process with this id runs. A zombie does not count: it holds nothing any more. */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it is there, but belongs to somebody else.
    if (errorCode(error) !== "EPERM") return false;
  }
  return (await linuxStat(pid))?.state !== "Z";
}

/**
 * When the process started, as an opaque text to compare for equality: it tells a process from a
 * later one that got the same id. Undefined when the process is gone or the system has no answer.
 */
export async function startTime(pid: number): Promise<string | undefined> {
  if (process.platform === "linux") return (await linuxStat(pid))?.startTime;
  return process.platform === "win32" ? undefined : ps(pid, "lstart=");
}

/** The process's command line, its arguments joined by blanks; undefined when there is none. */
export async function commandLine(pid: number): Promise<string | undefined> {
  if (process.platform === "linux") {
    const text = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    return text === "" ? undefined : text.replaceAll("\0", " ").trim();
  }
  if (process.platform === "win32") {
    const query = `(Get-CimInstance Win32_Process -Filter "ProcessId=${pid}").CommandLine`;
    return firstOutput("powershell", ["-NoProfile", "-NonInteractive", "-Command", query]);
  }
  return ps(pid, "command=");
}

/**
 * Names the space in which process ids are unique: this boot of this machine, and on Linux this
 * container. Process ids of another place say nothing about the processes here.
 */
export async function placeOfProcesses(): Promise<string> {
  if (process.platform !== "linux") return hostname();
  const [boot, space] = await Promise.all([
    readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => hostname()),
    readlink("/proc/self/ns/pid").catch(() => ""),
  ]);
  return `${boot.trim()} ${space}`;
}

/** Sends a signal; a process that is already gone is no error. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}

/** Asks a process to end, which also wakes it when it is suspended. */
export function terminate(pid: number): void {
  sendSignal(pid, "SIGTERM");
  if (process.platform !== "win32") sendSignal(pid, "SIGCONT");
}

/** Ends a process that is not our child: SIGTERM, and SIGKILL after `graceMs`. Waits for its end. */
export async function endProcess(pid: number, graceMs: number): Promise<void> {
  terminate(pid);
  if (await waitForEnd(pid, graceMs)) return;
  sendSignal(pid, "SIGKILL");
  await waitForEnd(pid, graceMs);
}

async function waitForEnd(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (await isRunning(pid)) {
    if (Date.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

async function linuxStat(pid: number): Promise<{ state: string; startTime: string } | undefined> {
  if (process.platform !== "linux") return undefined;
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The program's name, in parentheses, may itself hold blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, started] = [fields[0], fields[19]];
  return state === undefined || started === undefined ? undefined : { state, startTime: started };
}

function ps(pid: number, column: string): Promise<string | undefined> {
  return firstOutput("ps", ["-ww", "-o", column, "-p", String(pid)]);
}

async function firstOutput(program: string, parameters: string[]): Promise<string | undefined> {
  try {
    const { stdout } = await execute(program, parameters, { timeout: 5000, windowsHide: true });
    return stdout.trim() || undefined;
  } catch {
    return undefined;
  }
}
