import { setTimeout as sleep } from "node:timers/promises";
import { kilobytes } from "../../support/format.js";
import { residentMemory } from "../../support/cpu.js";
import { result } from "../../support/targets.js";
import { measureRound } from "../rounds.js";
import { startStack } from "../stack.js";

/** Sockets that come and go first: what is loaded and compiled with them is not theirs. */
const FIRST = 1000;
/** Updates per second for the active sockets, and how often their memory is looked at meanwhile, in milliseconds. */
const RATE = 20;
const LOOK = 100;

/** What a socket takes in the gateway: idle, and while updates go to all of them. */
export async function memory({ lifetime, folder, pace, say }) {
  const measurements = [];
  for (const name of ["jetbucket", "shared"]) {
    const measured = await lifetime.within((inner) => measure(inner, name, folder, pace));
    say(`${name}: ${kilobytes(measured.idle.rss)} idle, ${kilobytes(measured.active)} active`);
    measurements.push(measured);
  }
  const [own, shared] = measurements;
  const evidence = ({ idle }) => `heap ${kilobytes(idle.heap)}, resident ${kilobytes(idle.rss)}`;
  return {
    measurements,
    results: [
      result(
        "memory",
        Math.max(own.idle.heap, own.idle.rss) / 1024,
        `${evidence(own)}; shared: ${evidence(shared)}`,
      ),
    ],
  };
}

async function measure(lifetime, name, folder, pace) {
  const stack = await startStack(lifetime, name, { folder });
  const first = await stack.gather("first", { size: FIRST });
  await first.connect();
  await measureRound(stack, first, { rate: RATE, lead: 0, seconds: 1 });
  await first.disconnect();
  const size = pace.memorySockets;
  const crowd = await stack.gather("crowd", { size });
  const before = await stack.gateway.call("memory");
  await crowd.connect({ parallel: 200 });
  const after = await stack.gateway.call("memory");
  // While the gateway works its heap holds garbage, too: that is what it takes from the system.
  let highest = 0;
  let isOver = false;
  const watching = (async () => {
    for (; !isOver; await sleep(LOOK)) {
      highest = Math.max(highest, residentMemory(stack.processes.gateway));
    }
  })();
  const round = await measureRound(stack, crowd, { rate: RATE, seconds: pace.seconds });
  isOver = true;
  await watching;
  if (round.received === 0) throw new Error("no updates arrived");
  const each = (get) => (get(after) - get(before)) / size;
  return {
    kind: "memory",
    system: name,
    sockets: size,
    idle: { heap: each(({ heap }) => heap), rss: each(({ rss }) => rss) },
    active: (highest - before.rss) / size,
  };
}
