import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  assertBucketName,
  bucketOfStream,
  streamOfBucket,
} from "../../../src/protocol/bucket-names.ts";
import { KvError } from "../../../src/protocol/errors.ts";

function isRefused(name: string): boolean {
  try {
    assertBucketName(name);
    return false;
  } catch (error) {
    if (error instanceof KvError && error.code === "invalid_bucket_name") return true;
    throw error;
  }
}

describe("a bucket name", () => {
  test.each(["a", "A-b_9", "-", "_", "x".repeat(64), "APP", "SYS", "my_SYS_x", "__proto__"])(
    "like %s is allowed",
    (name) => {
      expect(isRefused(name)).toBe(false);
    },
  );

  test.each([
    ["empty", ""],
    ["65 characters long", "x".repeat(65)],
    ["a path upwards", "../SYS_config"],
    ["with a slash", "a/b"],
    ["with an encoded slash", "a%2Fb"],
    ["with the prefix of user buckets", "APP_x"],
    ["with the prefix of system buckets", "SYS_x"],
    ["with that prefix in another case", "sYs_x"],
    ["of Cyrillic look-alikes", "SYЅ_x"],
    ["of full-width letters", "ＳＹＳ_x"],
    ["with a NUL", "a\0"],
    ["with a line break at its end", "a\n"],
    ["with a space", "a b"],
    ["with a dot", "a.b"],
    ["with a star", "a*"],
    ["with a >", ">"],
    ["with a combining accent", "e\u0301"],
    ["with the Kelvin sign", "\u212aey"],
  ])("that is %s is refused", (_what, name) => {
    expect(isRefused(name)).toBe(true);
  });

  test("that is refused is shown without its control characters, and not in full length", () => {
    expect(() => assertBucketName(`\n${"x".repeat(500)}`)).toThrow(/^[^\n]{1,240}$/);
  });

  test("never leads to a stream of a system bucket, and back to itself", () => {
    const names = fc.oneof(
      fc.stringMatching(/^(?:APP_|SYS_|KV_|app_)?[-\w]{1,66}$/),
      fc.string({ unit: "binary" }),
    );
    fc.assert(
      fc.property(names, (name) => {
        fc.pre(!isRefused(name));
        const stream = streamOfBucket(name);
        expect(stream).toMatch(/^KV_APP_(?!APP_|SYS_)[-\w]{1,64}$/);
        expect(bucketOfStream(stream)).toBe(name);
      }),
      { numRuns: 1_000 },
    );
  });
});

test.each([
  "KV_SYS_config",
  "KV_settings",
  "APP_x",
  "KV_APP_",
  "KV_APP_SYS_x",
  "KV_APP_a.b",
  "kv_app_x",
])("the stream %s is no user's bucket", (stream) => {
  expect(bucketOfStream(stream)).toBeUndefined();
});
