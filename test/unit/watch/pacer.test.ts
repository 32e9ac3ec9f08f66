import { setTimeout as delay } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { Pacer, type Paced } from "../../../src/watch/pacer.ts";

/** Work that takes some time of the processor. */
class Work implements Paced {
  readonly at: number[] = [];
  readonly #milliseconds: number;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  flush(): void {
    this.at.push(performance.now());
    const end = performance.now() + this.#milliseconds;
    while (performance.now() < end);
  }
}

test("what comes up in a turn leaves once at its end, when there is little to do", async () => {
  const pacer = new Pacer();
  const [one, other] = [new Work(0), new Work(0)];
  for (const work of [one, other, one]) pacer.schedule(work);
  expect(one.at).toEqual([]);
  await new Promise((resolve) => setImmediate(resolve));
  expect([one.at.length, other.at.length]).toEqual([1, 1]);
});

test("after a turn that took long, about as much time is left for other things", async () => {
  const pacer = new Pacer();
  const work = new Work(10);
  while (work.at.length < 10) {
    pacer.schedule(work);
    await delay(0);
  }
  const gaps = work.at.slice(1).map((at, i) => at - work.at[i]!);
  // Timers may fire a millisecond early; a busy machine takes longer.
  for (const gap of gaps) expect(gap).toBeGreaterThan(10 + 8);
});

test("what comes up during a turn leaves with the next one", async () => {
  const pacer = new Pacer();
  let runs = 0;
  const again: Paced = {
    flush() {
      runs += 1;
      if (runs < 5) pacer.schedule(again);
    },
  };
  pacer.schedule(again);
  await vi.waitUntil(() => runs === 5);
});
