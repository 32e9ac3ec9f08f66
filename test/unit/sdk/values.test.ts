import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encode, valueFromBody } from "../../../src/protocol/values.ts";
import { bodyOf, bytesOf, valueOf } from "../../../src/sdk/core/values.ts";
import type { Encoding } from "../../../src/protocol/entry.ts";

/** A value's way to the server and back, through the code by which the server stores and shows it. */
function roundTrip(value: unknown): { value: unknown; encoding: Encoding; type: string } {
  const { body, contentType } = bodyOf(value);
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const stored = valueFromBody(bytes, contentType);
  const { encoding, json } = encode(stored.type, stored.bytes);
  return { value: valueOf(JSON.parse(json), encoding), encoding, type: stored.type };
}

describe("a value that is put reads back as it was", () => {
  test("as JSON, whatever it is made of", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (generated) => {
        // Through JSON once: it has no -0.
        const value = JSON.parse(JSON.stringify(generated)) as unknown;
        fc.pre(typeof value !== "string");
        expect(roundTrip(value)).toEqual({ value, encoding: "json", type: "json" });
      }),
    );
  });

  test("as text, also when it looks like JSON", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (value) => {
        expect(roundTrip(value)).toEqual({ value, encoding: "text", type: "text" });
      }),
      { examples: [[""], ["123"], ["null"], ['{"a":1}'], ["\ufeffmark"], ["a\u0000b"]] },
    );
  });

  test("as bytes, by bytesOf whether or not they are valid UTF-8", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (value) => {
        const read = roundTrip(value);
        expect(read.type).toBe("bytes");
        expect(bytesOf(read)).toEqual(value);
      }),
      { examples: [[new Uint8Array([0xff, 0xfe])], [new TextEncoder().encode("text")]] },
    );
  });
});

test("bytes come from buffers, and from views only their own part", () => {
  const { buffer } = new Uint8Array([1, 2, 3, 4]);
  const octets = "application/octet-stream";
  expect(bodyOf(buffer)).toEqual({ body: new Uint8Array([1, 2, 3, 4]), contentType: octets });
  expect(bodyOf(Buffer.from("hi"))).toEqual({
    body: new Uint8Array([104, 105]),
    contentType: octets,
  });
  expect(bodyOf(new DataView(buffer, 1, 2)).body).toEqual(new Uint8Array([2, 3]));
  const shared = new Uint8Array(new SharedArrayBuffer(2));
  expect((bodyOf(shared).body as Uint8Array).buffer).toBeInstanceOf(ArrayBuffer);
});

test("the bytes of a JSON value are its JSON", () => {
  expect(bytesOf({ value: { a: 1 }, encoding: "json" })).toEqual(
    new TextEncoder().encode('{"a":1}'),
  );
});

test.each([
  ["undefined", undefined, /undefined cannot be stored.*null/],
  ["a function", () => 1, /function cannot be stored/],
  ["a symbol", Symbol("x"), /symbol cannot be stored/],
  ["a BigInt", 1n, /BigInt/],
])("%s is refused", (_, value, message) => {
  expect(() => bodyOf(value)).toThrow(TypeError);
  expect(() => bodyOf(value)).toThrow(message);
});
