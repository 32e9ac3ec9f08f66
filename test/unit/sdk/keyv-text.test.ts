import fc from "fast-check";
import Keyv from "keyv";
import { describe, expect, test } from "vitest";
import type { Entry } from "../../../src/sdk/core/entry.ts";
import { keyvText, storedForm, textForm, type StoredForm } from "../../../src/sdk/keyv-text.ts";

const { serialize } = new Keyv();

/** The entry that a reader gets of what was put: bytes that are valid UTF-8 come back as text. */
function entryOf({ value, valueType }: StoredForm, expiresAt?: string): Entry {
  const entry = { key: "k", revision: 1, createdAt: "", operation: "put" } as const;
  const details = {
    ...(valueType === undefined ? {} : { valueType }),
    ...(expiresAt === undefined ? {} : { expiresAt }),
  };
  if (!Buffer.isBuffer(value)) {
    const encoding = typeof value === "string" ? "text" : "json";
    return { ...entry, ...details, value: JSON.parse(JSON.stringify(value)) as unknown, encoding };
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
    return { ...entry, ...details, value: text, encoding: "text" };
  } catch {
    return { ...entry, ...details, value: new Uint8Array(value), encoding: "base64" };
  }
}

/** Strings in which Keyv sees something, among others. */
const string = fc.oneof(
  fc.string({ unit: "binary", maxLength: 5 }),
  fc.constantFrom(":", "::", ":a", ":base64:", ":base64:AA==", ":base64:é", "\ud800"),
);
const leaf = fc.oneof(string, fc.integer(), fc.double(), fc.boolean(), fc.constant(null));
const bytes = fc.uint8Array({ maxLength: 5 }).map((array) => Buffer.from(array));
const value = fc.letrec((tie) => ({
  any: fc.oneof({ maxDepth: 3 }, leaf, bytes, tie("list"), tie("object")),
  list: fc.array(tie("any"), { maxLength: 3 }),
  object: fc.dictionary(string, tie("any"), { maxKeys: 3 }),
})).any;

describe("Keyv's text", () => {
  test("comes back as it was, for every value", async () => {
    await fc.assert(
      fc.asyncProperty(value, async (given) => {
        const text = await serialize!({ value: given });
        expect(keyvText(entryOf(storedForm(text)))).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  test("comes back as it was, whatever it is", () => {
    const texts = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.json(),
      fc.json().map((json) => `{"value":${json}}`),
      fc.constantFrom("", "null", "{}", '{"value":1,"a":2}', '{"value":9007199254740993}'),
    );
    fc.assert(
      fc.property(texts, (text) => {
        fc.pre(text.isWellFormed());
        expect(keyvText(entryOf(storedForm(text)))).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  test("is stored as the value, which names its end anew", () => {
    expect(storedForm('{"value":{"a":"::b"},"expires":5}')).toEqual({ value: { a: ":b" } });
    const end = "2030-01-01T00:00:00.001Z";
    expect(keyvText(entryOf({ value: "v" }, end))).toBe(
      `{"value":"v","expires":${Date.parse(end)}}`,
    );
  });

  test("that holds its own end is over then", () => {
    const text = (expires: number) => `{"value":1,"expires":${expires}}`;
    const later = Date.now() + 60_000;
    expect(keyvText(entryOf(textForm(text(later))))).toBe(text(later));
    expect(keyvText(entryOf(textForm(text(Date.now() - 1))))).toBeUndefined();
  });
});
