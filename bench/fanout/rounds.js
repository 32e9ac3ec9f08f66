import { setTimeout as sleep } from "node:timers/promises";
import { cpuTime } from "../support/cpu.js";
import { count } from "../support/format.js";
import { median } from "../support/statistics.js";
import { result } from "../support/targets.js";

/** How long what was written may take to arrive after the last write, in milliseconds. */
const SETTLE = 5_000;

/**
 * Writes for a while and looks at what arrives.
 *
 * @param stack of {@link startStack}
 * @param crowd of its `gather`, connected
 * @param {{ rate?: number, window?: number, lead?: number, seconds: number, sampleEvery?: number }} load updates per second,
 *   or how many of them are always under way; seconds before the measurement, and of it
 * @returns {Promise<Round>}
 */
export async function measureRound(stack, crowd, load) {
  const { rate, window, lead = 0.5, seconds, sampleEvery = 1, settle = SETTLE } = load;
  const { writer, processes } = stack;
  const { bucket } = crowd;
  const base = await writer.call("position", { bucket });
  await crowd.begin({ base, sampleEvery });
  await writer.call("start", { bucket, rate, window });
  await sleep(lead * 1000);
  const times = () => Object.entries(processes).map(([name, pid]) => [name, cpuTime(pid)]);
  const cpuBefore = Object.fromEntries(times());
  const before = await crowd.mark();
  await sleep(seconds * 1000);
  const cpuAfter = Object.fromEntries(times());
  const after = await crowd.mark();
  const written = await writer.call("stop");
  const reached = await crowd.reach({ n: written.n, patience: settle });
  const { latency, ...outcome } = await crowd.finish(written);
  const elapsed = after.at - before.at;
  const deliveries = after.frames - before.frames;
  const cpu = {};
  const share = {};
  for (const name of Object.keys(processes)) {
    const used = cpuAfter[name] - cpuBefore[name];
    cpu[name] = used / deliveries;
    share[name] = used / 10 / elapsed;
  }
  return {
    /** Updates and deliveries per second. */
    updates: written.rate,
    deliveries: (deliveries / elapsed) * 1000,
    /** Whether all that was written arrived in the end, or was replaced by something newer. */
    isSettled: reached !== undefined,
    /** Part of what was written that had arrived in the end. */
    arrived: outcome.received / outcome.expected,
    ...outcome,
    samples: latency.count,
    // Of a crowd that did not get everything nobody knows how late the rest would have been.
    p50: latencyOf(latency.p50, outcome, 0.5),
    p99: latencyOf(latency.p99, outcome, 0.99),
    /** Microseconds of CPU per delivery, and per cent of one core, by process. */
    cpu,
    share,
  };
}

/** A percentile of what arrived, unless so much did not arrive that it may be anything. */
function latencyOf(value, { expected, received, conflated }, part) {
  return received + conflated >= expected * part ? value : Infinity;
}

/**
 * What must not happen: a watcher that does not end up with every key's last value, a socket that was closed, an update that
 * came twice or in the wrong order.
 */
export function lossResult(id, measurements) {
  const sum = sumOver(measurements);
  const faults = { lost: sum("lost"), closed: sum("closed"), duplicates: sum("duplicates") };
  const evidence = `${count(faults.lost)} keys, ${faults.closed} sockets, ${faults.duplicates} twice; of ${count(sum("expected"))} deliveries`;
  const failure = measurements.find((each) => each.failure !== undefined)?.failure;
  if (failure !== undefined) return result(id, NaN, `${evidence}; ${failure}`);
  // Where nothing came, nothing was measured.
  const total = faults.lost + faults.closed + faults.duplicates;
  return result(id, sum("received") > 0 ? total : NaN, evidence);
}

/** Updates that did not arrive, and were not said to have been replaced by newer ones either; or the other way round. */
export function untoldResult(id, measurements) {
  const sum = sumOver(measurements);
  const evidence = `${count(sum("conflated"))} were replaced and told so, ${count(resetsOf(measurements))} watches had to begin anew and were told so`;
  return result(id, sum("received") > 0 ? sum("untold") : NaN, evidence);
}

function resetsOf(measurements) {
  return measurements.reduce((total, { resets }) => total + resets, 0);
}

function sumOver(measurements) {
  const rounds = measurements.flatMap((measurement) => measurement.rounds);
  return (name) => rounds.reduce((total, round) => total + round[name], 0);
}

/** Medians over rounds; counts are added up. */
export function summary(system, load, rounds) {
  const of = (get) => median(rounds.map(get));
  const sum = (get) => rounds.reduce((total, round) => total + get(round), 0);
  const byProcess = (name) =>
    Object.fromEntries(
      Object.keys(rounds[0][name]).map((each) => [each, of((round) => round[name][each])]),
    );
  return {
    kind: "deliveries",
    system,
    ...load,
    updates: of(({ updates }) => updates),
    deliveries: of(({ deliveries }) => deliveries),
    p50: of(({ p50 }) => p50),
    p99: of(({ p99 }) => p99),
    cpu: byProcess("cpu"),
    share: byProcess("share"),
    arrived: sum(({ received }) => received) / sum(({ expected }) => expected),
    conflated: sum(({ conflated }) => conflated),
    untold: sum(({ untold }) => untold),
    resets: sum(({ resets }) => Object.values(resets).reduce((total, each) => total + each, 0)),
    duplicates: sum(({ duplicates }) => duplicates),
    lost: sum(({ lost }) => lost),
    closed: sum(({ closed }) => closed),
    failure: rounds.find(({ failure }) => failure !== undefined)?.failure,
    rounds,
  };
}
