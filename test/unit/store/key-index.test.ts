import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KeyIndex } from "../../../src/store/key-index.ts";

const key = fc.oneof(
  fc.string({ minLength: 1, maxLength: 3 }),
  fc.nat({ max: 3000 }).map((n) => `key.${n}`),
);
const step = fc.record({ key, isDelete: fc.boolean(), expires: fc.constantFrom(0, 0, 0, 5, 50) });

describe("the key index", () => {
  test("holds what a sorted map would, whatever is put and deleted", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 3000, size: "max" }), key, (steps, from) => {
        const index = new KeyIndex();
        const model = new Map<string, { revision: number; expires: number }>();
        steps.forEach(({ key, isDelete, expires }, i) => {
          if (isDelete) index.delete(key, i + 1);
          else index.put(key, i + 1, expires);
          if (isDelete) model.delete(key);
          else model.set(key, { revision: i + 1, expires });
        });
        const sorted = [...model.keys()].sort();
        expect(index.size).toBe(model.size);
        expect([...index.keys("", 0)]).toEqual(sorted);
        expect([...index.keys(from, 10)]).toEqual(
          sorted.filter(
            (each) =>
              each >= from && (model.get(each)!.expires === 0 || model.get(each)!.expires > 10),
          ),
        );
        for (const [each, { revision }] of model) expect(index.get(each)).toBe(revision);
        for (const each of sorted) index.delete(each, Number.MAX_SAFE_INTEGER);
        expect([index.size, index.bytes, [...index.keys()]]).toEqual([0, 0, []]);
      }),
      { numRuns: 60 },
    );
  });

  test("does not let a scan bring back what the feed has deleted, or an older revision", () => {
    const index = new KeyIndex();
    index.delete("deleted", 9);
    index.put("deleted", 5);
    index.put("newer", 9);
    index.put("newer", 5);
    index.put("again", 4);
    index.delete("again", 6);
    index.put("again", 7);
    index.settle();
    expect([...index.keys()].map((each) => [each, index.get(each)])).toEqual([
      ["again", 7],
      ["newer", 9],
    ]);
  });

  test("tells the keys that another one does not have", () => {
    const [one, other] = [new KeyIndex(), new KeyIndex()];
    for (let i = 0; i < 2000; i++) {
      one.put(`k${i}`, i);
      if (i % 3 !== 0) other.put(`k${i}`, i);
    }
    expect([...one.missingFrom(other, 1000)].sort()).toEqual(
      Array.from({ length: 334 }, (_, i) => `k${i * 3}`).sort(),
    );
  });
});
