import { setTimeout as sleep } from "node:timers/promises";

/**
 * Asks until the answer is truthy, and resolves to it. What is thrown meanwhile counts as "not yet", and is told when the
 * time, in milliseconds, is over.
 */
export async function until(what, ask, { timeout, signal }) {
  const end = performance.now() + timeout;
  let last;
  do {
    signal.throwIfAborted();
    try {
      const answer = await ask();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await sleep(100, undefined, { signal });
  } while (performance.now() < end);
  throw new Error(`${what}: not within ${timeout / 1000} s`, last && { cause: last });
}
