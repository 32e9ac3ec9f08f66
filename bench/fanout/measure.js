import { measure as measureSections } from "../support/measure.js";
import { filters } from "./sections/filters.js";
import { flatout } from "./sections/flatout.js";
import { join } from "./sections/join.js";
import { memory } from "./sections/memory.js";
import { stalled } from "./sections/stalled.js";
import { steady } from "./sections/steady.js";
import { storm } from "./sections/storm.js";
import { targets } from "./targets.js";

const sections = { flatout, steady, memory, filters, join, stalled, storm };

export function measure(options) {
  return measureSections({ name: "fanout", sections, targets }, options);
}
