import { post } from "../../support/client.js";
import { rate } from "../../support/format.js";
import { compare, speedup, warmUp } from "../../support/rounds.js";
import { isInMemory } from "../../support/work-folder.js";
import { BUCKET } from "../loads.js";
import { startStack } from "../stack.js";
import { result } from "../targets.js";

const names = ["jetbucket", "obvious", "etcd"];

/** Writes that are on disk when they are answered: `sync_interval: always`, and etcd, which always does so. */
export async function syncedPuts({ lifetime, folder, pace, note }) {
  const stack = await startStack(lifetime, {
    folder,
    sync: "always",
    against: names.slice(1),
  });
  await checkDurability(stack);
  if (isInMemory(folder)) {
    note(`${folder} is kept in memory: flushing costs nothing there, choose another with --dir`);
  }
  const contenders = stack.contenders(names, "put");
  await warmUp(lifetime, contenders, { seconds: pace.warmUp });
  const at64 = await compare(lifetime, contenders, { ...pace, connections: 64 });
  const at256 = await compare(lifetime, contenders, {
    ...pace,
    rounds: pace.sideRounds,
    connections: 256,
  });
  const versus = (other) => `${rate(at64.jetbucket.rps)}; ${other.system} ${rate(other.rps)}`;
  const results = [
    result("synced-64", speedup(at64.jetbucket, at64.obvious), versus(at64.obvious)),
  ];
  if (at64.etcd === undefined) {
    note("etcd is not installed, so nothing was measured against it: apt-get install etcd-server");
  } else {
    const ratio = speedup(at64.jetbucket, at64.etcd);
    results.push(result("synced-64-etcd", ratio, versus(at64.etcd)));
  }
  const measurements = [...Object.values(at64), ...Object.values(at256)].map((measurement) => ({
    load: "PUT, synced",
    ...measurement,
  }));
  return { results, measurements, versions: { etcd: stack.etcdVersion } };
}

/** Unless the gateway knows that NATS flushes every write, it has nothing to group commits for. */
async function checkDurability({ url }) {
  const { headers } = await post(`${url}/${BUCKET}/batch`, { get: ["key-1"] });
  const durability = headers.get("Durability");
  if (durability !== "fsync") throw new Error(`writes should be fsync, and are ${durability}`);
}
