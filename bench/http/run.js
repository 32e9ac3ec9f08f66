#!/usr/bin/env node
// `npm run bench`: builds what has to be built, then measures it. Says what it can do with `npm run bench -- --help`.
import { runBenchmark } from "../support/command.js";
import { checkWrk } from "../support/wrk.js";
import { HELP, readOptions } from "./options.js";
import { hasMissed, report } from "./report.js";

await runBenchmark({
  help: HELP,
  readOptions,
  check: checkWrk,
  load: async () => (await import("./measure.js")).measure,
  report,
  hasMissed,
});
