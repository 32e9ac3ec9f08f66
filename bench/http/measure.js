import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { lifetimeOfProcess } from "../support/lifetime.js";
import { linePlots } from "../support/plot.js";
import { workFolder } from "../support/work-folder.js";
import { natsVersion } from "../support/nats.js";
import { verdict } from "./targets.js";
import { batch } from "./sections/batch.js";
import { curves } from "./sections/curves.js";
import { gets, puts } from "./sections/gets-and-puts.js";
import { listing } from "./sections/listing.js";
import { memory } from "./sections/memory.js";
import { syncedPuts } from "./sections/synced-puts.js";

const sections = { get: gets, put: puts, synced: syncedPuts, listing, batch, curves, memory };
const results = fileURLToPath(new URL("../results/", import.meta.url));

/** Runs sections one after the other, each on servers of its own, and keeps what they found in `bench/results/`. */
export async function measure(options) {
  const lifetime = lifetimeOfProcess();
  const say = (line) => console.error(`  ${line}`);
  const run = {
    date: new Date().toISOString(),
    quick: options.quick,
    machine: {
      cores: availableParallelism(),
      node: process.versions.node,
      nats: await natsVersion(),
      load: loadavg()[0],
    },
    results: [],
    measurements: [],
    panels: [],
    notes: [],
  };
  if (run.machine.load > run.machine.cores / 4) {
    const { load, cores } = run.machine;
    run.notes.push(
      `the machine was busy at the start: a load of ${load.toFixed(1)} on ${cores} cores`,
    );
  }
  try {
    const folder = workFolder(lifetime, options.dir);
    for (const name of options.sections) {
      console.error(name);
      const part = await lifetime.within((inner) =>
        sections[name]({
          lifetime: inner,
          folder: `${folder}/${name}`,
          pace: options.pace,
          say,
          note: (line) => run.notes.push(line),
        }),
      );
      run.results.push(...(part.results ?? []));
      run.measurements.push(...(part.measurements ?? []));
      run.panels.push(...(part.panels ?? []));
      Object.assign(run.machine, part.versions);
      for (const each of part.results ?? []) say(`${verdict(each)} ${each.id}`);
    }
  } finally {
    await lifetime.close();
  }
  save(run);
  return run;
}

function save(run) {
  mkdirSync(results, { recursive: true });
  const name = `http-${run.date.slice(0, 19).replaceAll(":", "-")}`;
  writeFileSync(`${results}${name}.json`, `${JSON.stringify(run, undefined, 2)}\n`);
  console.error(`bench/results/${name}.json`);
  if (run.panels.length === 0) return;
  writeFileSync(`${results}${name}.svg`, linePlots(run.panels));
  console.error(`bench/results/${name}.svg`);
}
