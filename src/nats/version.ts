import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { errorCode } from "./errors.ts";

const execute = promisify(execFile);
const RUN_TIMEOUT_MS = 10_000;

/** The oldest nats-server that has everything jetbucket uses. */
export const MINIMUM_NATS_VERSION = "2.12.0";

/** The result of asking a program for its version. */
export type ProbedServer =
  | { readonly usable: true; readonly version: string }
  | { readonly usable: false; readonly reason: string };

type Version = { numbers: readonly [number, number, number]; preview: boolean };

/**
 * The version in the output of `nats-server --version`, without the leading "v".
 *
 * @example
 * parseServerVersion("nats-server: v2.14.5\n"); // "2.14.5"
 */
export function parseServerVersion(output: string): string | undefined {
  return /^nats-server:\s+v?(\d+\.\d+\.\d+(?:[-+.~][\w.+~-]*)?)\s*$/m.exec(output)?.[1];
}

/** Orders two versions: negative when `a` is older. A preview is older than its release. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [parseVersion(a), parseVersion(b)];
  for (const index of [0, 1, 2] as const) {
    const difference = left.numbers[index] - right.numbers[index];
    if (difference !== 0) return difference;
  }
  return Number(right.preview) - Number(left.preview);
}

/** Runs a program to see whether it is a nats-server that is new enough. */
export async function probeServer(path: string): Promise<ProbedServer> {
  let output: string;
  try {
    ({ stdout: output } = await execute(path, ["--version"], {
      timeout: RUN_TIMEOUT_MS,
      windowsHide: true,
    }));
  } catch (error) {
    return { usable: false, reason: `${path} cannot be run (${describeFailure(error)})` };
  }
  const version = parseServerVersion(output);
  if (version === undefined) {
    return { usable: false, reason: `${path} does not say which nats-server it is` };
  }
  if (compareVersions(version, MINIMUM_NATS_VERSION) < 0) {
    return { usable: false, reason: `${path} is ${version}, older than ${MINIMUM_NATS_VERSION}` };
  }
  return { usable: true, version };
}

function parseVersion(text: string): Version {
  const found = /^(\d+)\.(\d+)\.(\d+)(-)?/.exec(text);
  return {
    numbers: [Number(found?.[1] ?? 0), Number(found?.[2] ?? 0), Number(found?.[3] ?? 0)],
    preview: found?.[4] !== undefined,
  };
}

function describeFailure(error: unknown): string {
  const code = errorCode(error);
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "it is not executable";
  if (code !== undefined) return code;
  return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
}
