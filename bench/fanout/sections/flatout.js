import { rate } from "../../support/format.js";
import { median } from "../../support/statistics.js";
import { result } from "../../support/targets.js";
import { Contender } from "../contender.js";
import { lossResult, summary, untoldResult } from "../rounds.js";
import { systems } from "../stack.js";

/**
 * Flat out is one write after the other: the next one as soon as one is acknowledged. The flood is many of them always under
 * way, far more than anybody can deliver: something has to be left out, or the writer has to wait. Its bucket keeps one
 * revision of each key, so that JetStream leaves out what is replaced before it is read.
 */
const FLAT_OUT = { load: "flat out", window: 1 };
const FLOOD = { load: "flood", window: 64, history: 1 };
/** Of how many deliveries one is timed. */
const SAMPLE_EVERY = 10;
/** How long what was written may take to arrive after the last write, in milliseconds: jetbucket's and other systems'. */
const OWN_SETTLE = 10_000;
const SETTLE = 1_000;
const names = Object.keys(systems);

/** A writer that writes as fast as it can: how many updates arrive? */
export async function flatout({ lifetime, folder, pace, options, say }) {
  const stages = [
    ...pace.sideSizes.map((size) => ({ size, rounds: 1, ...FLAT_OUT })),
    { size: 100, rounds: pace.rounds, ...FLAT_OUT },
    { size: 1000, rounds: pace.rounds, ...FLAT_OUT },
    { size: 1000, rounds: 1, ...FLOOD },
  ];
  const measurements = [];
  for (const { size, rounds, load, window, history } of stages) {
    const profile = window === 1 ? options.profile : undefined;
    const measured = await lifetime.within(async (inner) => {
      const contenders = names.map(
        (name) =>
          new Contender(inner, name, {
            folder,
            size,
            history,
            warmUp: { window: 1, lead: 0, seconds: 1, sampleEvery: 100, settle: 1_000 },
            ...(name === "jetbucket" && { profile }),
          }),
      );
      const all = Object.fromEntries(names.map((name) => [name, []]));
      for (let i = 0; i < rounds; i++) {
        for (const contender of contenders) {
          const round = await contender.round({
            window,
            seconds: pace.seconds,
            sampleEvery: SAMPLE_EVERY,
            // What falls behind would take minutes.
            settle: contender.name === "jetbucket" ? OWN_SETTLE : SETTLE,
          });
          say(`${load}, ${size} sockets, ${contender.name}: ${rate(round.deliveries)}`);
          all[contender.name].push(round);
        }
      }
      return names.map((name) => summary(name, { load, sockets: size }, all[name]));
    });
    measurements.push(...measured);
  }

  const flat = measurements.filter(({ load }) => load === FLAT_OUT.load);
  const results = [];
  const [most, ...others] = flat.filter(({ sockets }) => sockets === 1000);
  for (const other of others) {
    const evidence = `${rate(most.deliveries)}; ${other.system} ${rate(other.deliveries)}`;
    results.push(result(`${other.system}-1000`, speedup(most, other), evidence));
  }
  const own = measurements.filter(({ system }) => system === "jetbucket");
  results.push(
    lossResult("losses", own),
    untoldResult(
      "untold",
      own.filter(({ load }) => load === FLAT_OUT.load),
    ),
  );
  const lines = names.map((system) => ({
    system,
    points: flat
      .filter((each) => each.system === system)
      .map(({ sockets, deliveries }) => ({ x: sockets, y: deliveries })),
  }));
  const panel = { title: "Writer flat out", unit: "deliveries/s", across: "sockets", lines };
  return { results, measurements, panels: [panel] };
}

/** How many times as many deliveries: the median of the rounds' ratios, each of them between neighbours in time. */
function speedup(measurement, baseline) {
  return median(
    measurement.rounds.map(({ deliveries }, i) => deliveries / baseline.rounds[i].deliveries),
  );
}
