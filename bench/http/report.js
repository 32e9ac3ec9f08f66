import { microseconds, milliseconds, quantity, rate } from "../support/format.js";
import { targets, verdict } from "./targets.js";

export function hasMissed({ results }) {
  return results.some((each) => verdict(each) !== "ok");
}

/** The report for a terminal: columns of the same width. */
export function textReport(run) {
  const tables = tablesOf(run).map(({ head, rows }) => {
    const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
    const line = (row) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ");
    return [line(head), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)];
  });
  return [...tables.map((lines) => lines.join("\n")), footer(run)].join("\n\n");
}

/** The same report as Markdown. */
export function markdownReport(run) {
  const line = (row) => `| ${row.join(" | ")} |`;
  const tables = tablesOf(run).map(({ head, rows }) => [
    line(head),
    line(head.map(() => "---")),
    ...rows.map(line),
  ]);
  return [...tables.map((lines) => lines.join("\n")), footer(run)].join("\n\n");
}

function tablesOf({ results, measurements }) {
  const tables = [
    {
      head: ["what", "measured", "target", "", "jetbucket; baseline, same run"],
      rows: results.map(resultRow),
    },
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
      rows: measurements.map(measurementRow),
    },
  ];
  return tables.filter(({ rows }) => rows.length > 0);
}

function resultRow(result) {
  const { id, value, evidence } = result;
  const { title, unit, limit, isCeiling } = targets[id];
  const target = `${isCeiling ? "≤" : "≥"} ${quantity(limit, unit)}`;
  return [title, quantity(value, unit), target, verdict(result), evidence];
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

function footer({ machine, notes, quick, results }) {
  const { cores, node, nats, etcd, load } = machine;
  const missed = results.filter((each) => verdict(each) !== "ok").length;
  return [
    `${cores} cores, load ${load.toFixed(1)} before; Node ${node}, nats-server ${nats}${etcd === undefined ? "" : `, etcd ${etcd}`}${quick ? "; a quick run" : ""}.`,
    ...notes.map((note) => `Note: ${note}.`),
    missed === 0 ? "All targets were met." : `${missed} of ${results.length} targets were MISSED.`,
  ].join("\n");
}
