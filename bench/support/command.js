/** What the commands have in common: options, building, measuring or reading an earlier run, the report, the exit code. */
import { readFileSync } from "node:fs";
import { buildIfNeeded } from "../../scripts/build.js";

/**
 * Runs a benchmark from the command line. Exit code 1 when a target was missed, or nothing was measured.
 *
 * @param {object} benchmark
 * @param {string} benchmark.help
 * @param {(args: string[]) => object} benchmark.readOptions throws with a message for the user
 * @param {() => void} [benchmark.check] throws with a message when something is not installed
 * @param {() => Promise<(options: object) => Promise<object>>} benchmark.load loads what measures: it stands on dist/
 * @param {(run: object, isMarkdown: boolean) => string} benchmark.report
 * @param {(run: object) => boolean} benchmark.hasMissed
 */
export async function runBenchmark({ help, readOptions, check, load, report, hasMissed }) {
  try {
    const options = readOptions(process.argv.slice(2));
    if (options.help) {
      process.stdout.write(help);
      return;
    }
    let run;
    if (options.from === undefined) {
      check?.();
      await buildIfNeeded();
      run = await (await load())(options);
    } else {
      run = JSON.parse(readFileSync(options.from, "utf8"));
    }
    console.log(report(run, options.markdown));
    if (hasMissed(run)) process.exitCode = 1;
  } catch (error) {
    console.error(error.message);
    if (process.env.DEBUG !== undefined) console.error(error.stack);
    process.exitCode = 1;
  }
}
