/** Line plots as SVG, for instance of throughput against connections: one panel beside the other. */
import { count } from "./format.js";

// Colours that people with colour vision deficiency tell apart; jetbucket's line is the thick one.
const styles = {
  jetbucket: { colour: "#0072b2", width: 3 },
  obvious: { colour: "#d55e00", width: 1.5 },
  static: { colour: "#777777", width: 1.5, dash: "5 4" },
  etcd: { colour: "#009e73", width: 1.5 },
  naive: { colour: "#d55e00", width: 1.5 },
  shared: { colour: "#cc79a7", width: 1.5 },
  nats: { colour: "#009e73", width: 1.5 },
};
const labels = {
  obvious: "the obvious gateway",
  static: "static Hono",
  naive: "consumer per socket",
  shared: "consumer per bucket",
  nats: "NATS WebSocket",
};

const panel = { width: 380, height: 300, left: 62, right: 14, top: 34, bottom: 42 };
const LEGEND = 34;

/**
 * @param {object[]} panels each with a `title`, the `unit` of its values, what they are plotted `across`, and `lines`:
 *   `{ system, points: { x, y }[] }`. Across doubles from one distance to the next; `isLogarithmic`: the values grow tenfold
 * @returns {string} an SVG document
 */
export function linePlots(panels) {
  const width = panels.length * panel.width;
  const height = panel.height + LEGEND;
  const systems = [...new Set(panels.flatMap(({ lines }) => lines.map(({ system }) => system)))];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="white"/>
${panels.map((each, i) => `<g transform="translate(${i * panel.width} 0)">\n${drawPanel(each)}\n</g>`).join("\n")}
${systems.map((system, i) => legend(system, panel.left + i * 190)).join("\n")}
</svg>
`;
}

function drawPanel({ title, unit, across, lines, isLogarithmic = false }) {
  const points = lines.flatMap((line) => line.points);
  const places = [...new Set(points.map((point) => point.x))];
  const values = points.map((point) => point.y);
  const right = panel.width - panel.right;
  const bottom = panel.height - panel.bottom;
  const first = Math.log2(Math.min(...places));
  const span = Math.log2(Math.max(...places)) - first || 1;
  const x = (value) =>
    round(panel.left + ((Math.log2(value) - first) / span) * (right - panel.left));
  const { ticks, part } = isLogarithmic ? tenfold(values) : even(values);
  const y = (value) => round(bottom - part(value) * (bottom - panel.top));
  return [
    text(panel.left, 18, `${title}: ${unit}`, "start", ' font-weight="bold"'),
    ...ticks.map(
      (tick) =>
        `<line x1="${panel.left}" x2="${right}" y1="${y(tick)}" y2="${y(tick)}" stroke="#dddddd"/>${text(panel.left - 6, y(tick) + 4, count(tick), "end")}`,
    ),
    ...places.map((value) => text(x(value), bottom + 16, count(value), "middle")),
    text((panel.left + right) / 2, bottom + 34, across, "middle"),
    ...lines.filter((line) => line.points.length > 0).map((line) => drawLine(line, x, y)),
  ].join("\n");
}

/** An axis from nothing to the largest value: its ticks, and the part of it at which a value stands. */
function even(values) {
  const largest = Math.max(...values);
  const step = niceStep(largest / 5);
  const ticks = Array.from({ length: Math.ceil(largest / step) + 1 }, (_, i) => i * step);
  return { ticks, part: (value) => value / ticks.at(-1) };
}

/** The same from one power of ten to another, not below 1. */
function tenfold(values) {
  const low = Math.max(0, Math.floor(Math.log10(Math.min(...values))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  return {
    ticks,
    part: (value) => Math.max(0, Math.log10(value) - low || 0) / (high - low),
  };
}

function drawLine({ system, points }, x, y) {
  const places = points.map((point) => [x(point.x), y(point.y)]);
  const dots = places.map(
    ([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${styles[system].colour}"/>`,
  );
  return `<polyline fill="none" points="${places.map((place) => place.join(",")).join(" ")}" ${stroke(system)}/>${dots.join("")}`;
}

function legend(system, x) {
  const y = panel.height + 12;
  return `<line x1="${x}" x2="${x + 24}" y1="${y}" y2="${y}" ${stroke(system)}/>${text(x + 30, y + 4, labels[system] ?? system, "start")}`;
}

function stroke(system) {
  const { colour, width, dash } = styles[system];
  return `stroke="${colour}" stroke-width="${width}"${dash === undefined ? "" : ` stroke-dasharray="${dash}"`}`;
}

function text(x, y, content, anchor, more = "") {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}"${more}>${content}</text>`;
}

/** 1, 2 or 5 times a power of ten, not below a number. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

function round(number) {
  return Math.round(number * 10) / 10;
}
