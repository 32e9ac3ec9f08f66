import { expect, test } from "vitest";
import { parseFrames } from "../../../src/sdk/core/watch-frames.ts";

const typesOf = (message: unknown) =>
  parseFrames(JSON.stringify(message)).map(({ type }) => type as string);

test("every known frame is taken", () => {
  for (const type of ["kv_update", "kv_ready", "kv_stale", "kv_reset", "error"]) {
    expect(typesOf({ type })).toEqual([type]);
  }
});

test("a transaction is its updates, in order", () => {
  const frames = parseFrames(
    JSON.stringify({ type: "kv_transaction", events: [{ key: "a" }, { key: "b" }] }),
  );
  expect(frames).toEqual([
    { type: "kv_update", key: "a" },
    { type: "kv_update", key: "b" },
  ]);
});

test("what is not known is ignored", () => {
  for (const message of [{ type: "kv_future" }, { type: 7 }, {}, null, 1, "text", []]) {
    expect(typesOf(message)).toEqual([]);
  }
  expect(parseFrames("no JSON")).toEqual([]);
});
