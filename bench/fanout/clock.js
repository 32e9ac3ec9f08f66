const offset = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** Milliseconds of the system's monotonic clock: the same in every process of the machine. */
export function clock() {
  return performance.now() + offset;
}
