import { atLeast, atMost } from "../support/targets.js";

const of = (section, targets) =>
  Object.fromEntries(Object.entries(targets).map(([id, target]) => [id, { ...target, section }]));

/**
 * What jetbucket has to reach, as ratios to what is measured beside it in the same run wherever there is something, so
 * that they hold on any machine.
 */
export const targets = {
  ...of("flatout", {
    "naive-1000": atLeast(20, "x", "1000 sockets, writer flat out: times a consumer per socket"),
    "shared-1000": atLeast(6, "x", "1000 sockets, writer flat out: times a consumer per bucket"),
    "nats-1000": atLeast(1, "x", "1000 sockets, writer flat out: times NATS over WebSocket"),
    losses: atMost(0, "", "Writer flat out: losses"),
    untold: atMost(0, "", "Writer flat out: updates that were left out without being told so"),
  }),
  ...of("steady", {
    "steady-20": atMost(25, "ms", "1000 sockets, 20 updates/s: p99"),
    "steady-500": atMost(45, "ms", "1000 sockets, 500 updates/s: p99"),
    "steady-500-cpu": atMost(60, "% of a core", "1000 sockets, 500 updates/s: CPU of the gateway"),
    "steady-losses": atMost(0, "", "1000 sockets, steady rates: losses"),
  }),
  ...of("memory", {
    memory: atMost(12, "KB", "Memory of an idle watcher"),
  }),
  ...of("filters", {
    "filters-different": atMost(
      1.3,
      "x",
      "1000 different filters, all match: CPU per delivery over that of one common filter",
    ),
    "filters-disjoint": atMost(
      1.3,
      "x",
      "1000 disjoint filters: CPU per update over that of one common filter",
    ),
    "filters-losses": atMost(0, "", "Filters: losses"),
  }),
  ...of("stalled", {
    stalled: atMost(1.1, "x", "A stalled socket among 200: p99 of the others over that without it"),
    "stalled-losses": atMost(0, "", "Beside a stalled socket: losses"),
  }),
  ...of("storm", {
    storm: atMost(5, "s", "All sockets cut at once: until all are live and consistent again"),
    "storm-losses": atMost(0, "", "After that: losses"),
  }),
};
