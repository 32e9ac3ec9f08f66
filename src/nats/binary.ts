import { stat } from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";

import { cacheFolder, findCached } from "./cache.ts";
import { fetchFromDebian } from "./debian.ts";
import { NatsServerNotFoundError, type FailedAttempt } from "./errors.ts";
import type { Fetcher } from "./fetcher.ts";
import { fetchRelease } from "./release.ts";
import { MINIMUM_NATS_VERSION, probeServer } from "./version.ts";

export { NatsServerNotFoundError } from "./errors.ts";
export { MINIMUM_NATS_VERSION } from "./version.ts";

/** A nats-server program that runs on this machine and is new enough. */
export type NatsServerBinary = {
  /** Absolute path. */
  path: string;
  /** For instance `2.14.5`. */
  version: string;
  /** Where it was found. "release" and "debian" say that it was fetched just now. */
  source: "NATS_SERVER_BIN" | "PATH" | "cache" | "release" | "debian";
};

/** What `findNatsServer()` may be told. */
export type FindNatsServerOptions = {
  /** The environment to look into. Default `process.env`. */
  env?: NodeJS.ProcessEnv;
  /** Gets a line of text when something starts that takes a while. */
  onProgress?: (line: string) => void;
};

const FETCHERS: readonly Fetcher[] = [fetchRelease, fetchFromDebian];

/**
 * Finds a nats-server of at least `MINIMUM_NATS_VERSION`, or fetches one into the cache folder.
 *
 * Looks at NATS_SERVER_BIN (which, when set, must fit: nothing else is tried), PATH, the cache
 * folder (JETBUCKET_CACHE_DIR or the system's customary place), the official release, and the
 * package of a newer Debian. With JETBUCKET_OFFLINE=1 nothing is fetched. Any number of processes
 * may do this at once.
 *
 * @throws NatsServerNotFoundError, which says what was tried and what to do
 *
 * @example
 * const { path, version } = await findNatsServer({ onProgress: console.error });
 */
export async function findNatsServer(
  options: FindNatsServerOptions = {},
  fetchers: readonly Fetcher[] = FETCHERS,
): Promise<NatsServerBinary> {
  const { env = process.env, onProgress = () => undefined } = options;
  const attempts: FailedAttempt[] = [];

  if (env.NATS_SERVER_BIN) return fromSetting(env.NATS_SERVER_BIN);
  attempts.push({ place: "NATS_SERVER_BIN", reason: "not set" });

  const onPath = await findOnPath(env);
  if (onPath.found) return { ...onPath.found, source: "PATH" };
  attempts.push({ place: "PATH", reason: onPath.reason });

  const cache = cacheFolder(env);
  const cached = await findCached(cache);
  if (cached.found) return { ...cached.found, source: "cache" };
  attempts.push({ place: `cache folder ${cache}`, reason: cached.reason });

  for (const { source, place, fetch } of fetchers) {
    if (isOffline(env)) {
      attempts.push({ place, reason: "not tried, since JETBUCKET_OFFLINE is set" });
      continue;
    }
    try {
      return { ...(await fetch({ cache, env, onProgress })), source };
    } catch (error) {
      attempts.push({ place, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  throw new NatsServerNotFoundError(
    `No nats-server ${MINIMUM_NATS_VERSION} or newer was found.`,
    attempts,
  );
}

async function fromSetting(setting: string): Promise<NatsServerBinary> {
  const path = resolve(setting);
  const probed = await probeServer(path);
  if (probed.usable) return { path, version: probed.version, source: "NATS_SERVER_BIN" };
  throw new NatsServerNotFoundError(
    "NATS_SERVER_BIN is set, but not to a nats-server that can be used.",
    [{ place: "NATS_SERVER_BIN", reason: probed.reason }],
  );
}

async function findOnPath(env: NodeJS.ProcessEnv) {
  const name = process.platform === "win32" ? "nats-server.exe" : "nats-server";
  const reasons: string[] = [];
  for (const folder of (env.PATH ?? "").split(delimiter)) {
    const path = resolve(join(folder, name));
    if (folder === "" || !(await isFile(path))) continue;
    const probed = await probeServer(path);
    if (probed.usable) return { found: { path, version: probed.version } };
    reasons.push(probed.reason);
  }
  return { reason: reasons.length > 0 ? reasons.join("; ") : "has no nats-server" };
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true;
}

function isOffline(env: NodeJS.ProcessEnv): boolean {
  return !["", "0", "false", "no"].includes((env.JETBUCKET_OFFLINE ?? "").toLowerCase());
}
