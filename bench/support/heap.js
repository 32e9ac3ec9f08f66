import { setTimeout as sleep } from "node:timers/promises";

/**
 * Memory that is still in use after garbage collection, in bytes, buffers included. Needs a process that was started
 * with --expose-gc.
 */
export async function heapAfterCollection() {
  // What the first collection lets go of may hold more that only the next one finds.
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    await sleep(50);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** What a process takes after garbage collection, in bytes: what is in use, and what the system gave it. */
export async function memoryAfterCollection() {
  const heap = await heapAfterCollection();
  return { heap, rss: process.memoryUsage.rss() };
}
