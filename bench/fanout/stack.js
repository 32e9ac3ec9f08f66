import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { post } from "../support/client.js";
import { startModule } from "../support/module-process.js";
import { startNats } from "../support/nats.js";

const module = (name) => new URL(name, import.meta.url);

/**
 * What the sockets connect to. Every system has a nats-server of its own, clients of its own and a writer of its own, so
 * that none has to carry what another one left behind.
 */
export const systems = {
  jetbucket: { kind: "jetbucket", module: module("../support/gateway.js") },
  naive: { kind: "plain", module: module("naive.js"), isDisposable: true },
  shared: { kind: "plain", module: module("shared.js"), isDisposable: true },
  nats: { kind: "nats" },
};

/**
 * NATS's own WebSockets. What it keeps for a client that does not keep up is 64 MiB by default: a thousand such clients
 * would take more memory than there is.
 */
const WEBSOCKET = `websocket { host: "127.0.0.1", port: -1, no_tls: true }
max_pending: 8MB`;

/**
 * Starts a system with one bucket, a writer and clients.
 *
 * @param {import("../support/lifetime.js").Lifetime} lifetime when it ends, they do
 * @param {keyof typeof systems} name
 * @param {{ folder: string, buckets?: Record<string, { groups: number, perGroup: number }>, history?: number, profile?: string }} options the
 *   buckets and the keys that are written to them (default: one of 1000 keys, called "bench"); a folder for a CPU profile
 *   of the gateway
 */
export async function startStack(
  lifetime,
  name,
  { folder, buckets = BENCH, history = HISTORY, profile },
) {
  const data = `${folder}/${name}-${++started}`;
  mkdirSync(data, { recursive: true });
  const { kind, module: server, isDisposable = false } = systems[name];
  // The core that `npm start` leaves to the gateway must not be missing where there is none, or where NATS does the work.
  const cores = kind === "jetbucket" ? undefined : availableParallelism();
  const nats = await startNats(lifetime, data, "2m", kind === "nats" ? WEBSOCKET : "", cores);
  const env = { NATS_URL: nats.url };
  const writer = await startModule(lifetime, module("writer.js"), { env });
  if (kind !== "jetbucket") {
    for (const bucket of Object.keys(buckets)) await writer.call("create", { bucket, history });
  }
  const processes = { nats: nats.pid };
  let gateway;
  if (server !== undefined) {
    const profiling =
      profile === undefined
        ? []
        : ["--cpu-prof", "--cpu-prof-interval=500", `--cpu-prof-dir=${profile}`];
    gateway = await startModule(lifetime, server, {
      env,
      execArgv: ["--expose-gc", ...profiling],
      isDisposable,
    });
    processes.gateway = gateway.pid;
  }
  const port = gateway?.ready.port ?? Number(new URL(nats.websocket).port);
  for (const [bucket, keys] of Object.entries(buckets)) {
    if (kind === "jetbucket") {
      await post(`http://127.0.0.1:${port}/api/v1/kv/buckets`, {
        name: bucket,
        history,
      });
    }
    await writer.call("use", { bucket, ...keys });
  }
  const clients = await startModule(lifetime, module("clients.js"), {});
  processes.clients = clients.pid;

  return {
    name,
    port,
    gateway,
    writer,
    clients,
    /** By what they are: `nats`, `gateway`, `clients`. What serves the sockets is `processes.server`. */
    processes: { ...processes, server: processes.gateway ?? processes.nats },
    /**
     * Gets watchers of a bucket ready to connect; see {@link Crowd}.
     *
     * @returns calls of that crowd, by their names
     */
    async gather(crowd, { bucket = "bench", ...options }) {
      const common = { kind, port, bucket, ...buckets[bucket] };
      await clients.call("gather", { name: crowd, ...common, ...options });
      const call = (each, more, patience) =>
        clients.call(each, { name: crowd, ...more }, patience && patience + MARGIN);
      return {
        bucket,
        connect: ({ parallel = PARALLEL, patience = CONNECT, ...more } = {}) =>
          call("connect", { parallel, patience, ...more }, patience),
        disconnect: () => call("disconnect"),
        begin: (more) => call("begin", more),
        mark: () => call("mark"),
        reach: ({ n, patience }) => call("reach", { n, patience }, patience),
        finish: (written) => call("finish", { written }),
      };
    },
  };
}

/**
 * Revisions that a bucket keeps of each key. With only one, the default of NATS and of jetbucket, JetStream itself would leave out what was replaced before it was
 * read, and nobody could tell who lost it.
 */
const HISTORY = 64;
const BENCH = { bench: { groups: 1000, perGroup: 1 } };
/** Connections that are being made at the same time. */
const PARALLEL = 100;
/** How long all of them may take, in milliseconds. */
const CONNECT = 30_000;
/** What the clients may take beyond their own patience to tell so. */
const MARGIN = 10_000;
let started = 0;
