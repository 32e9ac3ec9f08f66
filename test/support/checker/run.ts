/** One run of the watch checker. */
import { setTimeout as delay } from "node:timers/promises";
import { Random } from "../model-random.ts";
import { startTestNats, type TestNats } from "../nats.ts";
import { Attempts } from "./attempts.ts";
import { install, type Bug } from "./bugs.ts";
import { Client, Page } from "./client.ts";
import { commit, createBucket, type FaultContext, type Trouble } from "./faults.ts";
import { GatewaySlot } from "./gateways.ts";
import type { Life } from "./log.ts";
import { parsed } from "./position.ts";
import { describePlan, type Plan } from "./plan.ts";
import { Recorder } from "./recorder.ts";
import { differenceAtEnd, verify, type Counts, type Violation } from "./verify.ts";
import { Writer } from "./writers.ts";

export interface Outcome {
  plan: Plan;
  violations: Violation[];
  counts: Counts;
  clients: readonly Client[];
  lives: readonly Life[];
}

/** One after the other. */
class Mutex {
  /** Resolves when nobody is in it. */
  free: Promise<void> = Promise.resolve();

  async run<T>(act: () => Promise<T>): Promise<T> {
    const before = this.free;
    let release!: () => void;
    this.free = new Promise((resolve) => (release = resolve));
    await before;
    try {
      return await act();
    } finally {
      release();
    }
  }
}

/** The longest life of a value that has one, and a little more. */
const EXPIRY = 2_300;

/**
 * Carries out a plan, and compares what clients got with what was written.
 *
 * @param bug a bug that it has to find
 * @param shared a NATS server that others use, too; without it the run has its own
 */
