import { milliseconds, rate } from "../../support/format.js";
import { compare, speedup, warmUp } from "../../support/rounds.js";
import { startStack } from "../stack.js";
import { result } from "../targets.js";

/** Reads and writes of single keys, where NATS flushes to disk now and then. */
async function measure(load, { lifetime, folder, pace }, names) {
  const stack = await startStack(lifetime, { folder, sync: "2m", against: names.slice(1) });
  const contenders = stack.contenders(names, load);
  await warmUp(lifetime, contenders, { seconds: pace.warmUp });
  const many = await compare(lifetime, contenders, { ...pace, connections: 64 });
  const one = await compare(lifetime, contenders, {
    ...pace,
    rounds: pace.sideRounds,
    connections: 1,
  });
  const versus = (name, { jetbucket, [name]: other }) =>
    `${rate(jetbucket.rps)}; ${name} ${rate(other.rps)}`;
  const results = [
    result(`${load}-64`, speedup(many.jetbucket, many.obvious), versus("obvious", many)),
    result(`${load}-1`, speedup(one.jetbucket, one.obvious), versus("obvious", one)),
    result(
      `${load}-tail`,
      many.jetbucket.p99 / many.obvious.p50,
      `p99 ${milliseconds(many.jetbucket.p99)}; obvious p50 ${milliseconds(many.obvious.p50)}`,
    ),
  ];
  if (many.static !== undefined) {
    const ratio = speedup(many.jetbucket, many.static);
    results.push(result(`${load}-64-static`, ratio, versus("static", many)));
  }
  const measurements = [...Object.values(many), ...Object.values(one)].map((measurement) => ({
    load: load.toUpperCase(),
    ...measurement,
  }));
  return { results, measurements };
}

export const gets = (run) => measure("get", run, ["jetbucket", "obvious", "static"]);
export const puts = (run) => measure("put", run, ["jetbucket", "obvious"]);
