import { expect, test } from "vitest";

import { parseInfo } from "../../../src/nats/ask.ts";
import { parsePorts } from "../../../src/nats/ports.ts";

test("reads the client port of a ports file", () => {
  expect(parsePorts('{"nats":["nats://127.0.0.1:40001"]}')).toBe(40001);
  expect(parsePorts('{"nats":["nats://[::1]:40002"]}')).toBe(40002);
});

test("waits for the rest of a ports file that is being written", () => {
  expect(parsePorts("")).toBeUndefined();
  expect(parsePorts('{"nats":["nats://127.0')).toBeUndefined();
  expect(parsePorts("{}")).toBeUndefined();
});

test("reads a whole INFO line and waits for the rest of a partial one", () => {
  expect(parseInfo('INFO {"version":"2.14.5","jetstream":true} \r\n')).toEqual({
    version: "2.14.5",
    jetstream: true,
  });
  expect(parseInfo('INFO {"version":"2.14')).toBeUndefined();
});
