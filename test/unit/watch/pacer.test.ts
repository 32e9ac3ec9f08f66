import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { Pacer, type Paced } from "../../../src/watch/pacer.ts";

/** What time it is: only work and rests take any. */
let now = 0;
let rested = 0;

beforeEach(() => {
  now = rested = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
  const timers = vi.spyOn(globalThis, "setTimeout").mockImplementation(((
    callback: () => void,
    delay: number,
  ) => {
    setImmediate(() => {
      now += delay;
      rested += delay;
      callback();
    });
  }) as typeof setTimeout);
  onTestFinished(() => {
    clock.mockRestore();
    timers.mockRestore();
  });
});

/** Work that takes some time of the processor. */
class Work implements Paced {
  readonly at: number[] = [];
  readonly #milliseconds: number;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  flush(): void {
    this.at.push(now);
    now += this.#milliseconds;
  }
}

const turnOfTheLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Schedules all of some work again and again, and lets it be done each time. */
async function repeat(pacer: Pacer, works: readonly Work[], rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    for (const work of works) pacer.schedule(work);
    while (works.some(({ at }) => at.length < round)) await turnOfTheLoop();
  }
}

const works = (count: number, milliseconds: number): Work[] =>
  Array.from({ length: count }, () => new Work(milliseconds));

test("what comes up in a turn leaves once at its end, when there is little to do", async () => {
  const pacer = new Pacer();
  const [one, other] = [new Work(0), new Work(0)];
  for (const work of [one, other, one]) pacer.schedule(work);
  expect(one.at).toEqual([]);
  await turnOfTheLoop();
  expect([one.at.length, other.at.length]).toEqual([1, 1]);
});

test("what comes up once in a while leaves without a rest", async () => {
  const pacer = new Pacer();
  const each = works(8, 1.5);
  for (let i = 0; i < 5; i++) {
    await repeat(pacer, each, i + 1);
    now += 50;
  }
  expect(rested).toBe(0);
});

test("when there is much to do, half of the time is left for other things", async () => {
  const pacer = new Pacer();
  await repeat(pacer, works(8, 1.5), 100);
  const used = 100 * 8 * 1.5;
  expect(rested / used).toBeGreaterThan(0.95);
  expect(rested / used).toBeLessThan(1.05);
});

test("and no more than 25 ms while all that waits gets its turn, however much that is", async () => {
  const pacer = new Pacer();
  const each = works(80, 1.5);
  await repeat(pacer, each, 20);
  const rounds = each[0]!.at.slice(1).map((at, i) => at - each[0]!.at[i]!);
  expect(Math.max(...rounds.slice(2))).toBeLessThan(80 * 1.5 + 30);
  expect(rested / 20).toBeGreaterThan(20);
});

test("a turn ends after a millisecond, and lets other things in", async () => {
  const pacer = new Pacer();
  const each = works(10, 0.4);
  for (const work of each) pacer.schedule(work);
  const done: number[] = [];
  while (done.at(-1) !== 10) {
    await turnOfTheLoop();
    done.push(each.filter(({ at }) => at.length > 0).length);
  }
  expect(done).toEqual([3, 6, 9, 10]);
});

test("what comes up during a turn waits behind the others", async () => {
  const pacer = new Pacer();
  const order: string[] = [];
  const named = (name: string, then?: () => void): Paced => ({
    flush() {
      order.push(name);
      then?.();
    },
  });
  const again = named("again", () => order.length < 5 && pacer.schedule(again));
  for (const each of [again, named("one"), named("other")]) pacer.schedule(each);
  await vi.waitUntil(() => order.length === 5);
  expect(order).toEqual(["again", "one", "other", "again", "again"]);
});
