import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

import { compareVersions, probeServer } from "./version.ts";

/** Changes whenever the names or the meaning of the cached files change. */
const LAYOUT = "v1";
const WORK_PREFIX = "tmp-";
const ABANDONED_MS = 60 * 60_000;
const SUFFIX = `-${process.platform}-${process.arch}${process.platform === "win32" ? ".exe" : ""}`;
const PREFIX = "nats-server-";

/**
 * The folder where fetched programs are kept: JETBUCKET_CACHE_DIR, or `jetbucket` in the
 * customary cache folder of the system; in it, one folder per version of the layout.
 */
export function cacheFolder(
  env: NodeJS.ProcessEnv,
  platform: NodeJS.Platform = process.platform,
): string {
  return join(
    env.JETBUCKET_CACHE_DIR ? resolve(env.JETBUCKET_CACHE_DIR) : own(env, platform),
    LAYOUT,
  );
}

function own(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string {
  const home = env.HOME ?? homedir();
  // The XDG specification has relative paths ignored.
  if (env.XDG_CACHE_HOME && isAbsolute(env.XDG_CACHE_HOME)) {
    return join(env.XDG_CACHE_HOME, "jetbucket");
  }
  if (platform === "darwin") return join(home, "Library", "Caches", "jetbucket");
  if (platform === "win32") {
    return join(env.LOCALAPPDATA ?? join(homedir(), "AppData", "Local"), "jetbucket", "Cache");
  }
  return join(home, ".cache", "jetbucket");
}

/** The newest usable server in the cache, or why there is none. */
export async function findCached(
  cache: string,
): Promise<{ found: { path: string; version: string } } | { found?: undefined; reason: string }> {
  const names = await readdir(cache).catch(() => []);
  const candidates = names
    .filter((name) => name.startsWith(PREFIX) && name.endsWith(SUFFIX))
    .sort((a, b) => compareVersions(versionIn(b), versionIn(a)));
  const reasons: string[] = [];
  for (const name of candidates) {
    const path = join(cache, name);
    const probed = await probeServer(path);
    if (probed.usable) return { found: { path, version: probed.version } };
    reasons.push(probed.reason);
  }
  return { reason: reasons.length > 0 ? reasons.join("; ") : "has none" };
}

/**
 * Runs `work` in a temporary folder inside the cache, which is removed afterwards; so a program
 * made there can be moved to its place in one step.
 */
export async function withWorkFolder<T>(
  cache: string,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  await mkdir(cache, { recursive: true, mode: 0o700 });
  await removeAbandoned(cache);
  const folder = await mkdtemp(join(cache, WORK_PREFIX));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Moves a program into the cache after a look at what it is.
 *
 * @throws Error when it cannot be run here or is too old
 */
export async function keepInCache(
  cache: string,
  program: string,
): Promise<{ path: string; version: string }> {
  await chmod(program, 0o755);
  const probed = await probeServer(program);
  if (!probed.usable) throw new Error(probed.reason);
  const path = join(cache, `${PREFIX}${probed.version}${SUFFIX}`);
  try {
    await rename(program, path);
  } catch (error) {
    // Windows does not replace a program that runs: another process was faster, with the same.
    if (!(await probeServer(path)).usable) throw error;
  }
  return { path, version: probed.version };
}

async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(WORK_PREFIX)) continue;
    const path = join(cache, name);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined || Date.now() - found.mtimeMs < ABANDONED_MS) continue;
    await rm(path, { recursive: true, force: true });
  }
}

function versionIn(name: string): string {
  return name.slice(PREFIX.length, -SUFFIX.length);
}
