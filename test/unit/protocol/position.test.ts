import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  advancePosition,
  encodePosition,
  parsePosition,
  revisionOfPosition,
  watchHash,
  type WatchMode,
} from "../../../src/protocol/position.ts";

const epochs = fc
  .date({ min: new Date("2020-01-01"), max: new Date("2100-01-01"), noInvalidDate: true })
  .map((date) => date.toISOString());
const revisions = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const filters = fc.array(fc.constantFrom("a", "b", "a.*", ">", "ü", "x y"), { maxLength: 5 });
const modes = fc.record<WatchMode>({
  values: fc.boolean(),
  include: fc.constantFrom("snapshot", "updates", "history"),
});
const hashes = fc.option(
  fc.tuple(filters, modes).map(([texts, mode]) => watchHash(texts, mode)),
  { nil: undefined },
);
const positions = fc
  .tuple(epochs, revisions, hashes)
  .map(([epoch, revision, hash]) => encodePosition({ epoch, revision }, hash));

describe("a position", () => {
  test("says what was put into it, and is safe in a URL and a header", () => {
    fc.assert(
      fc.property(epochs, revisions, hashes, (epoch, revision, hash) => {
        const position = encodePosition({ epoch, revision }, hash);
        expect(position).toMatch(/^[a-z0-9-]+$/);
        expect(parsePosition(position)).toEqual({ epoch: Date.parse(epoch), revision, hash });
        expect(revisionOfPosition(position)).toBe(revision);
      }),
    );
  });

  test("differs from every other one", () => {
    const parts = fc.tuple(epochs, revisions, hashes);
    fc.assert(
      fc.property(parts, parts, ([epoch, revision, hash], [epoch2, revision2, hash2]) => {
        const isSame =
          encodePosition({ epoch, revision }, hash) ===
          encodePosition({ epoch: epoch2, revision: revision2 }, hash2);
        expect(isSame).toBe(epoch === epoch2 && revision === revision2 && hash === hash2);
      }),
    );
  });

  test("of a bucket created a millisecond later differs", () => {
    const positionOf = (epoch: string): string => encodePosition({ epoch, revision: 1 });
    expect(positionOf("2026-01-02T03:04:05.123456789Z")).not.toBe(
      positionOf("2026-01-02T03:04:05.124456789Z"),
    );
  });

  test("moves on to later revisions only, and stays otherwise as it is", () => {
    fc.assert(
      fc.property(positions, revisions, (position, revision) => {
        const before = parsePosition(position)!;
        const after = parsePosition(advancePosition(position, revision));
        expect(after).toEqual({ ...before, revision: Math.max(before.revision, revision) });
      }),
    );
    expect(advancePosition("of a later version", 7)).toBe("of a later version");
  });

  test.each([
    "",
    "1",
    "-",
    "a-",
    "-a",
    "a-b-",
    "a-b-c-d",
    "A-B",
    "a b-c",
    "a-b\n",
    "zzzzzzzzzzz-1",
    "1-zzzzzzzzzzz",
    `${"a".repeat(12)}-1`,
    "a-b-12345678",
  ])("is not %j", (text) => {
    expect(parsePosition(text)).toBeUndefined();
    expect(revisionOfPosition(text)).toBe(0);
  });
});

describe("what is watched", () => {
  test("is the same whatever the order and number of equal filters", () => {
    fc.assert(
      fc.property(filters, modes, fc.nat(), (texts, mode, seed) => {
        const turned = texts.map((_, i) => texts[(i + seed) % texts.length]!).reverse();
        expect(watchHash([...turned, ...texts], mode)).toBe(watchHash(texts, mode));
      }),
    );
  });

  test("is all keys where there is no filter", () => {
    const mode: WatchMode = { values: true, include: "snapshot" };
    expect(watchHash([], mode)).toBe(watchHash([">"], mode));
  });

  test("differs by filters, by values, and by history, but not between snapshot and updates", () => {
    const mode: WatchMode = { values: true, include: "snapshot" };
    const hashes = [
      watchHash(["a"], mode),
      watchHash(["b"], mode),
      watchHash(["a", "b"], mode),
      watchHash(["a,b"], mode),
      watchHash(["a"], { ...mode, values: false }),
      watchHash(["a"], { ...mode, include: "history" }),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(watchHash(["a"], { ...mode, include: "updates" })).toBe(hashes[0]);
  });
});
