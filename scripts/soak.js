#!/usr/bin/env node
// `npm run soak -- --seed N --minutes M`: random operations compared with a model, for a long time. On a difference it ends
// with the seed that shows it again: `npm run soak -- --seed N`.
// `npm run soak -- watch --seed N --runs K --minutes M`: seeded runs of the watch checker, from a seed on, until so many were made
// or the time is over; `--parallel` of them at a time. The failed ones are shown with their seeds.
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";

const [mode] = process.argv.slice(2);
const isWatch = mode === "watch";
const { values } = parseArgs({
  args: process.argv.slice(isWatch ? 3 : 2),
  options: {
    seed: { type: "string", default: String(Math.floor(Math.random() * 1e6)) },
    minutes: { type: "string" },
    ...(isWatch
      ? { runs: { type: "string" }, parallel: { type: "string", default: "4" } }
      : { operations: { type: "string", default: "5000" } }),
  },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^\d+(\.\d+)?$/.test(value)) {
    console.error(`--${name} takes a number, not "${value}"`);
    process.exit(2);
  }
}

const { seed, operations, runs, parallel } = values;
const minutes = values.minutes ?? (runs === undefined ? "10" : undefined);
const limits = [runs && `${runs} runs`, minutes && `${minutes} minutes`].filter(Boolean);
console.log(`soak: seed ${seed}, ${limits.join(", ")}`);
const file = isWatch ? "watch-checker" : "model";
const child = spawn(
  "node_modules/.bin/vitest",
  ["run", "--project", "integration", `test/integration/${file}.test.ts`],
  {
    stdio: "inherit",
    env: {
      ...process.env,
      ...(isWatch
        ? {
            WATCH_SEED: seed,
            WATCH_PARALLEL: parallel,
            ...(runs === undefined ? {} : { WATCH_RUNS: runs }),
            ...(minutes === undefined ? {} : { WATCH_MINUTES: minutes }),
          }
        : { MODEL_SEED: seed, MODEL_MINUTES: minutes, MODEL_OPS: operations }),
    },
  },
);
child.on("close", (code) => (process.exitCode = code ?? 1));
