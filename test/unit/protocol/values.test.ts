import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { KvError } from "../../../src/protocol/errors.ts";
import {
  base64,
  bytesOfBase64,
  encode,
  mediaTypeOf,
  utf8,
  valueFromBody,
} from "../../../src/protocol/values.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const NOT_UTF8 = Uint8Array.of(0xff, 0xfe, 0x00);

describe("a body", () => {
  test.each([
    ["application/json", "json", undefined],
    ["application/json; charset=utf-8", "json", undefined],
    ["Application/JSON", "json", undefined],
    ["text/plain", "text", undefined],
    ["text/plain; charset=utf-8", "text", "text/plain; charset=utf-8"],
    ["text/html", "text", "text/html"],
    ["application/octet-stream", "bytes", undefined],
    ["image/png", "bytes", "image/png"],
    ["application/vnd.x+json", "bytes", "application/vnd.x+json"],
    ["", "bytes", undefined],
    [undefined, "bytes", undefined],
  ])("of the content type %j is %s", (header, type, contentType) => {
    const value = valueFromBody(bytesOf("1"), header);
    expect(value.type).toBe(type);
    expect(value.contentType).toBe(contentType);
    expect(value.bytes).toEqual(bytesOf("1"));
  });

  test.each([
    ["broken", bytesOf("{")],
    ["empty", new Uint8Array(0)],
    ["no UTF-8", NOT_UTF8],
    ["behind a byte order mark", bytesOf("\ufeff{}")],
    ["followed by more", bytesOf("{} {}")],
  ])("of JSON that is %s is refused as invalid_json", (_what, bytes) => {
    expect(() => valueFromBody(bytes, "application/json")).toThrow(
      expect.objectContaining({ name: "KvError", code: "invalid_json" }) as KvError,
    );
  });
});

describe("a stored value", () => {
  test("that was declared JSON is written as it is stored", () => {
    expect(encode("json", bytesOf(' { "a" : 1 }'))).toEqual({
      encoding: "json",
      json: ' { "a" : 1 }',
    });
  });

  test("that was declared bytes and is UTF-8 is text, even where it looks like JSON", () => {
    expect(encode("bytes", bytesOf("123"))).toEqual({ encoding: "text", json: '"123"' });
    expect(encode("text", bytesOf("null"))).toEqual({ encoding: "text", json: '"null"' });
  });

  test("without a declared type is JSON if it parses, else text, else base64", () => {
    expect(encode(undefined, bytesOf("[1]"))).toEqual({ encoding: "json", json: "[1]" });
    expect(encode(undefined, bytesOf("plain"))).toEqual({ encoding: "text", json: '"plain"' });
    expect(encode(undefined, NOT_UTF8)).toEqual({ encoding: "base64", json: '"//4A"' });
    expect(encode(undefined, new Uint8Array(0))).toEqual({ encoding: "text", json: '""' });
  });

  test("that is no UTF-8 is base64 whatever was declared", () => {
    for (const type of ["json", "text", "bytes"] as const) {
      expect(encode(type, NOT_UTF8).encoding).toBe("base64");
    }
  });

  test("comes back from its JSON form byte by byte", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.string({ unit: "binary", maxLength: 80 }).map(bytesOf),
        ),
        (bytes) => {
          const { encoding, json } = encode("bytes", bytes);
          const text = JSON.parse(json) as string;
          expect(encoding === "base64" ? bytesOfBase64(text) : bytesOf(text)).toEqual(
            Uint8Array.from(bytes),
          );
        },
      ),
    );
  });

  test("keeps a byte order mark", () => {
    expect(utf8(bytesOf("\ufeffa"))).toBe("\ufeffa");
    expect(JSON.parse(encode("text", bytesOf("\ufeffa")).json)).toBe("\ufeffa");
  });

  test.each([
    ["json", undefined, "1", "application/json"],
    ["text", undefined, "a", "text/plain; charset=utf-8"],
    ["text", "text/html", "a", "text/html"],
    ["bytes", undefined, "a", "application/octet-stream"],
    ["bytes", "image/png", "a", "image/png"],
    [undefined, undefined, "{}", "application/json"],
    [undefined, undefined, "a", "text/plain; charset=utf-8"],
  ] as const)(
    "of type %s and content type %s with %j is served as %s",
    (type, own, text, media) => {
      expect(mediaTypeOf(type, own, bytesOf(text))).toBe(media);
    },
  );
});

test("base64 agrees with Node's own, in both directions and for every length", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20_000, size: "max" }), (bytes) => {
      expect(base64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
      expect(bytesOfBase64(base64(bytes))).toEqual(Uint8Array.from(bytes));
    }),
    { numRuns: 60 },
  );
});
