import fc from "fast-check";
import { expect, test } from "vitest";
import { idOfKeyText, newKeyText } from "../../../src/auth/key-text.ts";

test("a new key has an id, 256 random bits and a checksum", () => {
  const texts = new Set(Array.from({ length: 200 }, () => newKeyText().text));
  expect(texts.size).toBe(200);
  const { id, text } = newKeyText();
  expect(text).toMatch(new RegExp(`^jbk_${id}_[0-9A-Za-z]{49}$`));
  expect(idOfKeyText(text)).toBe(id);
});

test("a character that was mistyped, left out, added or moved is noticed", () => {
  const { text } = newKeyText();
  fc.assert(
    fc.property(
      fc.nat(text.length - 1),
      fc.string({ minLength: 1, maxLength: 1, unit: "grapheme-ascii" }),
      (at, other) => {
        const changed = text.slice(0, at) + other + text.slice(at + 1);
        if (changed !== text) expect(idOfKeyText(changed)).toBeUndefined();
        expect(idOfKeyText(text.slice(0, at) + text.slice(at + 1))).toBeUndefined();
        expect(idOfKeyText(text.slice(0, at) + other + text.slice(at))).toBeUndefined();
        expect(idOfKeyText(text.slice(0, at))).toBeUndefined();
      },
    ),
  );
});

test("any other text is no key", () => {
  fc.assert(fc.property(fc.string(), (text) => idOfKeyText(text) === undefined));
});
