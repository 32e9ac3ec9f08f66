import { setTimeout as sleep } from "node:timers/promises";
import { milliseconds } from "../../support/format.js";
import { result } from "../../support/targets.js";
import { lossResult, measureRound, summary } from "../rounds.js";
import { startStack } from "../stack.js";

const SIZE = 200;
/** Updates per second. */
const RATE = 500;
/**
 * What is written to other keys, which only the stalled socket watches, so that it is stalled when the measurement begins:
 * more than the system takes for one that does not read.
 */
const FLOOD = { prefix: "flood.x", keys: 16, count: 64, size: 128 * 1024 };
/** How long everything has to come to rest after it, in milliseconds. */
const CALM = 1_000;
/** How much the rounds may differ: largest over smallest. */
const CLEAR = 2;

/** Largest over smallest of some numbers; of ten and more without the two on the outside. */
function spread(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const inner = sorted.length < 10 ? sorted : sorted.slice(1, -1);
  return inner.at(-1) / inner[0];
}

/** What happens before every round, with and without the socket, so that it makes no difference but for that. */
async function flood(writer) {
  await writer.call("flood", { bucket: "bench", ...FLOOD });
  await sleep(CALM);
}

/** One socket that reads nothing among many that do: what do the others notice? */
export async function stalled({ lifetime, folder, pace, options, say }) {
  const stack = await startStack(lifetime, "jetbucket", { folder, profile: options.profile });
  const { writer, clients, port } = stack;
  const crowd = await stack.gather("crowd", { size: SIZE, filters: ["*.*"] });
  await crowd.connect();
  const load = { rate: RATE, seconds: pace.stalledSeconds };
  await measureRound(stack, crowd, { ...load, seconds: 2 });
  const rounds = { without: [], beside: [] };
  const measure = {
    without: async () => {
      await flood(writer);
      rounds.without.push(await measureRound(stack, crowd, load));
    },
    beside: async () => {
      const path = "/api/v1/kv/buckets/bench/watch?include=updates&key=*.*&key=flood.*.*";
      await clients.call("stall", { port, path, protocol: "jetbucket.v1" });
      await flood(writer);
      rounds.beside.push(await measureRound(stack, crowd, load));
      const { isStalled, isEstablished, unread } = await clients.call("release");
      if (!isStalled) {
        throw new Error(
          `the socket that reads nothing was not stalled: ${unread} bytes waited for it, ${isEstablished ? "" : "not "}connected`,
        );
      }
    },
  };
  for (let i = 0; i < pace.stalledRounds; i++) {
    // A B, B A, A B: what changes slowly on the machine hits both alike.
    const names = ["without", "beside"];
    if (i % 2 === 1) names.reverse();
    for (const name of names) await measure[name]();
  }
  const without = summary(
    "jetbucket",
    { load: `${RATE} updates/s`, sockets: SIZE },
    rounds.without,
  );
  const beside = summary(
    "jetbucket",
    { load: `${RATE} updates/s beside a stalled socket`, sockets: SIZE },
    rounds.beside,
  );
  // Where all rounds together differ by more than that, either it changes much or nobody can tell.
  const isClear =
    spread(
      Object.values(rounds)
        .flat()
        .map(({ p99 }) => p99),
    ) <= CLEAR;
  const change = isClear ? beside.p99 / without.p99 : NaN;
  say(`p99 ${milliseconds(without.p99)} without, ${milliseconds(beside.p99)} beside`);
  return {
    measurements: [without, beside],
    results: [
      result(
        "stalled",
        change,
        `p99 ${milliseconds(beside.p99)}; without it ${milliseconds(without.p99)}; medians of ${rounds.beside.length} rounds each${isClear ? "" : ", which differ too much among themselves: is the machine busy?"}`,
      ),
      lossResult("stalled-losses", [without, beside]),
    ],
  };
}
