import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

/** In the order in which they run. */
export const SECTIONS = ["flatout", "steady", "memory", "filters", "join", "stalled", "storm"];

export const HELP = `npm run bench:fanout -- [options]

  --only <list>       sections, separated by commas: ${SECTIONS.join(", ")}
  --quick             fewer and shorter rounds, fewer sockets
  --markdown          print the report as Markdown
  --from <file>       measure nothing: print the report of an earlier run's JSON file
  --profile <folder>  write CPU profiles of the gateway there (--cpu-prof); profiling makes it slower
  --dir <folder>      where the servers keep their data (default: the system's temporary folder)
  --help
`;

/** How long, in seconds, and how often things are measured, and with how many sockets. */
const paces = {
  full: {
    rounds: 3,
    sideRounds: 1,
    seconds: 2.5,
    steadySeconds: 4,
    sideSizes: [10],
    memorySockets: 5_000,
    stalledRounds: 16,
    stalledSeconds: 1.5,
    stormSockets: 10_000,
    storms: 2,
  },
  quick: {
    rounds: 1,
    sideRounds: 1,
    seconds: 2,
    steadySeconds: 2,
    sideSizes: [],
    memorySockets: 2_000,
    stalledRounds: 8,
    stalledSeconds: 1,
    stormSockets: 2_000,
    storms: 1,
  },
};

/** @throws with a message for the user */
export function readOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: "string" },
      quick: { type: "boolean", default: false },
      markdown: { type: "boolean", default: false },
      from: { type: "string" },
      profile: { type: "string" },
      dir: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const { only, quick, profile, ...others } = values;
  if (profile !== undefined) mkdirSync(profile, { recursive: true });
  return {
    ...others,
    quick,
    profile: profile && resolve(profile),
    sections: only === undefined ? SECTIONS : only.split(",").map(known),
    pace: quick ? paces.quick : paces.full,
  };
}

function known(name) {
  if (SECTIONS.includes(name)) return name;
  throw new Error(`--only: there is no section "${name}": choose from ${SECTIONS.join(", ")}`);
}
