import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeKey, parsePattern } from "../../../src/protocol/keys.ts";
import { isWithin } from "../../../src/protocol/reach.ts";
import { pageOf } from "../../../src/store/listing.ts";

describe("a page of sorted keys", () => {
  const all = Array.from({ length: 300 }, (_, i) => [`user.${i}.name`, `zone.${i}`])
    .flat()
    .sort();

  /** The keys, and which of them were looked at. */
  function watched(): { sorted: readonly string[]; looked: Set<string> } {
    const looked = new Set<string>();
    const sorted = new Proxy(all, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property);
        if (typeof property === "string" && /^\d+$/.test(property)) looked.add(value as string);
        return value;
      },
    });
    return { sorted, looked };
  }

  test.each([
    ["user.*.name", "user."],
    ["user.7.>", "user.7."],
    ["user.7.name", "user.7.name"],
  ])("for %j looks no further than keys that begin with %j", (filter, literal) => {
    const pattern = parsePattern(filter);
    const { sorted, looked } = watched();
    const { keys } = pageOf(sorted, { pattern });
    expect(keys).toEqual(all.filter((key) => pattern.matches(encodeKey(key))));
    const beginning = all.filter((key) => key.startsWith(literal)).length;
    // Beside them, the first one behind, and those by which the place of the first is found.
    expect(looked.size).toBeLessThan(beginning + 15);
  });

  test("within a reach costs that, however many keys are out of it", () => {
    const reach = ["user.7.>", "user.70.>", "zone.3", "gone.>"].map(parsePattern);
    const { sorted, looked } = watched();
    const page = pageOf(sorted, { reach, limit: 3 });
    expect(page).toEqual({ keys: ["user.7.name", "user.70.name", "zone.3"], hasMore: false });
    expect(looked.size).toBeLessThan(60);
  });

  test("has what matches, whatever the filter, the reach, the prefix, the cursor and the keys", () => {
    const part = fc.constantFrom("a", "b", "ab", "a=", "ü", "a b", "", "B", "a/b");
    const name = fc
      .array(part, { minLength: 1, maxLength: 3 })
      .map((parts) => parts.join("."))
      .filter((key) => key !== "");
    const token = fc.oneof(part, fc.constantFrom("*", "a*", "*b"));
    const filter = fc
      .tuple(fc.array(token, { minLength: 1, maxLength: 3 }), fc.boolean())
      .map(([tokens, isOpen]) => [...tokens, ...(isOpen ? [">"] : [])].join("."))
      .map((text) => {
        try {
          return parsePattern(text);
        } catch {
          return undefined;
        }
      })
      .filter((pattern) => pattern !== undefined);
    const reachOf = fc.oneof(fc.constant("all" as const), fc.array(filter, { maxLength: 3 }));
    fc.assert(
      fc.property(
        fc.uniqueArray(name),
        fc.option(filter, { nil: undefined }),
        reachOf,
        fc.constantFrom("", "a", "a."),
        fc.option(name, { nil: undefined }),
        fc.constantFrom(1, 2, 1000),
        (keys, pattern, reach, prefix, after, limit) => {
          const sorted = [...keys].sort();
          const wanted = sorted.filter(
            (key) =>
              key.startsWith(prefix) &&
              (pattern === undefined || pattern.matches(encodeKey(key))) &&
              isWithin(reach, key) &&
              (after === undefined || key > after),
          );
          const query = {
            prefix,
            limit,
            reach,
            ...(pattern === undefined ? {} : { pattern }),
            ...(after === undefined ? {} : { after }),
          };
          expect(pageOf(sorted, query)).toEqual({
            keys: wanted.slice(0, limit),
            hasMore: wanted.length > limit,
          });
        },
      ),
      { numRuns: 1000 },
    );
  });
});
