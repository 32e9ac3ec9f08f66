import { readFileSync } from "node:fs";

/** Microseconds of a clock tick: USER_HZ is 100 on every Linux that Node runs on. */
const TICK = 10_000;

/** CPU time that a process has used so far, in microseconds; NaN where there is no /proc. */
export function cpuTime(pid) {
  let stat;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return NaN;
  }
  // The program's name, in parentheses, may itself hold blanks.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK;
}

/** Memory that the system has given to a process, in bytes; NaN where there is no /proc. */
export function residentMemory(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)[1]) * 1024;
  } catch {
    return NaN;
  }
}
