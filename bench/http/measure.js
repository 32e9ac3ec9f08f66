import { measure as measureSections } from "../support/measure.js";
import { batch } from "./sections/batch.js";
import { curves } from "./sections/curves.js";
import { gets, puts } from "./sections/gets-and-puts.js";
import { listing } from "./sections/listing.js";
import { memory } from "./sections/memory.js";
import { syncedPuts } from "./sections/synced-puts.js";
import { targets } from "./targets.js";

const sections = { get: gets, put: puts, synced: syncedPuts, listing, batch, curves, memory };

export function measure(options) {
  return measureSections({ name: "http", sections, targets }, options);
}
