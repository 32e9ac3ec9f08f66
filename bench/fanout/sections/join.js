import { milliseconds } from "../../support/format.js";
import { median } from "../../support/statistics.js";
import { startStack } from "../stack.js";

const SIZE = 1000;
/** 10,000 keys, of which each socket wants ten. */
const keys = { groups: SIZE, perGroup: 10 };
const crowds = {
  common: { filters: ["g0000.*"], share: "first", title: "one common filter" },
  different: { filters: ["g{}.*"], share: "own", title: "1000 different filters" },
};

/** How long it takes until sockets that come at once are ready, each with a snapshot of ten keys out of 10,000. */
export async function join({ lifetime, folder, pace, options, say }) {
  const stack = await startStack(lifetime, "jetbucket", {
    folder,
    buckets: { bench: keys },
    profile: options.profile,
  });
  await stack.writer.call("fill", { bucket: "bench" });
  const names = Object.keys(crowds);
  const times = Object.fromEntries(names.map((name) => [name, { all: [], half: [] }]));
  for (let i = -1; i < pace.rounds; i++) {
    for (const name of names) {
      const crowd = await stack.gather(name, {
        size: SIZE,
        include: "snapshot",
        ...crowds[name],
      });
      await crowd.begin({ base: 0 });
      const { all, half } = await crowd.connect({ parallel: SIZE });
      const { frames: snapshot } = await crowd.mark();
      await crowd.disconnect();
      if (snapshot !== SIZE * keys.perGroup) {
        throw new Error(`${snapshot} values came instead of ${SIZE * keys.perGroup}`);
      }
      if (i < 0) continue;
      times[name].all.push(all);
      times[name].half.push(half);
    }
  }
  const measurements = names.map((name) => ({
    kind: "ready",
    load: crowds[name].title,
    sockets: SIZE,
    half: median(times[name].half),
    all: median(times[name].all),
  }));
  for (const { load, half, all } of measurements) {
    say(`${load}: half after ${milliseconds(half)}, all after ${milliseconds(all)}`);
  }
  return { measurements };
}
