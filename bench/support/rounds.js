import { cpuTime } from "./cpu.js";
import { median } from "./statistics.js";
import { wrk } from "./wrk.js";

/**
 * Measures systems against each other: A B C, A B C, A B C, in short rounds, since other work on the machine comes and
 * goes, and neighbours in time have had the same share of it.
 *
 * @param {import("./lifetime.js").Lifetime} lifetime
 * @param {{ name: string, port: number, script: string, processes: Record<string, number> }[]} contenders
 *   `processes` are those whose CPU time counts, by name
 * @param {{ connections: number, rounds: number, seconds: number }} options
 * @returns {Promise<Record<string, Measurement>>} by the contenders' names
 */
export async function compare(lifetime, contenders, { connections, rounds, seconds }) {
  const results = new Map(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) {
      results.get(contender.name).push(await measure(lifetime, contender, connections, seconds));
    }
  }
  return Object.fromEntries(
    Array.from(results, ([name, each]) => [name, summary(name, connections, each)]),
  );
}

/** Lets every system compile what it will run. */
export async function warmUp(lifetime, contenders, { seconds, connections = 64 }) {
  for (const contender of contenders) await measure(lifetime, contender, connections, seconds);
}

async function measure(lifetime, { port, script, processes }, connections, seconds) {
  const times = () => Object.values(processes).map(cpuTime);
  const before = times();
  const result = await wrk(lifetime, { port, script, connections, seconds });
  const after = times();
  const cpu = Object.fromEntries(
    Object.keys(processes).map((name, i) => [name, (after[i] - before[i]) / result.requests]),
  );
  return { ...result, cpu };
}

/**
 * @typedef {object} Measurement medians over the rounds
 * @property {string} system
 * @property {number} connections
 * @property {number} rps requests per second
 * @property {number} p50 milliseconds
 * @property {number} p99 milliseconds
 * @property {Record<string, number>} cpu microseconds of CPU per request, by process
 * @property {object[]} rounds
 */
function summary(system, connections, rounds) {
  const of = (get) => median(rounds.map(get));
  const cpu = Object.keys(rounds[0].cpu).map((name) => [name, of((round) => round.cpu[name])]);
  return {
    system,
    connections,
    rps: of(({ rps }) => rps),
    p50: of(({ p50 }) => p50),
    p99: of(({ p99 }) => p99),
    cpu: Object.fromEntries(cpu),
    rounds,
  };
}

/** How many times as fast the first one is: the median of the rounds' ratios, each of them between neighbours in time. */
export function speedup(measurement, baseline) {
  return median(measurement.rounds.map(({ rps }, i) => rps / baseline.rounds[i].rps));
}
