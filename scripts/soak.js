#!/usr/bin/env node
// `npm run soak -- --seed N --minutes M`: random operations compared with a model, for a long time. On a difference it ends
// with the seed that shows it again: `npm run soak -- --seed N`.
import { spawn } from "node:child_process";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: String(Math.floor(Math.random() * 1e9)) },
    minutes: { type: "string", default: "10" },
    operations: { type: "string", default: "5000" },
  },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^\d+(\.\d+)?$/.test(value)) {
    console.error(`--${name} takes a number, not "${value}"`);
    process.exit(2);
  }
}
console.log(`soak: seed ${values.seed}, ${values.minutes} minutes`);
const child = spawn(
  "node_modules/.bin/vitest",
  ["run", "--project", "integration", "test/integration/model.test.ts"],
  {
    stdio: "inherit",
    env: {
      ...process.env,
      MODEL_SEED: values.seed,
      MODEL_MINUTES: values.minutes,
      MODEL_OPS: values.operations,
    },
  },
);
child.on("close", (code) => (process.exitCode = code ?? 1));
