#!/usr/bin/env node
// `npm run bench:fanout`: builds what has to be built, then measures how updates reach many sockets. Says what it can do with
// `npm run bench:fanout -- --help`.
import { runBenchmark } from "../support/command.js";
import { HELP, readOptions } from "./options.js";
import { hasMissed, report } from "./report.js";

await runBenchmark({
  help: HELP,
  readOptions,
  load: async () => (await import("./measure.js")).measure,
  report,
  hasMissed,
});
