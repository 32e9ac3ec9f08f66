import { setTimeout as sleep } from "node:timers/promises";
import { cpuTime } from "../../support/cpu.js";
import { count, milliseconds } from "../../support/format.js";
import { median } from "../../support/statistics.js";
import { result } from "../../support/targets.js";
import { startStack } from "../stack.js";

/** Updates per second all the time. */
const RATE = 4;
/** Connections that the clients make at the same time. */
const PARALLEL = 500;
/** How long all may take to come, in milliseconds. */
const PATIENCE = 60_000;

/**
 * All sockets of a gateway are cut at once and come again with their positions, while a writer writes. It is over when all
 * are ready and have an update that was written after the last one was.
 */
export async function storm({ lifetime, folder, pace, options, say }) {
  const size = pace.stormSockets;
  const stack = await startStack(lifetime, "jetbucket", {
    folder,
    buckets: { bench: { groups: 100, perGroup: 1 } },
    profile: options.profile,
  });
  const { writer } = stack;
  await writer.call("fill", { bucket: "bench" });
  // Every connection needs a port of its own for a while, also when it is gone.
  const crowd = await stack.gather("crowd", { size, include: "snapshot", addresses: 8 });
  const first = await crowd.connect({ parallel: PARALLEL, patience: PATIENCE });
  say(`${count(size)} sockets were ready after ${milliseconds(first.all)}`);
  const storms = [];
  for (let i = 0; i < pace.storms; i++) {
    const base = await writer.call("position", { bucket: "bench" });
    await crowd.begin({ base, sampleEvery: 1000 });
    await writer.call("start", { bucket: "bench", rate: RATE });
    await sleep(1000);
    const used = () => [stack.processes.gateway, stack.processes.clients].map(cpuTime);
    const before = used();
    const cut = await crowd.disconnect();
    const ready = await crowd.connect({
      parallel: PARALLEL,
      patience: PATIENCE,
      isResuming: true,
    });
    const n = (await writer.call("reached")) + 1;
    const at = await crowd.reach({ n, patience: 10_000 });
    if (at === undefined) throw new Error(`update ${n} did not come to all sockets`);
    const [gateway, clients] = used().map((each, k) => (each - before[k]) / 1e6);
    const written = await writer.call("stop");
    await crowd.reach({ n: written.n, patience: 10_000 });
    const outcome = await crowd.finish(written);
    if (outcome.failure !== undefined) throw new Error(outcome.failure);
    const time = at - cut;
    say(
      `storm: all ready after ${milliseconds(ready.at - cut)}, consistent after ${milliseconds(time)}`,
    );
    storms.push({ ready: ready.at - cut, time, gateway, clients, ...outcome });
  }
  const sum = (name) => storms.reduce((total, each) => total + each[name], 0);
  const resets = Object.entries(storms.at(-1).resets).map(([why, many]) => `${many} ${why}`);
  const of = (name) => median(storms.map((each) => each[name]));
  const time = of("time");
  const cpu = `CPU: gateway ${of("gateway").toFixed(1)} s, clients ${of("clients").toFixed(1)} s`;
  return {
    measurements: [
      {
        kind: "ready",
        load: "first connect",
        sockets: size,
        half: first.half,
        all: first.all,
      },
      {
        kind: "ready",
        load: `reconnect storm, ${RATE} updates/s`,
        sockets: size,
        half: NaN,
        all: time,
      },
    ],
    results: [
      result(
        "storm",
        time / 1000,
        `${count(size)} sockets; all ready after ${milliseconds(of("ready"))}; ${cpu}; resets: ${resets.join(", ") || "none"}`,
      ),
      result(
        "storm-losses",
        sum("lost") + sum("closed") + sum("duplicates") + sum("untold"),
        `${count(sum("lost"))} keys, ${sum("closed")} sockets, ${count(sum("duplicates"))} twice, ${count(sum("untold"))} updates left out`,
      ),
    ],
  };
}
