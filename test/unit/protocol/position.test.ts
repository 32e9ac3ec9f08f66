import fc from "fast-check";
import { expect, test } from "vitest";
import { encodePosition } from "../../../src/protocol/position.ts";

const moments = fc.tuple(
  fc.date({ min: new Date("2020-01-01"), max: new Date("2100-01-01"), noInvalidDate: true }),
  fc.nat({ max: Number.MAX_SAFE_INTEGER }),
);

test("different epochs and revisions have different positions, safe in a URL and a header", () => {
  fc.assert(
    fc.property(moments, moments, ([epoch, revision], [otherEpoch, otherRevision]) => {
      const position = encodePosition({ epoch: epoch.toISOString(), revision });
      const other = encodePosition({ epoch: otherEpoch.toISOString(), revision: otherRevision });
      expect(position).toMatch(/^[a-z0-9]+-[a-z0-9]+$/);
      expect(position === other).toBe(+epoch === +otherEpoch && revision === otherRevision);
    }),
  );
});

test("buckets created within the same second have different positions", () => {
  const positionOf = (epoch: string): string => encodePosition({ epoch, revision: 1 });
  expect(positionOf("2026-01-02T03:04:05.123456789Z")).not.toBe(
    positionOf("2026-01-02T03:04:05.124456789Z"),
  );
});
