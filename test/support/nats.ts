import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, onTestFinished } from "vitest";

import { findNatsServer } from "../../src/nats/binary.ts";
import { startNatsServer, type EmbeddedNatsServer } from "../../src/nats/embedded.ts";

export type TestNatsOptions = {
  /** A data folder that survives the server; default: a temporary one, removed at teardown. */
  dataDir?: string;
  /** Default: any free port. A port that is taken is an error. */
  port?: number;
  /** Default "2m": tests need speed, not durability. */
  syncInterval?: string;
  /** The largest message, in bytes. */
  maxPayload?: number;
  /** More lines for the server's configuration file. */
  extraConfig?: string;
};

export type TestNats = {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  /** Changes with `restart()`. */
  readonly pid: number;
  /** Suspends the server: connections stay open, nothing is answered. */
  pause(): void;
  /** Ends `pause()`. */
  resume(): void;
  /** Kills the server at once, as a crash would, and waits for its end. */
  kill(): Promise<void>;
  /** Stops the server cleanly; its data stay for `restart()`. */
  stop(): Promise<void>;
  /** Starts the server again on the same port and data; stops it first when it runs. */
  restart(): Promise<void>;
  /** Kills the server and removes its temporary data folder. Teardown calls it. */
  close(): Promise<void>;
};

const open = new Set<TestNats>();

afterAll(async () => {
  await Promise.all([...open].map((nats) => nats.close()));
});

/**
 * Starts a real nats-server for a test, on a free port with data of its own.
 *
 * Nothing needs to be torn down by hand: a server started inside a test (or `beforeEach`) ends
 * with that test, one started in `beforeAll` ends with the test file. In a `test.concurrent`,
 * where vitest cannot tell which test is calling, it may end with another test: start it before.
 *
 * @example
 * test("survives a restart of NATS", async () => {
 *   const nats = await startTestNats();
 *   const store = await connectStore({ url: nats.url });
 *   await nats.restart();
 * });
 */
export async function startTestNats(options: TestNatsOptions = {}): Promise<TestNats> {
  const starting = start(options);
  try {
    onTestFinished(async () => (await starting).close());
  } catch {
    // Not inside a test: the file's afterAll closes it.
  }
  return starting;
}

async function start(options: TestNatsOptions): Promise<TestNats> {
  const { path: binary } = await findNatsServer();
  const { dataDir: givenDir, port = 0, syncInterval = "2m", ...rest } = options;
  const dataDir = givenDir ?? (await mkdtemp(join(tmpdir(), "jetbucket-nats-")));
  const settings = { ...rest, binary, dataDir, syncInterval, portFallback: false };
  let server: EmbeddedNatsServer;
  try {
    server = await startNatsServer({ ...settings, port });
  } catch (error) {
    if (givenDir === undefined) await rm(dataDir, { recursive: true, force: true });
    throw error;
  }
  const { url } = server;
  const nats: TestNats = {
    url,
    port: server.port,
    dataDir,
    get pid() {
      return server.pid;
    },
    pause: () => server.kill("SIGSTOP"),
    resume: () => server.kill("SIGCONT"),
    async kill() {
      server.kill("SIGKILL");
      await server.stop();
    },
    stop: () => server.stop(),
    async restart() {
      await server.stop();
      server = await startNatsServer({ ...settings, port: nats.port });
    },
    async close() {
      open.delete(nats);
      await nats.kill();
      if (givenDir === undefined) await rm(dataDir, { recursive: true, force: true });
    },
  };
  open.add(nats);
  return nats;
}
