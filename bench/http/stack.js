import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { post } from "../support/client.js";
import { startEtcd } from "../support/etcd.js";
import { startModule } from "../support/module-process.js";
import { startNats } from "../support/nats.js";
import { writeScript } from "../support/wrk.js";
import { BUCKET, VALUE, etcdLoads, keys, loads } from "./loads.js";

const module = (name) => new URL(`./${name}.js`, import.meta.url);

/**
 * Starts a nats-server and jetbucket on it, and the systems that it is measured against.
 *
 * @param {import("../support/lifetime.js").Lifetime} lifetime when it ends, they do
 * @param {{ folder: string, sync: string, against?: ("obvious" | "static" | "etcd")[] }} options `sync` says when NATS
 *   flushes to disk
 */
export async function startStack(lifetime, { folder, sync, against = [] }) {
  mkdirSync(folder, { recursive: true });
  const nats = await startNats(lifetime, folder, sync);
  const env = { NATS_URL: nats.url, NATS_MONITORING_URL: nats.monitoring };
  const gateway = await startModule(lifetime, new URL("../support/gateway.js", import.meta.url), {
    env,
    execArgv: ["--expose-gc"],
  });
  const systems = { jetbucket: { port: gateway.ready.port, pid: gateway.pid } };
  await makeBucket(gateway.ready.port);
  // The others find the bucket that jetbucket has made.
  for (const name of against) {
    if (name === "etcd") {
      systems.etcd = await startEtcd(lifetime, folder);
      continue;
    }
    const { ready, pid } = await startModule(lifetime, module(name), { env });
    systems[name] = { port: ready.port, pid };
  }

  /** A system under a load, ready to be measured; undefined for one that is not installed. */
  function contender(name, load) {
    const system = systems[name];
    if (system === undefined) return undefined;
    const { port, pid } = system;
    const requests = (name === "etcd" ? etcdLoads : loads)[load];
    return {
      name,
      port,
      script: writeScript(folder, `${name}-${load}`, requests),
      processes: { server: pid, ...(name in usesNats && { nats: nats.pid }) },
    };
  }

  return {
    nats,
    gateway,
    url: `http://127.0.0.1:${gateway.ready.port}/api/v1/kv/buckets`,
    etcdVersion: systems.etcd?.version,
    contenders: (names, load) =>
      names.map((name) => contender(name, load)).filter((each) => each !== undefined),
  };
}

const usesNats = { jetbucket: true, obvious: true };

async function makeBucket(port) {
  const base = `http://127.0.0.1:${port}/api/v1/kv/buckets`;
  await post(base, { name: BUCKET });
  await post(`${base}/${BUCKET}/batch`, { set: keys.map((key) => ({ key, value: VALUE })) });
}
