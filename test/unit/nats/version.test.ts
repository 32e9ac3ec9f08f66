import { expect, test } from "vitest";

import { compareVersions, parseServerVersion } from "../../../src/nats/version.ts";

test.each([
  ["nats-server: v2.14.5\n", "2.14.5"],
  ["nats-server: 2.12.0", "2.12.0"],
  ["nats-server: v2.15.0-RC.3\n", "2.15.0-RC.3"],
  ["nats-server: v2.12.1+ds1\n", "2.12.1+ds1"],
  ["v2.14.5", undefined],
  ["something else entirely", undefined],
  ["", undefined],
])("reads the version in %j", (output, version) => {
  expect(parseServerVersion(output)).toBe(version);
});

test("orders versions by number, a preview before its release", () => {
  const ordered = ["2.9.10", "2.12.0-RC.1", "2.12.0", "2.12.1", "2.14.5", "2.15.1", "10.0.0"];
  expect([...ordered].reverse().sort(compareVersions)).toEqual(ordered);
});

test("finds equal versions equal, whatever was built on top", () => {
  expect(compareVersions("2.12.1+ds1", "2.12.1")).toBe(0);
});
