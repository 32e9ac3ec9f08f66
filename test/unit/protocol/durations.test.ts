import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseTtl } from "../../../src/protocol/durations.ts";
import type { KvError } from "../../../src/protocol/errors.ts";

describe("parseTtl", () => {
  test.each([
    [90, 90],
    ["90", 90],
    ["90s", 90],
    ["15m", 900],
    ["24h", 86_400],
    ["7d", 604_800],
    ["1w", 604_800],
    ["1500ms", 1.5],
    [1.5, 1.5],
    [1.0001, 1.001],
    ["PT1M", 60],
    ["PT1M30S", 90],
    ["P1D", 86_400],
    ["P1DT12H", 129_600],
    ["P2W", 1_209_600],
    ["P1Y", 31_536_000],
    ["PT1.5S", 1.5],
    [{ value: 7, unit: "DAYS" } as const, 604_800],
    [{ value: 2, unit: "MINUTES" } as const, 120],
    ["365d", 31_536_000],
    [1, 1],
  ])("%j is %f seconds", (text, seconds) => {
    expect(parseTtl(text)).toBe(seconds);
  });

  test.each([
    "",
    "0",
    0,
    "999ms",
    0.5,
    "-1",
    -5,
    "366d",
    "1y",
    "P",
    "PT",
    "P1M",
    "1 m",
    "1H",
    "soon",
    "1e3",
    "0x10",
    "Infinity",
    NaN,
    Infinity,
    "٣s",
    { value: 1, unit: "YEARS" as "DAYS" },
    { value: 0, unit: "DAYS" } as const,
  ])("%j is refused", (text) => {
    expect(() => parseTtl(text)).toThrow(
      expect.objectContaining({ code: "invalid_ttl" }) as KvError,
    );
  });

  test("all notations of one time agree", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 365 * 24 }), (hours) => {
        const seconds = hours * 3600;
        expect(parseTtl(seconds)).toBe(seconds);
        expect(parseTtl(`${hours}h`)).toBe(seconds);
        expect(parseTtl(`PT${hours}H`)).toBe(seconds);
        expect(parseTtl({ value: hours, unit: "HOURS" })).toBe(seconds);
        expect(parseTtl(`P${Math.floor(hours / 24)}DT${hours % 24}H`)).toBe(seconds);
      }),
    );
  });
});
