import { median } from "../../support/statistics.js";
import { result } from "../../support/targets.js";
import { lossResult, measureRound, summary } from "../rounds.js";
import { startStack } from "../stack.js";

const SIZE = 1000;
/** Updates per second. */
const RATE = 200;
/** 10,000 keys: ten for each of the sockets that have filters of their own. */
const keys = { groups: SIZE, perGroup: 10 };

/** Each crowd on a bucket of its own, so that all stay connected and only the one that is measured gets anything. */
const crowds = {
  common: { filters: ["*.*", "own.0000"], share: "all", title: "one common filter" },
  different: {
    filters: ["*.*", "own.{}"],
    share: "all",
    title: "1000 filters, all match each update",
  },
  disjoint: {
    filters: ["g{}.*"],
    share: "own",
    title: "1000 filters, one matches each update",
  },
};
const names = Object.keys(crowds);

/** What 1000 different filters cost, beside one that all sockets share. */
export async function filters({ lifetime, folder, pace, options, say }) {
  const stack = await startStack(lifetime, "jetbucket", {
    folder,
    buckets: Object.fromEntries(names.map((name) => [name, keys])),
    profile: options.profile,
  });
  const gathered = {};
  for (const [name, { filters, share }] of Object.entries(crowds)) {
    await stack.writer.call("fill", { bucket: name });
    gathered[name] = await stack.gather(name, { size: SIZE, bucket: name, filters, share });
    await gathered[name].connect();
  }
  const rounds = Object.fromEntries(names.map((name) => [name, []]));
  for (let i = -1; i < pace.rounds; i++) {
    for (const name of names) {
      const round = await measureRound(stack, gathered[name], {
        rate: RATE,
        seconds: i < 0 ? 1 : pace.seconds,
      });
      // The first ones are for warming up.
      if (i >= 0) rounds[name].push(round);
    }
  }
  const measurements = names.map((name) =>
    summary(
      "jetbucket",
      { load: `${crowds[name].title}, ${RATE} updates/s`, sockets: SIZE },
      rounds[name],
    ),
  );
  const perUpdate = ({ share, updates }) => (share.server * 10_000) / updates;
  // Neighbours in time, as everywhere.
  const ratio = (name, cost) =>
    median(rounds[name].map((round, i) => cost(round) / cost(rounds.common[i])));
  const perDelivery = ({ cpu }) => cpu.server;
  const [common, different, disjoint] = measurements;
  say(
    `CPU per update: ${measurements.map((each) => `${perUpdate(each).toFixed(0)} µs`).join(", ")}`,
  );
  return {
    measurements,
    results: [
      result(
        "filters-different",
        ratio("different", perDelivery),
        `${perDelivery(different).toFixed(2)} µs a delivery; one filter ${perDelivery(common).toFixed(2)} µs`,
      ),
      result(
        "filters-disjoint",
        ratio("disjoint", perUpdate),
        `${perUpdate(disjoint).toFixed(0)} µs an update, to one socket; one filter ${perUpdate(common).toFixed(0)} µs, to all`,
      ),
      lossResult("filters-losses", measurements),
    ],
  };
}
