import { count, kilobytes, microseconds, milliseconds, percent, rate } from "../support/format.js";
import * as common from "../support/report.js";
import { targets } from "./targets.js";

export const hasMissed = (run) => common.hasMissed(targets, run);

/** @param {boolean} isMarkdown otherwise for a terminal */
export function report(run, isMarkdown) {
  const rowsOf = (kind, row) => run.measurements.filter((each) => each.kind === kind).map(row);
  const tables = [
    common.targetTable(targets, run.results),
    {
      head: [
        "load",
        "sockets",
        "system",
        "updates",
        "deliveries",
        "p50",
        "p99",
        "CPU",
        "CPU/delivery",
        "CPU, NATS",
        "replaced",
        "resets",
        "left out",
        "lost",
      ],
      rows: rowsOf("deliveries", deliveriesRow),
    },
    {
      head: ["memory of a socket", "sockets", "heap, idle", "resident, idle", "resident, active"],
      rows: rowsOf("memory", ({ system, sockets, idle, active }) => [
        system,
        count(sockets),
        kilobytes(idle.heap),
        kilobytes(idle.rss),
        kilobytes(active),
      ]),
    },
    {
      head: ["until sockets are ready", "sockets", "half of them", "all"],
      rows: rowsOf("ready", ({ load, sockets, half, all }) => [
        load,
        count(sockets),
        milliseconds(half),
        milliseconds(all),
      ]),
    },
  ];
  return common.reportOf(tables, common.footerOf(targets, run), isMarkdown);
}

function deliveriesRow(measurement) {
  const { load, sockets, system, updates, deliveries, p50, p99, cpu, share } = measurement;
  const { conflated, resets, untold, lost } = measurement;
  return [
    load,
    count(sockets),
    system,
    rate(updates),
    rate(deliveries),
    milliseconds(p50),
    milliseconds(p99),
    percent(share.server),
    microseconds(cpu.server),
    // Where NATS serves the sockets itself it is the server.
    share.gateway === undefined ? "" : percent(share.nats),
    count(conflated),
    count(resets),
    count(untold),
    count(lost),
  ];
}
