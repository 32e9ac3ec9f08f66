#!/usr/bin/env node
// `npm run bench`: builds what has to be built, then measures it. Says what it can do with `npm run bench -- --help`.
import { readFileSync } from "node:fs";
import { buildIfNeeded } from "../../scripts/build.js";
import { checkWrk } from "../support/wrk.js";
import { HELP, readOptions } from "./options.js";
import { hasMissed, markdownReport, textReport } from "./report.js";

try {
  const options = readOptions(process.argv.slice(2));
  if (options.help) process.stdout.write(HELP);
  else await bench(options);
} catch (error) {
  console.error(error.message);
  if (process.env.DEBUG !== undefined) console.error(error.stack);
  process.exitCode = 1;
}

async function bench(options) {
  const run = options.from === undefined ? await measured(options) : earlier(options.from);
  console.log(options.markdown ? markdownReport(run) : textReport(run));
  if (hasMissed(run)) process.exitCode = 1;
}

async function measured(options) {
  checkWrk();
  await buildIfNeeded();
  // Loaded here: it stands on dist/.
  const { measure } = await import("./measure.js");
  return measure(options);
}

function earlier(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}
