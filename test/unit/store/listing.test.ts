import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeKey, parsePattern } from "../../../src/protocol/keys.ts";
import { pageOf } from "../../../src/store/listing.ts";

describe("a page of sorted keys", () => {
  test.each([
    ["user.*.name", "user."],
    ["user.7.>", "user.7."],
    ["user.7.name", "user.7.name"],
  ])("for %j looks no further than keys that begin with %j", (filter, literal) => {
    const all = Array.from({ length: 300 }, (_, i) => [`user.${i}.name`, `zone.${i}`]).flat();
    let last = "";
    function* walk(): Generator<string> {
      for (const key of all.sort()) yield (last = key);
    }
    const pattern = parsePattern(filter);
    const { keys } = pageOf(walk(), { pattern });
    expect(keys).toEqual(all.filter((key) => pattern.matches(encodeKey(key))));
    const behind = all.filter((key) => key > literal && !key.startsWith(literal));
    expect(last).toBe(behind[0]);
  });

  test("has what matches, whatever the filter, the prefix and the keys", () => {
    const part = fc.constantFrom("a", "b", "ab", "a=", "ü", "a b", "", "B", "a/b");
    const name = fc
      .array(part, { minLength: 1, maxLength: 3 })
      .map((parts) => parts.join("."))
      .filter((key) => key !== "");
    const token = fc.oneof(part, fc.constantFrom("*", "a*", "*b"));
    const filter = fc
      .tuple(fc.array(token, { minLength: 1, maxLength: 3 }), fc.boolean())
      .map(([tokens, isOpen]) => [...tokens, ...(isOpen ? [">"] : [])].join("."));
    fc.assert(
      fc.property(
        fc.uniqueArray(name),
        filter,
        fc.constantFrom("", "a", "a."),
        (keys, text, prefix) => {
          let pattern;
          try {
            pattern = parsePattern(text);
          } catch {
            return;
          }
          const sorted = [...keys].sort();
          const wanted = sorted.filter(
            (key) => key.startsWith(prefix) && pattern.matches(encodeKey(key)),
          );
          expect(pageOf(sorted, { pattern, prefix }).keys).toEqual(wanted);
        },
      ),
      { numRuns: 500 },
    );
  });
});
