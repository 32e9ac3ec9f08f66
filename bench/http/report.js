import { microseconds, milliseconds, rate } from "../support/format.js";
import * as common from "../support/report.js";
import { targets } from "./targets.js";

export const hasMissed = (run) => common.hasMissed(targets, run);

/** @param {boolean} isMarkdown otherwise for a terminal */
export function report(run, isMarkdown) {
  const tables = [
    common.targetTable(targets, run.results),
    {
      head: [
        "load",
        "connections",
        "system",
        "requests",
        "p50",
        "p99",
        "CPU/request",
        "CPU/request, NATS",
      ],
      rows: run.measurements.map(measurementRow),
    },
  ];
  return common.reportOf(tables, common.footerOf(targets, run), isMarkdown);
}

function measurementRow({ load, connections, system, rps, p50, p99, cpu }) {
  return [
    load,
    String(connections),
    system,
    rate(rps),
    milliseconds(p50),
    milliseconds(p99),
    microseconds(cpu.server),
    microseconds(cpu.nats),
  ];
}
