import { setTimeout as sleep } from "node:timers/promises";
import { milliseconds } from "../../support/format.js";
import { median, medianInterval } from "../../support/statistics.js";
import { result } from "../../support/targets.js";
import { targets } from "../targets.js";
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
const CALM = 700;
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
  // Each round is compared with the one beside it: what is slow on the machine for a while is slow for both.
  const ratios = (of) => rounds.beside.map((round, i) => of(round) / of(rounds.without[i]));
  const late = ratios(({ p99 }) => p99);
  const change = median(late);
  const [least, most] = medianInterval(late);
  const { isMet } = targets.stalled;
  // Where it could as well be on the other side of the target, nobody can tell.
  const isClear = isMet(least) === isMet(most);
  const work = median(ratios(({ cpu }) => cpu.server));
  say(`p99 ${milliseconds(without.p99)} without, ${milliseconds(beside.p99)} beside`);
  const times = (ratio) => `${ratio.toFixed(2)} x`;
  return {
    measurements: [without, beside],
    results: [
      result(
        "stalled",
        isClear ? change : NaN,
        `median of ${late.length} pairs of rounds, of all such pairs between ${times(least)} and ${times(most)}; p99 ${milliseconds(beside.p99)}, without it ${milliseconds(without.p99)}; CPU per delivery ${times(work)}${isClear ? "" : `; ${times(change)}, but the rounds differ too much: is the machine busy?`}`,
      ),
      lossResult("stalled-losses", [without, beside]),
    ],
  };
}
