/**
 * Clients that come and go in front of several gateways, writers, and faults, each run from a seed; afterwards everything that
 * every client was sent is compared with everything that was written. WATCH_SEED repeats a run, WATCH_RUNS sets how many seeds
 * from there on are run, WATCH_MINUTES goes on for so long.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { knownBugs } from "../support/checker/bugs.ts";
import { planOf, type PlanOptions } from "../support/checker/plan.ts";
import { report, runChecker, type Outcome } from "../support/checker/run.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";

const SEED = Number(process.env.WATCH_SEED ?? Math.floor(Math.random() * 1e6));
const RUNS = Number(process.env.WATCH_RUNS ?? 0);
const MINUTES = Number(process.env.WATCH_MINUTES ?? 0);
const PARALLEL = Number(process.env.WATCH_PARALLEL ?? 4);
const isSoak = RUNS > 0 || MINUTES > 0;

const countsOf = ({ counts }: Pick<Outcome, "counts">): string =>
  [...counts].map(([name, number]) => `${number} ${name}`).join(", ");

/** Runs seeds, some at a time, until there are no more or the time is over; returns those that failed. */
async function campaign(seeds: Iterator<number>, options: PlanOptions): Promise<string[]> {
  const failed: string[] = [];
  const sum: Outcome["counts"] = new Map();
  const worker = async (): Promise<void> => {
    for (let next = seeds.next(); next.done !== true; next = seeds.next()) {
      const started = Date.now();
      const outcome = await runChecker(planOf(next.value, options));
      for (const [name, number] of outcome.counts) sum.set(name, (sum.get(name) ?? 0) + number);
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      if (outcome.violations.length > 0) failed.push(report(outcome));
      console.log(
        outcome.violations.length > 0
          ? report(outcome)
          : `WATCH_SEED=${next.value} ok in ${seconds} s: ${countsOf(outcome)}`,
      );
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  console.log(`all runs: ${countsOf({ counts: sum })}`);
  return failed;
}

function* seedsFrom(first: number, count: number, until: number): Generator<number> {
  for (let i = 0; i < count && Date.now() < until; i++) yield first + i;
}

/** What fits into the time that a test has: a part of what can go wrong. */
const SHORT: PlanOptions = { duration: 1_500, asProcesses: false, clients: 9, rest: 5 };
/** Seeds in which a bug has to be found. */
const BOUND = 4;

describe.skipIf(isSoak)("the watch checker", () => {
  let shared: TestNats;
  beforeAll(async () => {
    shared = await startTestNats();
  });

  test(`finds nothing wrong, seeds from ${SEED}`, async () => {
    expect(await campaign(seedsFrom(SEED, 4, Infinity), SHORT)).toEqual([]);
  }, 120_000);

  test.concurrent.each(Object.entries(knownBugs))(
    "finds %s",
    async (name, { make, kinds }) => {
      const number = Object.keys(knownBugs).indexOf(name);
      const found: string[] = [];
      for (let seed = SEED; seed < SEED + BOUND; seed++) {
        const prefix = `bug${number}-${seed}-`;
        const plan = planOf(seed, { ...SHORT, prefix, faults: [], heavy: 0, convergence: 500 });
        const { violations } = await runChecker(plan, make(), shared);
        found.push(...violations.map(({ kind }) => kind));
        if (found.some((kind) => kinds.includes(kind))) return;
      }
      expect(found, `seeds from ${SEED}`).toEqual(expect.arrayContaining([kinds[0]]));
    },
    120_000,
  );
});

test.runIf(isSoak)(
  `a campaign of the watch checker from seed ${SEED}`,
  async () => {
    const until = MINUTES > 0 ? Date.now() + MINUTES * 60_000 : Infinity;
    const failed = await campaign(seedsFrom(SEED, RUNS > 0 ? RUNS : Infinity, until), {});
    expect(failed).toEqual([]);
  },
  24 * 3_600_000,
);
