import { execFile, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, open, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";
import { cacheFolder, withWorkFolder } from "../../src/nats/cache.ts";
import { fetchPackage, readDebianSources } from "../../src/nats/debian.ts";
import { spawnGuarded } from "../../src/nats/guardian.ts";
import { readPortsFile } from "../../src/nats/ports.ts";
import { askJetStream } from "../../src/nats/readiness.ts";
import { parseServerVersion } from "../../src/nats/version.ts";
import type { TestNats } from "./nats.ts";

const execute = promisify(execFile);

/** The Debian release whose nats-server, 2.9, is the oldest that people may still have. */
const SUITE = "bookworm";

/** An old nats-server, or why there is none here. */
export type OldNats =
  { path: string; version: string; reason?: undefined } | { path?: undefined; reason: string };

/**
 * Finds Debian 12's own nats-server in the cache folder, or fetches it there by the machine's apt. Nothing is installed.
 */
export async function findOldNats(env: NodeJS.ProcessEnv = process.env): Promise<OldNats> {
  const cache = cacheFolder(env);
  const path = join(cache, `debian-12-nats-server-${process.platform}-${process.arch}`);
  const cached = await versionOf(path);
  if (cached !== undefined) return { path, version: cached };
  if (!["", "0"].includes(env.JETBUCKET_OFFLINE ?? ""))
    return { reason: "JETBUCKET_OFFLINE is set" };
  const [entry] = await readDebianSources();
  if (entry === undefined) return { reason: "there is no apt with Debian's archive here" };
  try {
    await withWorkFolder(cache, async (folder) => {
      const program = await fetchPackage(folder, entry, SUITE, env);
      await chmod(program, 0o755);
      await rename(program, path);
    });
  } catch (error) {
    return { reason: `Debian's package cannot be fetched: ${String(error).split("\n")[0] ?? ""}` };
  }
  const version = await versionOf(path);
  return version === undefined
    ? { reason: "Debian's program does not run here" }
    : { path, version };
}

async function versionOf(path: string): Promise<string | undefined> {
  try {
    return parseServerVersion((await execute(path, ["--version"])).stdout);
  } catch {
    return undefined;
  }
}

export interface ReplaceableNats extends TestNats {
  readonly version: string;
  /** Stops the server and starts another program on its port and data. */
  replaceBy(binary: string): Promise<void>;
}

interface Running {
  child: ChildProcess;
  port: number;
  version: string;
}

/** How long a server may take to answer, in milliseconds. */
const START = 20_000;

/** Runs a server with nothing but flags: the project's own launcher writes a configuration that an old one refuses. */
async function run(program: string, dataDir: string, port: number): Promise<Running> {
  const portsDir = await mkdtemp(join(dataDir, "ports-"));
  const output = await open(join(dataDir, "output"), "a");
  const flags = ["--addr", "127.0.0.1", "--port", String(port === 0 ? -1 : port)];
  const store = ["--jetstream", "--store_dir", join(dataDir, "store")];
  const child = spawnGuarded(
    program,
    [...flags, ...store, "--ports_file_dir", portsDir],
    output.fd,
  );
  await output.close();
  for (const deadline = Date.now() + START; Date.now() < deadline && child.exitCode === null;) {
    const ports = await readPortsFile(portsDir);
    const info = ports && (await askJetStream("127.0.0.1", ports.port));
    if (info !== undefined) return { child, port: ports!.port, version: info.version };
    await delay(10);
  }
  child.kill("SIGKILL");
  throw new Error(`${program} did not start: ${await readFile(join(dataDir, "output"), "utf8")}`);
}

/**
 * Starts a given nats-server program, of whatever version. It ends with the test in which it was started; elsewhere end it
 * with `close()`.
 */
export async function startNatsProgram(binary: string): Promise<ReplaceableNats> {
  const dataDir = await mkdtemp(join(tmpdir(), "jetbucket-nats-"));
  let program = binary;
  let server = await run(program, dataDir, 0);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const { child } = server;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  };
  const { port } = server;
  const nats: ReplaceableNats = {
    url: `nats://127.0.0.1:${port}`,
    port,
    dataDir,
    get version() {
      return server.version;
    },
    get pid() {
      return server.child.pid!;
    },
    pause: () => server.child.kill("SIGSTOP"),
    resume: () => server.child.kill("SIGCONT"),
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    async restart() {
      await end("SIGTERM");
      server = await run(program, dataDir, port);
    },
    async replaceBy(other) {
      program = other;
      await nats.restart();
    },
    async close() {
      await end("SIGKILL");
      await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  try {
    onTestFinished(() => nats.close());
  } catch {
    // Started outside a test: whoever started it closes it.
  }
  return nats;
}
