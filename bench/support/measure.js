import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { lifetimeOfProcess } from "./lifetime.js";
import { natsVersion } from "./nats.js";
import { linePlots } from "./plot.js";
import { judge } from "./targets.js";
import { workFolder } from "./work-folder.js";

const results = fileURLToPath(new URL("../results/", import.meta.url));

/**
 * Runs sections one after the other, each on servers of its own, and keeps what they found in `bench/results/`.
 *
 * @param {{ name: string, sections: Record<string, (run: object) => Promise<object>>, targets: object }} benchmark
 *   a target may name its `section`: when that one fails, the target is missed and the run goes on; the failure of a
 *   section without targets of its own ends the run
 * @param {object} options those of the command line; `sections` names those to run
 */
export async function measure({ name, sections, targets }, options) {
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
    for (const section of options.sections) {
      console.error(section);
      const started = performance.now();
      const work = (inner) =>
        sections[section]({
          lifetime: inner,
          folder: `${folder}/${section}`,
          pace: options.pace,
          options,
          say,
          note: (line) => run.notes.push(line),
        });
      const part = await lifetime.within(work).catch((error) => {
        const missed = Object.keys(targets).filter((id) => targets[id].section === section);
        if (missed.length === 0 || lifetime.isClosing) throw error;
        run.notes.push(`section ${section} failed: ${error.message}`);
        console.error(error);
        return {
          results: missed.map((id) => ({ id, value: NaN, evidence: "the section failed" })),
        };
      });
      run.results.push(...(part.results ?? []));
      run.measurements.push(...(part.measurements ?? []));
      run.panels.push(...(part.panels ?? []));
      Object.assign(run.machine, part.versions);
      for (const each of part.results ?? []) say(`${judge(targets, each)} ${each.id}`);
      say(`${((performance.now() - started) / 1000).toFixed(0)} s`);
    }
  } finally {
    await lifetime.close();
  }
  save(name, run);
  return run;
}

function save(benchmark, run) {
  mkdirSync(results, { recursive: true });
  const name = `${benchmark}-${run.date.slice(0, 19).replaceAll(":", "-")}`;
  writeFileSync(`${results}${name}.json`, `${JSON.stringify(run, undefined, 2)}\n`);
  console.error(`bench/results/${name}.json`);
  if (run.panels.length === 0) return;
  writeFileSync(`${results}${name}.svg`, linePlots(run.panels));
  console.error(`bench/results/${name}.svg`);
}
