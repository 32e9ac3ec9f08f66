/** Reports of a run: tables for a terminal or as Markdown, and what there is to say beside them. */
import { quantity } from "./format.js";
import { judge } from "./targets.js";

/**
 * @param {{ head: string[], rows: string[][] }[]} tables empty ones are left out
 * @param {boolean} isMarkdown otherwise columns of the same width
 */
export function reportOf(tables, footer, isMarkdown) {
  const print = isMarkdown ? markdownTable : textTable;
  const printed = tables.filter(({ rows }) => rows.length > 0).map(print);
  return [...printed, footer].join("\n\n");
}

function textTable({ head, rows }) {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  const line = (row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]))
      .join("  ")
      .trimEnd();
  const rule = widths.map((width) => "-".repeat(width)).join("  ");
  return [line(head), rule, ...rows.map(line)].join("\n");
}

function markdownTable({ head, rows }) {
  const line = (row) => `| ${row.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** What was measured beside what has to be reached. */
export function targetTable(targets, results) {
  return {
    head: ["what", "measured", "target", "", "jetbucket; baseline, same run"],
    rows: results.map((result) => {
      const { id, value, evidence } = result;
      const { title, unit, limit, isCeiling } = targets[id];
      const target = `${isCeiling ? "≤" : "≥"} ${quantity(limit, unit)}`;
      return [title, quantity(value, unit), target, judge(targets, result), evidence];
    }),
  };
}

/** The machine, the notes, and how many targets were missed. */
export function footerOf(targets, { machine, notes, quick, results }) {
  const { cores, node, nats, etcd, load } = machine;
  const missed = results.filter((each) => judge(targets, each) !== "ok").length;
  return [
    `${cores} cores, load ${load.toFixed(1)} before; Node ${node}, nats-server ${nats}${etcd === undefined ? "" : `, etcd ${etcd}`}${quick ? "; a quick run" : ""}.`,
    ...notes.map((note) => `Note: ${note}.`),
    verdictOnAll(results.length, missed),
  ].join("\n");
}

function verdictOnAll(count, missed) {
  if (count === 0) return "No target was looked at.";
  return missed === 0 ? "All targets were met." : `${missed} of ${count} targets were MISSED.`;
}

/** Whether a run has to end with a failure: a target missed, or none looked at. */
export function hasMissed(targets, { results }) {
  return results.length === 0 || results.some((each) => judge(targets, each) !== "ok");
}
