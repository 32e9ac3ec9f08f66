import fc from "fast-check";
import { expect, test } from "vitest";
import { backoffDelay } from "../../../src/sdk/core/backoff.ts";

const backoff = { base: 250, cap: 15_000 };

test("the bound of the wait doubles with every attempt up to the cap", () => {
  const bounds = [1, 2, 3, 4, 5, 6, 7, 8, 100, 5000].map((n) => backoffDelay(n, 1, backoff));
  expect(bounds).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 15_000]);
});

test("any wait below the bound can come out", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (attempt, at) => {
        const bound = backoffDelay(attempt, 1, backoff);
        expect(backoffDelay(attempt, at, backoff)).toBeCloseTo(bound * at, 6);
      },
    ),
  );
});
