import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  assertKvKey,
  bucketOfNamespace,
  namespaceOfBucket,
  temporalType,
  type Namespace,
} from "../../../src/protocol/kestra.ts";

const main = (name: string): Namespace => ({ tenant: "main", name });

describe("a namespace", () => {
  test.each([
    ["main", "dev", "dev"],
    ["main", "company.team", "company--team"],
    ["main", "a-b_c", "a-b_c"],
    ["main", "a-.b", "a-_--b"],
    ["main", "a--b", "a-_-b"],
    ["main", "a-_b", "a-__b"],
    ["main", "a-", "a-"],
    ["acme", "company.team", "acme-_company--team"],
    ["a-_b", "x", "a-__b-_x"],
  ])("of %s called %s is bucket %s, and back", (tenant, name, bucket) => {
    expect(bucketOfNamespace({ tenant, name })).toBe(bucket);
    expect(namespaceOfBucket(bucket)).toEqual({ tenant, name });
  });

  test("of any tenant has a bucket of its own", () => {
    const part = (alphabet: string, first = /^[a-z0]/) =>
      fc
        .string({ unit: fc.constantFrom(...alphabet.split(",")), minLength: 1, maxLength: 12 })
        .filter((text) => first.test(text));
    const tenant = fc.oneof(fc.constant("main"), part("a,0,-,_", /^[a0](?:.*[a0])?$/));
    fc.assert(
      fc.property(fc.record({ tenant, name: part("a,0,-,_,.") }), (namespace) => {
        const bucket = bucketOfNamespace(namespace);
        expect(bucket).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
        expect(namespaceOfBucket(bucket)).toEqual(namespace);
      }),
      { numRuns: 1000 },
    );
  });

  test("is what a bucket's name says, unless nothing is written so", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("a", "b", "-", "_"), minLength: 1, maxLength: 12 }),
        (bucket) => {
          const namespace = namespaceOfBucket(bucket);
          if (namespace !== undefined) expect(bucketOfNamespace(namespace)).toBe(bucket);
        },
      ),
      { numRuns: 1000 },
    );
    expect(namespaceOfBucket("my_bucket-1")).toEqual(main("my_bucket-1"));
    expect(namespaceOfBucket("-first")).toBeUndefined();
    expect(namespaceOfBucket("main-_x")).toBeUndefined();
  });

  test.each(["", ".a", "a b", "a/b", "ü", "APP_x", "sys_x"])("cannot be called %j", (name) => {
    expect(() => bucketOfNamespace(main(name))).toThrow();
  });

  test("has room for 64 characters, a dot counting twice", () => {
    expect(bucketOfNamespace(main("a".repeat(64)))).toHaveLength(64);
    expect(() => bucketOfNamespace(main(`a.${"b".repeat(62)}`))).toThrow("65 characters");
  });
});

test.each(["a", "my_key", "A.b-c_d", "0", "k".repeat(512)])("%j is a key", (key) => {
  expect(() => assertKvKey(key)).not.toThrow();
});

test.each(["", "_a", "a b", "a\n", "é", "k".repeat(513)])("%j is no key", (key) => {
  expect(() => assertKvKey(key)).toThrow("Key must");
});

test.each([
  ["2024-02-29", "DATE"],
  ["2023-02-29", undefined],
  ["2023-13-01", undefined],
  ["2024-01-01T00:00:00Z", "DATETIME"],
  ["2024-01-01T00:00Z", "DATETIME"],
  ["2024-01-01T23:59:59.123456789-05:30", "DATETIME"],
  ["2024-01-01T24:00:00Z", undefined],
  ["2024-01-01T00:00:00", undefined],
  ["2024-02-30T00:00:00Z", undefined],
  ["PT1H30M", "DURATION"],
  ["P30D", "DURATION"],
  ["P1Y2M3W4DT5H6M7.5S", "DURATION"],
  ["P", undefined],
  ["PT", undefined],
  ["P1DT", undefined],
  ["pt5s", undefined],
  ["hello", undefined],
])("%j is of type %s", (text, type) => {
  expect(temporalType(text)).toBe(type);
});
