/** The peer: etcd, as Debian packages it, with an empty data folder and ports of its own. */
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { spawnGuarded } from "../../dist/nats/guardian.js";
import { isInstalled } from "./program.js";

const START = 15_000;

/**
 * @returns `{ port, pid, version }` of its client side, where its JSON gateway answers; undefined when etcd is not
 * installed
 */
export async function startEtcd(lifetime, folder) {
  if (!isInstalled("etcd")) return undefined;
  const [port, peerPort] = await freePorts(2);
  const client = `http://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const log = openSync(join(folder, "etcd.log"), "w");
  // It ends with this process, whatever happens to it; see there.
  const child = spawnGuarded(
    "env",
    [
      ...environment(),
      "etcd",
      ...["--name", "bench", "--data-dir", join(folder, "etcd")],
      ...["--listen-client-urls", client, "--advertise-client-urls", client],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", `bench=${peer}`, "--logger", "zap", "--log-level", "error"],
    ],
    log,
  );
  closeSync(log);
  const exited = once(child, "exit");
  lifetime.own(async () => {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 3_000);
    await exited;
    clearTimeout(timer);
  });
  for (const deadline = Date.now() + START; ; await sleep(50)) {
    const health = await fetch(`${client}/health`)
      .then((response) => response.json())
      .catch(() => undefined);
    if (health?.health === "true") break;
    if (child.exitCode !== null) throw new Error(`etcd ended: see ${folder}/etcd.log`);
    if (Date.now() > deadline) throw new Error(`etcd is not ready: see ${folder}/etcd.log`);
  }
  const { etcdserver: version } = await (await fetch(`${client}/version`)).json();
  return { port, pid: child.pid, version };
}

/** Settings for etcd that this shell may have must not change what is measured. */
function environment() {
  const unset = Object.keys(process.env).filter((name) => name.startsWith("ETCD_"));
  // It wants to be told that a processor other than amd64 is meant.
  const platform = process.arch === "x64" ? [] : [`ETCD_UNSUPPORTED_ARCH=${process.arch}`];
  return [...unset.flatMap((name) => ["-u", name]), ...platform];
}

/** etcd cannot choose its ports itself: it has to be told what to advertise. */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}
