import fc from "fast-check";
import { expect, test } from "vitest";
import {
  encodeKey,
  keyPattern,
  parsePattern,
  type KeyPattern,
} from "../../../src/protocol/keys.ts";
import { FilterIndex } from "../../../src/watch/filters.ts";

const patterns: KeyPattern[] = [
  ...["a", "a.b", "a.*", "*.b", "a.>", ">", "*", "a*", "ü", "a.b*", "x.y.z"].map(parsePattern),
  keyPattern("a*"),
  keyPattern("a.>"),
];
const keys = ["a", "a.b", "a.c", "b", "b.b", "a.b.c", "ü", "ab", "a*", "a.>", "x.y.z", ""];

const members = fc.array(
  fc.record({
    patterns: fc.array(fc.constantFrom(...patterns), { minLength: 1, maxLength: 4 }),
    leaves: fc.boolean(),
  }),
  { maxLength: 12 },
);

test("an index of filters finds exactly those who want a key, each once, and forgets who left", () => {
  fc.assert(
    fc.property(members, fc.constantFrom(...keys), (all, key) => {
      const index = new FilterIndex<number>();
      all.forEach((member, id) => index.add(id, member.patterns));
      all.forEach((member, id) => {
        if (member.leaves) index.delete(id);
      });
      const suffix = encodeKey(key);
      const found: number[] = [];
      index.forEachMatch(suffix, (id) => found.push(id));
      const wanting = all.flatMap((member, id) =>
        !member.leaves && member.patterns.some((pattern) => pattern.matches(suffix)) ? [id] : [],
      );
      expect(found.sort((a, b) => a - b)).toEqual(wanting);
    }),
    { numRuns: 1_000 },
  );
});

test("a member may leave while it is called back", () => {
  const index = new FilterIndex<string>();
  const both = [parsePattern("k"), parsePattern("*")];
  const called: string[] = [];
  for (const member of ["one", "two", "three"]) index.add(member, both);
  index.forEachMatch("k", (member) => {
    called.push(member);
    index.delete(member);
  });
  index.forEachMatch("k", (member) => called.push(member));
  expect(called).toEqual(["one", "two", "three"]);
});

const token = fc.constantFrom("a", "b", "user", "x-1", "*", "a*", "*1");
const texts = fc
  .tuple(fc.array(token, { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([tokens, isOpen]) => [...tokens, ...(isOpen ? [">"] : [])].join("."));
const names = fc
  .array(fc.constantFrom("a", "b", "user", "x-1", "ab", "y1", "*"), { minLength: 1, maxLength: 5 })
  .map((tokens) => tokens.join("."));

test("an index of filters agrees with the filters themselves, whatever they are", () => {
  fc.assert(
    fc.property(fc.array(fc.array(texts, { minLength: 1, maxLength: 3 })), names, (all, name) => {
      const index = new FilterIndex<number>();
      all.forEach((filters, id) => index.add(id, filters.map(parsePattern)));
      const suffix = encodeKey(name);
      const found: number[] = [];
      index.forEachMatch(suffix, (id) => found.push(id));
      const wanting = all.flatMap((filters, id) =>
        filters.some((text) => parsePattern(text).matches(suffix)) ? [id] : [],
      );
      expect(found.sort((a, b) => a - b)).toEqual(wanting);
    }),
    { numRuns: 2_000 },
  );
});

test("filters without wildcards cost about their own length, however many tokens they have", () => {
  const index = new FilterIndex<number>();
  const filters = Array.from({ length: 1_024 }, (_, i) => `${i}${".a".repeat(500)}`);
  const before = process.memoryUsage().heapUsed;
  filters.forEach((text, id) => index.add(id, [parsePattern(text)]));
  // A node of a tree per token would be more than 100 MB.
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(80 * 1024 * 1024);
  const found: number[] = [];
  index.forEachMatch(filters[7]!, (id) => found.push(id));
  index.delete(7);
  index.forEachMatch(filters[7]!, (id) => found.push(id));
  index.forEachMatch(filters[8]!, (id) => found.push(id));
  expect(found).toEqual([7, 8]);
});
