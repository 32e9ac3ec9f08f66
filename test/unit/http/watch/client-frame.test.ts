import fc from "fast-check";
import { expect, test } from "vitest";
import { parseClientFrame } from "../../../../src/http/watch/client-frame.ts";

test("a frame is a watch or an unwatch with an id", () => {
  const watch = { type: "watch", id: "1", bucket: "b" };
  expect(parseClientFrame(JSON.stringify(watch))).toEqual({
    type: "watch",
    id: "1",
    request: watch,
  });
  expect(parseClientFrame('{"type":"unwatch","id":" ~"}')).toEqual({ type: "unwatch", id: " ~" });
  const longest = "x".repeat(64);
  expect(parseClientFrame(JSON.stringify({ type: "unwatch", id: longest }))?.id).toBe(longest);
});

test.each([
  "",
  "nonsense",
  "null",
  "7",
  '"watch"',
  "[]",
  "{}",
  '{"type":"watch"}',
  '{"id":"1"}',
  '{"type":"ping","id":"1"}',
  '{"type":"watch","id":1}',
  '{"type":"watch","id":""}',
  '{"type":"watch","id":null}',
  `{"type":"watch","id":"${"x".repeat(65)}"}`,
  '{"type":"unwatch","id":"é"}',
  '{"type":"unwatch","id":"a\\nb"}',
  '{"type":["watch"],"id":"1"}',
  '{"type":"watch","id":"1"} {}',
])("anything else is none: %s", (text) => {
  expect(parseClientFrame(text)).toBeUndefined();
});

test("no text makes the reading throw", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      parseClientFrame(text);
    }),
  );
});
