import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bucketPath, keyPath, queryOf } from "../../../src/sdk/core/paths.ts";

const base = "/api/v1/kv/buckets/b";

/** The key as a server finds it, after everything that a URL parser does on the way. */
function arrivesAs({ pathname, searchParams }: URL): string | null {
  const prefix = /^\/api\/v1\/kv\/buckets\/b\/(?:keys|history)\//;
  return prefix.test(pathname)
    ? decodeURIComponent(pathname.replace(prefix, ""))
    : searchParams.get("key");
}

const nasty = fc.oneof(
  fc.string({ unit: "grapheme", minLength: 1 }),
  fc.string({
    unit: fc.constantFrom(".", "/", "%", "2", "e", "E", "#", "?", "&", "+", " ", "\\", "ä", "😀"),
    minLength: 1,
  }),
);

describe("a key arrives as it was given", () => {
  test("whatever is in it", () => {
    fc.assert(
      fc.property(nasty, fc.constantFrom("keys" as const, "history" as const), (key, route) => {
        const url = new URL(`http://localhost${keyPath("b", route, key)}`);
        expect(arrivesAs(url)).toBe(key);
        // Some proxies decode slashes before they pass a request on.
        const slashes = new URL(url.href.replace(/%2F/gi, "/"));
        expect(arrivesAs(slashes)).toBe(key);
      }),
      { numRuns: 2000 },
    );
  });

  test("in the query where URL parsers would collapse it", () => {
    expect(keyPath("b", "keys", ".")).toBe(`${base}/entry?key=.`);
    expect(keyPath("b", "keys", "a/../b")).toBe(`${base}/entry?key=a%2F..%2Fb`);
    expect(keyPath("b", "history", "..")).toBe(`${base}/history?key=..`);
    expect(keyPath("b", "keys", "..", { revision: "3" })).toBe(`${base}/entry?key=..&revision=3`);
  });

  test("in the path otherwise", () => {
    expect(keyPath("b", "keys", "a/b#c?d%e f.ü")).toBe(`${base}/keys/a%2Fb%23c%3Fd%25e%20f.%C3%BC`);
    expect(keyPath("b", "keys", "...", { purge: "true" })).toBe(`${base}/keys/...?purge=true`);
  });
});

test("a key that would be another route is refused", () => {
  expect(() => keyPath("b", "keys", "")).toThrow(expect.objectContaining({ code: "invalid_key" }));
  expect(() => keyPath("b", "keys", "\ud800")).toThrow(
    expect.objectContaining({ code: "invalid_key" }),
  );
});

test("a bucket name that would be another route is refused, any other left to the server", () => {
  for (const name of ["", ".", ".."]) {
    expect(() => bucketPath(name)).toThrow(
      expect.objectContaining({ code: "invalid_bucket_name" }),
    );
  }
  expect(bucketPath("a/b c")).toBe("/api/v1/kv/buckets/a%2Fb%20c");
});

test("a query leaves out what is undefined, and repeats lists", () => {
  expect(queryOf({})).toBe("");
  expect(queryOf({ a: undefined })).toBe("");
  expect(queryOf({ key: ["user.*", "a&b"], include: "snapshot" })).toBe(
    "?key=user.*&key=a%26b&include=snapshot",
  );
});
