import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  decodeKey,
  encodeKey,
  everyKey,
  keyPattern,
  parsePattern,
} from "../../../src/protocol/keys.ts";
import { isWithin, narrowed } from "../../../src/protocol/reach.ts";

const part = fc.constantFrom("a", "b", "ab", "a:b", "a=41", "=2E", "ü", "a*", "B");
const key = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("."));
const token = fc.oneof(part, fc.constantFrom("*", "a*", "*b", "a:*", "*A", "*=*"));
const pattern = fc.oneof(
  fc
    .tuple(fc.array(token, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([tokens, isOpen]) => parsePattern([...tokens, ...(isOpen ? [">"] : [])].join("."))),
  key.map(keyPattern),
  fc.constant(everyKey),
);

describe("patterns within a reach", () => {
  test("match what both match, by whatever subject a key is stored", () => {
    // A subject that is no encoding of ours, as another client may have chosen it, is a name of its own.
    const stored = fc.oneof(key.map(encodeKey), fc.constantFrom("a=41", "a=3Ab.a=41", "b.=41b"));
    fc.assert(
      fc.property(
        fc.array(pattern, { minLength: 1, maxLength: 3 }),
        fc.array(pattern, { maxLength: 3 }),
        stored,
        (patterns, reach, suffix) => {
          const name = decodeKey(suffix);
          const found = narrowed(patterns, reach).some((each) => each.matches(suffix));
          const expected =
            isWithin(reach, name) && patterns.some((each) => each.matches(encodeKey(name)));
          expect(found).toBe(expected);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test("have subjects that cover what they match", () => {
    fc.assert(
      fc.property(pattern, pattern, key, (one, other, name) => {
        const suffix = encodeKey(name);
        for (const both of narrowed([one], [other])) {
          const bySubject = subjectMatches(both.subject, suffix);
          const isMatch = both.matches(suffix);
          if (isMatch) expect(bySubject).toBe(true);
          if (both.exact) expect(bySubject).toBe(isMatch);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test.each([
    [">", ["user.42.>"], ["user.42.>"]],
    ["user.42.cart", ["user.42.>", "user.*.cart"], ["user.42.cart"]],
    ["*.cart.>", ["user.>"], ["*.cart.>\u0000user.>"]],
    ["user.7.>", ["user.42.>"], []],
    ["user.*", ["user.42.>"], []],
    ["user.*", [], []],
  ])("%j within %j is %j", (filter, reach, expected) => {
    const found = narrowed([parsePattern(filter)], reach.map(parsePattern));
    expect(found.map(({ text }) => text)).toEqual(expected);
  });

  test("are the same ones where all is within reach", () => {
    const patterns = [parsePattern("a.*")];
    expect(narrowed(patterns, "all")).toBe(patterns);
  });
});

function subjectMatches(filter: string, subject: string): boolean {
  const [wanted, given] = [filter.split("."), subject.split(".")];
  const isOpen = wanted.at(-1) === ">";
  const fixed = isOpen ? wanted.slice(0, -1) : wanted;
  if (isOpen ? given.length <= fixed.length : given.length !== fixed.length) return false;
  return fixed.every((each, i) => each === "*" || each === given[i]);
}
