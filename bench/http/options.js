import { parseArgs } from "node:util";

/** In the order in which they run. */
export const SECTIONS = ["get", "put", "synced", "listing", "batch", "curves"];

export const HELP = `npm run bench -- [options]

  --only <list>   sections, separated by commas: ${SECTIONS.join(", ")}
  --quick         shorter rounds, no listing of a million keys, no curves
  --memory        10 minutes of load, and nothing else: does the memory stay as it is?
  --markdown      print the report as Markdown
  --from <file>   measure nothing: print the report of an earlier run's JSON file
  --dir <folder>  where the servers keep their data (default: the system's temporary folder)
  --help
`;

/**
 * How long, in seconds, and how often things are measured: `rounds` where a target is the closest, `sideRounds` elsewhere;
 * `buckets` are listed for the first time.
 */
const paces = {
  full: {
    warmUp: 2,
    seconds: 2,
    rounds: 5,
    sideRounds: 3,
    buckets: 6,
    million: true,
    soakStep: 30,
    soakSteps: 20,
  },
  quick: {
    warmUp: 1,
    seconds: 1,
    rounds: 3,
    sideRounds: 2,
    buckets: 4,
    million: false,
    soakStep: 10,
    soakSteps: 6,
  },
};

/** @throws with a message for the user */
export function readOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: "string" },
      quick: { type: "boolean", default: false },
      memory: { type: "boolean", default: false },
      markdown: { type: "boolean", default: false },
      from: { type: "string" },
      dir: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const { only, memory, quick, ...others } = values;
  return {
    ...others,
    quick,
    sections: memory ? ["memory"] : only === undefined ? usual(quick) : only.split(",").map(known),
    pace: quick ? paces.quick : paces.full,
  };
}

function usual(quick) {
  return quick ? SECTIONS.filter((name) => name !== "curves") : SECTIONS;
}

function known(name) {
  if (SECTIONS.includes(name)) return name;
  throw new Error(`--only: there is no section "${name}": choose from ${SECTIONS.join(", ")}`);
}