export async function runChecker(plan: Plan, bug: Bug = {}, shared?: TestNats): Promise<Outcome> {
  // Else a nats-server that is killed loses writes that it has acknowledged.
  const isKilled = plan.faults.some(({ kind }) => kind === "nats restarted");
  const nats = shared ?? (await startTestNats(isKilled ? { syncInterval: "always" } : {}));
  const closers: (() => Promise<void> | void)[] = [];
  if (shared === undefined) closers.push(() => nats.close());
  if (bug.inside !== undefined) closers.push(install(plan.prefix, bug.inside));
  try {
    return await carryOut(plan, bug, nats, closers);
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

async function carryOut(
  plan: Plan,
  bug: Bug,
  nats: TestNats,
  closers: (() => Promise<void> | void)[],
): Promise<Outcome> {
  const { seed, buckets } = plan;
  const random = (part: number): Random => new Random((seed * 1009 + part) * 31);
  const recorder = await Recorder.connect(nats.url);
  closers.push(() => recorder.close());
  let number = 0;
  const slots = await Promise.all(
    Array.from({ length: plan.gateways }, async () => {
      const slot = await GatewaySlot.open(nats.port, plan.asProcesses, () => ++number, bug.tap);
      closers.push(() => slot.end());
      return slot;
    }),
  );

  const gate = new Mutex();
  const stage = new Mutex();
  const troubles: Trouble[] = [];
  const context: FaultContext = {
    nats,
    recorder,
    slots,
    buckets,
    troubles,
    hold: (during) => gate.run(during),
    alone: (act) => stage.run(act),
  };
  for (const bucket of buckets) await createBucket(context, bucket);

  const attempts = new Attempts();
  const writers = Array.from(
    { length: plan.writers },
    (_, i) =>
      new Writer({
        number: i,
        random: random(100 + i),
        buckets,
        slots,
        attempts,
        natsUrl: nats.url,
        rest: plan.rest,
        heavy: plan.heavy,
        gate: () => gate.free,
      }),
  );
  const writing = writers.map((writer) => writer.run());
  const clients = startClients(plan, slots, random, bug);
  const watching = clients.map((client) => client.run());

  closers.push(async () => {
    for (const writer of writers) writer.stop();
    for (const client of clients) client.end();
    await Promise.all([...writing, ...watching]);
  });

  const started = Date.now();
  const broken: Violation[] = [];
  const faults = plan.faults.map(async ({ at, kind }, i) => {
    await delay(at - (Date.now() - started));
    try {
      await commit(kind, context, random(500 + i));
    } catch (error) {
      broken.push({
        client: "faults",
        connection: 0,
        kind: "harness",
        what: `${kind}: ${String(error)}`,
      });
    }
  });
  await Promise.all([delay(plan.duration), ...faults]);
  for (const writer of writers) writer.stop();
  await Promise.all(writing);
  for (const client of clients) client.finish();

  const finalLives = new Map(buckets.map(({ name }) => [name, recorder.current(name)!]));
  try {
    await delay(EXPIRY);
    const deadline = Date.now() + plan.convergence;
    let isSame = false;
    while (!isSame && Date.now() < deadline) {
      for (const life of finalLives.values()) await recorder.fill(life);
      isSame = clients.every(
        (client) =>
          differenceAtEnd(client, finalLives.get(client.plan.watch.bucket)!) === undefined,
      );
      if (!isSame) await delay(50);
    }
  } finally {
    // Their records stay as they are: what they know now is what is checked.
    for (const client of clients) client.freeze();
  }
  const outcome = verify({ clients, lives: recorder.lives, attempts, troubles, finalLives });
  outcome.violations.push(...broken);
  outcome.violations.push(...(await differencesOfBuckets(recorder, finalLives)));
  outcome.counts.set(
    "writes",
    writers.reduce((sum, { writes }) => sum + writes, 0),
  );
  return { plan, ...outcome, clients, lives: recorder.lives };
}

function startClients(
  plan: Plan,
  slots: readonly GatewaySlot[],
  random: (part: number) => Random,
  bug: Bug,
): Client[] {
  const pages = [new Page(), new Page()];
  const clients = plan.clients.map((each, i) => {
    const page = each.transport === "multiplexed" ? pages[i % pages.length] : undefined;
    return new Client(each, random(1000 + i), slots, page, bug.frames);
  });
  const filtersOf = ({ plan: { watch } }: Client): string =>
    [...(watch.filters.length === 0 ? [">"] : watch.filters)].sort().join(" ");
  for (const client of clients) {
    client.othersPosition = () => {
      for (const other of clients) {
        if (other.plan.watch.bucket !== client.plan.watch.bucket) continue;
        if (filtersOf(other) === filtersOf(client)) continue;
        const { position } = other.replica;
        if (position !== undefined && parsed(position)?.hash !== undefined) return position;
      }
      return undefined;
    };
  }
  return clients;
}

/** Whether the log itself tells what is stored. */
async function differencesOfBuckets(
  recorder: Recorder,
  lives: ReadonlyMap<string, Life>,
): Promise<Violation[]> {
  const violations: Violation[] = [];
  for (const [bucket, life] of lives) {
    for (const { key, stored, latest } of await recorder.differences(life)) {
      const what = `${bucket}: of ${key} revision ${stored} is stored, the log has ${JSON.stringify({ ...latest, batch: undefined })}`;
      violations.push({ client: "the log", connection: 0, kind: "log", what });
    }
  }
  return violations;
}

/** Reports of each kind that are shown of a run. */
const SHOWN = 3;

/** What to say of a run that went wrong. */
export function report({ plan, violations, clients }: Outcome): string {
  const byKind = new Map<string, Violation[]>();
  for (const violation of violations)
    byKind.set(violation.kind, [...(byKind.get(violation.kind) ?? []), violation]);
  const lines = [...byKind].flatMap(([kind, all]) => [
    `${kind}: ${all.length}`,
    ...all
      .slice(0, SHOWN)
      .map(({ client, connection, what }) => `- ${client}, connection ${connection}: ${what}`),
  ]);
  return [
    `${violations.length} violations, ${clients.length} clients; ${describePlan(plan)}`,
    ...lines,
    `again: npm run soak -- watch --seed ${plan.seed} --runs 1`,
  ].join("\n");
}
