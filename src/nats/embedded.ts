import { access, open, mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import type { ServerInfo } from "./ask.ts";
import { renderConfig } from "./config.ts";
import { NatsServerStartError } from "./errors.ts";
import { abandon, spawnGuarded } from "./guardian.ts";
import { lockDataFolder } from "./lock.ts";
import { followLines, tailOf } from "./log-file.ts";
import { isPortFree, readPortsFile, type ServerPorts } from "./ports.ts";
import { commandLine, endProcess, isRunning, sendSignal, terminate } from "./processes.ts";
import { askJetStream } from "./readiness.ts";
import { findRevivals, removeRevivals } from "./revivals.ts";

export { DataFolderInUseError, NatsServerStartError } from "./errors.ts";

/** How to run a nats-server of our own. */
export type EmbeddedNatsOptions = {
  /** The nats-server program, for instance `(await findNatsServer()).path`. */
  binary: string;
  /** Where everything is kept; created with mode 0700 when missing. One server per folder. */
  dataDir: string;
  /** The client port; 0 means any free one. Default 4222. */
  port?: number;
  /** When `port` is taken: use a free one (true, the default) or fail (false). */
  portFallback?: boolean;
  /** The address to listen on. Default 127.0.0.1. */
  host?: string;
  /**
   * When JetStream flushes writes to disk: "always", before each acknowledgement (the default), or
   * at intervals such as "2m". With an interval, a power failure loses what was written since.
   */
  syncInterval?: string;
  /** The largest message, in bytes. Default: the server's own, 1 MiB. */
  maxPayload?: number;
  /** The server's name. Default "jetbucket". */
  name?: string;
  /**
   * Cores that the server uses at most. Default: `GOMAXPROCS` of this process; else one of two, since the other one is ours, and
   * on larger machines all.
   */
  cores?: number;
  /** Gets each line of the server's log, at most half a second late, and a line when it is ready. */
  onLog?: (line: string) => void;
  /** More lines for the server's configuration file, in its own syntax. */
  extraConfig?: string;
  /** How long to wait for readiness, in milliseconds; a big store is checked first. Default 60000. */
  startTimeout?: number;
};

/** How a server ended: by an exit code, or by a signal. */
export type NatsServerExit = { code: number | null; signal: string | null };

/** A running nats-server that this process started and owns. */
export type EmbeddedNatsServer = {
  /** For clients, for instance `nats://127.0.0.1:4222`. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** The server's version, for instance `2.14.5`. */
  readonly version: string;
  /** The data folder as an absolute path without symbolic links. */
  readonly dataDir: string;
  readonly logFile: string;
  /** Settles when the server ends, wanted or not. Never rejects. */
  readonly exited: Promise<NatsServerExit>;
  /**
   * Stops the server cleanly, by force after 3 seconds, and gives the data folder back. To be
   * called after an unwanted end as well, since the folder stays locked until then. May be called
   * again.
   */
  stop(): Promise<void>;
  /** Sends a signal to the server. Nothing happens when it has ended. */
  kill(signal: NodeJS.Signals): void;
};

const DEFAULT_PORT = 4222;
const DEFAULT_START_TIMEOUT_MS = 60_000;
const STOP_GRACE_MS = 3000;
const POLL_MS = 10;
const ANY_FREE_PORT = -1;

type Launch = EmbeddedNatsOptions & { host: string; files: ServerFiles };

/**
 * Starts a nats-server with JetStream on a data folder and waits until JetStream answers.
 *
 * The server ends with this process, even when this process is killed, and is not reached by
 * Ctrl-C in a terminal. A server that was nevertheless left behind on the folder is stopped first.
 * After one that was killed, values that nats-server would bring back to life are removed first.
 *
 * @throws DataFolderInUseError when another live process works on the folder
 * @throws NatsServerStartError when the server ends early, is not ready in time, or its port is
 *   taken and `portFallback` is false
 *
 * @example
 * const { path } = await findNatsServer();
 * const server = await startNatsServer({ binary: path, dataDir: "./data" });
 * console.log(server.url);
 * await server.stop();
 */
export async function startNatsServer(options: EmbeddedNatsOptions): Promise<EmbeddedNatsServer> {
  await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
  // One folder under two names must still be one folder to the lock and to the orphan's check.
  const dataDir = await realpath(options.dataDir);
  let running: EmbeddedNatsServer | undefined;
  const lock = await lockDataFolder(dataDir, () => running?.kill("SIGKILL"));
  try {
    const files = serverFiles(dataDir);
    await stopOrphan(files);
    const host = options.host ?? "127.0.0.1";
    const launch = { ...options, dataDir, host, files };
    if (await exists(files.runningFile)) await recover(launch);
    const server = await launchOnPort(launch);
    running = {
      ...server,
      async stop() {
        await server.stop();
        const { code } = await server.exited;
        if (code === 0) await rm(files.runningFile, { force: true });
        await lock.release();
      },
    };
    options.onLog?.(
      `nats-server ${running.version} is ready on ${running.url} (pid ${running.pid}, data ${dataDir})`,
    );
    return running;
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The address of the server that runs on a data folder now, as it says itself; undefined when it does not say. */
export async function findRunningServer(
  dataDir: string,
  host = "127.0.0.1",
): Promise<string | undefined> {
  const { portsDir } = serverFiles(await realpath(dataDir));
  const ports = await readPortsFile(portsDir).catch(() => undefined);
  return ports && `nats://${addressFor(host)}:${ports.port}`;
}

/**
 * Puts right what a server that was not stopped has left behind. Another one does it, on a port that nobody knows, so that
 * nobody sees what it was before.
 */
async function recover(launch: Launch): Promise<void> {
  const revivals = await findRevivals(launch.files.storeDir);
  if (revivals.length === 0) return;
  const server = await launchServer(launch, ANY_FREE_PORT);
  try {
    const isDone = await removeRevivals(reachable(launch.host), server.port, revivals);
    launch.onLog?.(
      isDone
        ? "nats-server was not stopped the last time: old revisions that it brought back were removed"
        : "nats-server was not stopped the last time: old revisions may have come back",
    );
  } finally {
    await server.stop();
  }
}

async function launchOnPort(launch: Launch): Promise<EmbeddedNatsServer> {
  const { host, port = DEFAULT_PORT, portFallback = true } = launch;
  if (port !== 0) {
    if (await isPortFree(host, port)) {
      try {
        return await launchServer(launch, port);
      } catch (error) {
        // Another process may have taken the port between our look and the server's.
        const exited = error instanceof NatsServerStartError && error.reason === "exited";
        if (!exited || (await isPortFree(host, port))) throw error;
      }
    }
    if (!portFallback) {
      throw new NatsServerStartError("port-in-use", `Port ${port} of ${host} is already in use.`);
    }
  }
  return launchServer(launch, ANY_FREE_PORT);
}

/**
 * What tells the server how many cores to use. With two threads on two cores that it shares with the gateway it spends a
 * quarter of its time on waking and parking them.
 */
function coresOf({ cores }: EmbeddedNatsOptions): NodeJS.ProcessEnv {
  if (cores !== undefined) return { GOMAXPROCS: String(cores) };
  return process.env.GOMAXPROCS === undefined && availableParallelism() === 2
    ? { GOMAXPROCS: "1" }
    : {};
}

async function launchServer(launch: Launch, port: number): Promise<EmbeddedNatsServer> {
  const { binary, dataDir, files, host, onLog } = launch;
  await rm(files.portsDir, { recursive: true, force: true });
  await mkdir(files.portsDir, { recursive: true, mode: 0o700 });
  const config = renderConfig({
    ...files,
    host,
    port,
    name: launch.name ?? "jetbucket",
    syncInterval: launch.syncInterval ?? "always",
    maxPayload: launch.maxPayload,
    extraConfig: launch.extraConfig,
  });
  await writeFile(files.configFile, config, { mode: 0o600 });
  await writeFile(files.runningFile, "", { mode: 0o600 });

  const stopFollowing = onLog === undefined ? undefined : followLines(files.logFile, onLog);
  const output = await open(files.outputFile, "w", 0o600);
  const child = spawnGuarded(binary, ["--config", files.configFile], output.fd, coresOf(launch));
  const state = { hasExited: false };
  const exited = new Promise<NatsServerExit>((resolve) => {
    const end = (exit: NatsServerExit): void => {
      state.hasExited = true;
      resolve(exit);
    };
    child.once("exit", (code, signal) => end({ code, signal }));
    child.once("error", () => end({ code: null, signal: null }));
  });
  void exited.then(() => stopFollowing?.());
  await output.close();

  const ready = await waitUntilReady(launch, () => state.hasExited);
  if (typeof ready === "string") {
    if (!state.hasExited) abandon(child);
    await exited;
    const log = [await tailOf(files.outputFile), await tailOf(files.logFile)];
    const message =
      ready === "exited"
        ? `nats-server (${binary}) ended before it was ready, ${describeExit(await exited)}.`
        : `nats-server (${binary}) was not ready within ${launch.startTimeout ?? DEFAULT_START_TIMEOUT_MS} ms.`;
    throw new NatsServerStartError(ready, message, log.filter((text) => text !== "").join("\n"));
  }

  const { info, ports } = ready;
  let stopping: Promise<void> | undefined;

  async function stopOnce(): Promise<void> {
    if (!state.hasExited) terminate(ports.pid);
    const timer = setTimeout(() => {
      if (!state.hasExited) sendSignal(ports.pid, "SIGKILL");
    }, STOP_GRACE_MS);
    await exited;
    clearTimeout(timer);
    await stopFollowing?.();
  }

  return {
    url: `nats://${addressFor(host)}:${ports.port}`,
    host,
    port: ports.port,
    pid: ports.pid,
    version: info.version,
    dataDir,
    logFile: files.logFile,
    exited,
    stop: () => (stopping ??= stopOnce()),
    kill(signal) {
      if (!state.hasExited) sendSignal(ports.pid, signal);
    },
  };
}

async function waitUntilReady(
  { files, host, startTimeout = DEFAULT_START_TIMEOUT_MS }: Launch,
  hasExited: () => boolean,
): Promise<{ info: ServerInfo; ports: ServerPorts } | "exited" | "timeout"> {
  const deadline = Date.now() + startTimeout;
  while (Date.now() < deadline) {
    if (hasExited()) return "exited";
    // Only our server writes this file, so the port in it is not somebody else's.
    const ports = await readPortsFile(files.portsDir);
    const info = ports && (await askJetStream(reachable(host), ports.port));
    if (ports !== undefined && info !== undefined) return { info, ports };
    await delay(POLL_MS);
  }
  return "timeout";
}

type ServerFiles = ReturnType<typeof serverFiles>;

function serverFiles(dataDir: string) {
  const folder = join(dataDir, "nats");
  return {
    configFile: join(folder, "nats.conf"),
    storeDir: folder,
    logFile: join(folder, "nats-server.log"),
    /** What the server says before it has opened its log, and when it crashes. */
    outputFile: join(folder, "nats-server.out"),
    pidFile: join(folder, "nats-server.pid"),
    portsDir: join(folder, "ports"),
    /** There as long as the server has not been stopped. */
    runningFile: join(folder, "nats-server.running"),
  };
}

/** Stops a server that an earlier owner of the folder left behind. The folder's lock is ours. */
async function stopOrphan({ configFile, pidFile }: ServerFiles): Promise<void> {
  const pid = Number.parseInt(await readFile(pidFile, "utf8").catch(() => ""), 10);
  if (!(pid > 1) || pid === process.pid || !(await isRunning(pid))) return;
  // The id may belong to any other program by now.
  const command = await commandLine(pid);
  if (command?.includes(configFile) === true) await endProcess(pid, STOP_GRACE_MS);
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

function describeExit({ code, signal }: NatsServerExit): string {
  if (signal !== null) return `by ${signal}`;
  return code === null ? "since it could not be run" : `with exit code ${code}`;
}

function reachable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "::1" : host;
}

function addressFor(host: string): string {
  const address = reachable(host);
  return address.includes(":") ? `[${address}]` : address;
}
