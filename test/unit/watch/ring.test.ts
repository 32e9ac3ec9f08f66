import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { Ring, RingBudget } from "../../../src/watch/ring.ts";
import { lateMoment, momentAt } from "./entries.ts";

const MOMENT = momentAt(1).bytes;
const limits = { usual: 100 * MOMENT, pinned: 1000 * MOMENT, total: 10_000 * MOMENT };

let ring: Ring;
beforeEach(() => {
  ring = new Ring(new RingBudget(limits));
  ring.restart(10);
});

/** Revisions of what somebody gets who has seen everything up to one; undefined when that cannot be told. */
function after(revision: number): number[] | undefined {
  const start = ring.find(revision);
  if (start === undefined) return undefined;
  const found: number[] = [];
  for (let number = start; number < ring.end; number++) found.push(ring.at(number).revision);
  return found;
}

describe("a ring", () => {
  test("gives exactly what happened behind a revision, and nothing before it began", () => {
    for (const revision of [11, 13, 14]) ring.push(momentAt(revision));
    expect(after(9)).toBeUndefined();
    expect(after(10)).toEqual([11, 13, 14]);
    expect(after(12)).toEqual([13, 14]);
    expect(after(13)).toEqual([14]);
    expect(after(14)).toEqual([]);
    expect(after(20)).toEqual([]);
  });

  test("that forgot some knows what it still has, whatever was pushed, trimmed and put before", () => {
    const steps = fc.array(
      fc.oneof(
        { weight: 5, arbitrary: fc.record({ push: fc.integer({ min: 1, max: 3 }) }) },
        { weight: 1, arbitrary: fc.record({ keep: fc.integer({ min: 0, max: 8 }) }) },
        { weight: 1, arbitrary: fc.record({ back: fc.integer({ min: 1, max: 4 }) }) },
      ),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(steps, (script) => {
        ring = new Ring(new RingBudget(limits));
        ring.restart(100);
        let known: number[] = [];
        let floor = 100;
        let last = 100;
        for (const step of script) {
          if ("push" in step) {
            last += step.push;
            known.push(last);
            ring.push(momentAt(last, "k"));
          } else if ("keep" in step) {
            const gone = known.slice(0, Math.max(0, known.length - step.keep));
            ring.trim(step.keep * momentAt(last, "k").bytes);
            known = known.slice(gone.length);
            floor = gone.at(-1) ?? floor;
          } else {
            const older = Array.from({ length: step.back }, (_, i) => floor - step.back + i + 1);
            floor -= step.back;
            known = [...older, ...known];
            ring.extendBack(
              older.map((revision) => momentAt(revision, "k")),
              floor,
            );
          }
          expect(ring.floor).toBe(floor);
          expect(after(floor - 1)).toBeUndefined();
          for (let revision = floor; revision <= last; revision++)
            expect(after(revision)).toEqual(known.filter((each) => each > revision));
        }
        expect(ring.bytes).toBe(known.length * momentAt(1, "k").bytes);
      }),
      { numRuns: 300 },
    );
  });

  test("keeps numbers valid for who catches up, and says when they are not any more", () => {
    for (let revision = 11; revision <= 20; revision++) ring.push(momentAt(revision));
    const number = ring.find(15)!;
    ring.extendBack([momentAt(9)], 8);
    expect(ring.at(number).revision).toBe(16);
    ring.trim(5 * MOMENT + 20);
    expect(ring.reachesBack(number)).toBe(true);
    expect(ring.at(number).revision).toBe(16);
    ring.trim(0);
    expect(ring.reachesBack(number)).toBe(false);
    expect(ring.reachesBack(ring.end)).toBe(true);
  });

  test("holds more while somebody catches up by it", () => {
    const fill = (): void => {
      for (let i = 0; i < 200; i++) ring.push(momentAt(ring.end + 11, "k"));
    };
    ring.pin();
    fill();
    expect(ring.bytes).toBeGreaterThan(limits.usual);
    expect(ring.floor).toBe(10);
    ring.unpin();
    expect(ring.bytes).toBeLessThanOrEqual(limits.usual);
  });

  test("gives some when all together hold too much, the largest first, and all when it closes", () => {
    const budget = new RingBudget({ usual: Infinity, pinned: Infinity, total: 50 * MOMENT });
    const [large, small] = [new Ring(budget), new Ring(budget)];
    for (let i = 1; i <= 40; i++) large.push(momentAt(i, "k"));
    for (let i = 1; i <= 15; i++) small.push(momentAt(i, "k"));
    expect(budget.bytes).toBeLessThanOrEqual(50 * MOMENT);
    expect(small.floor).toBe(0);
    expect(large.floor).toBeGreaterThan(0);
    large.close();
    small.close();
    expect(budget.bytes).toBe(0);
  });
});

describe("after a loss", () => {
  beforeEach(() => {
    // Everything up to 12 was seen, then touch was lost up to 20: 17 was seen again, and a key was missing then.
    for (const revision of [11, 12, 17]) ring.push(momentAt(revision));
    ring.push(lateMoment(20, 12));
    ring.addGap(12, 20);
    ring.push(momentAt(21));
  });

  test("who saw everything before it gets what was noticed late", () => {
    expect(after(11)).toEqual([12, 17, 20, 21]);
    expect(after(12)).toEqual([17, 20, 21]);
  });

  test("who saw some of what was missed elsewhere cannot go on", () => {
    for (let revision = 13; revision < 20; revision++) expect(after(revision)).toBeUndefined();
  });

  test("who has seen everything up to its end, or more, goes on without what was noticed late", () => {
    expect(after(20)).toEqual([21]);
    expect(after(21)).toEqual([]);
  });

  test("who is in it goes on once it is known that nothing was missed from there on", () => {
    ring.narrowGap(15);
    expect(after(14)).toBeUndefined();
    // That a key is gone is no news to it, and does no harm.
    expect(after(15)).toEqual([17, 20, 21]);
  });
});

test("a loss during which nothing but a removal without a trace happened is told to who comes from before it", () => {
  ring.push(momentAt(11));
  ring.push(lateMoment(11, 11));
  ring.addGap(11, 11);
  ring.push(momentAt(12));
  expect(after(11)).toEqual([11, 12]);
  // Once it is forgotten, nobody from before it can go on.
  ring.trim(MOMENT + 10);
  expect(after(11)).toBeUndefined();
  expect(after(12)).toEqual([]);
});
