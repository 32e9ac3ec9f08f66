import fc from "fast-check";
import { expect, test } from "vitest";
import { bearerOf } from "../../../src/auth/bearer.ts";

test.each([
  ["Bearer abc", undefined, "abc"],
  ["bearer  abc ", undefined, "abc"],
  ["Basic abc", undefined, undefined],
  ["Bearer", undefined, undefined],
  ["Bearer a b", undefined, undefined],
  [undefined, "jetbucket.v1, bearer.a.b.c", "a.b.c"],
  [undefined, "bearer.x,jetbucket.v1", "x"],
  [undefined, "jetbucket.v1", undefined],
  [undefined, undefined, undefined],
  // A header that is there counts, whatever else is said.
  ["Basic abc", "bearer.x", undefined],
])("authorization %j and protocols %j say %j", (authorization, protocols, expected) => {
  expect(bearerOf(authorization, protocols)).toBe(expected);
});

test("whatever comes is read in no time", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 5_000 }), (text) => {
      bearerOf(`Bearer ${text}`, undefined);
      bearerOf(undefined, text);
    }),
  );
  const started = performance.now();
  bearerOf(`Bearer ${" ".repeat(15_000)}x y`, undefined);
  expect(performance.now() - started).toBeLessThan(500);
});
