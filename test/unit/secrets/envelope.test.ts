import { createSecretKey, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { headerOf, seal, sealWith, unseal } from "../../../src/secrets/envelope.ts";

const key = createSecretKey(Buffer.alloc(32, 7));
const header = { keyId: "0011223344556677", setAt: Date.parse("2026-01-02T03:04:05.678Z") };
const place = { environment: "default", name: "db-password" };
const value = Buffer.from("hunter2");

describe("the format", () => {
  // Made by another implementation of AES-GCM, after the documentation. Whoever changes these bytes makes every stored secret unreadable: it takes a new version.
  test.each([
    [
      "a text",
      Buffer.alloc(12, 1),
      place,
      "hunter2",
      "4a4253010011223344556677019b7ca98f2e0101010101010101010101011e94e7c3f5cdde755c730d7c82143718764aa1b0c8f3a2",
    ],
    [
      "an empty text elsewhere",
      Buffer.alloc(12, 2),
      { environment: "prod", name: "ü/1" },
      "",
      "4a4253010011223344556677019b7ca98f2e02020202020202020202020286d177e7d55aeaa1bbd45ed8fdd39e57",
    ],
  ])("of %s is pinned", (_, nonce, where, text, hex) => {
    const sealed = sealWith(nonce, key, header, where, Buffer.from(text));
    expect(Buffer.from(sealed).toString("hex")).toBe(hex);
    expect(unseal(key, where, Buffer.from(hex, "hex"))?.toString()).toBe(text);
    expect(headerOf(Buffer.from(hex, "hex"))).toEqual(header);
  });

  test("adds 46 bytes to a value", () => {
    expect(seal(key, header, place, value)).toHaveLength(value.length + 46);
  });

  test("is told from anything else by its beginning", () => {
    const sealed = Buffer.from(seal(key, header, place, value));
    for (const index of [0, 1, 2, 3]) {
      const other = Buffer.from(sealed);
      other[index]! ^= 1;
      expect(headerOf(other)).toBeUndefined();
    }
    expect(headerOf(sealed.subarray(0, 45))).toBeUndefined();
    expect(
      headerOf(Buffer.from("plain text that is long enough to be an envelope")),
    ).toBeUndefined();
    expect(headerOf(new Uint8Array())).toBeUndefined();
  });
});

describe("a sealed value", () => {
  test("opens where it was sealed", () => {
    expect(unseal(key, place, seal(key, header, place, value))).toEqual(value);
  });

  test("does not open when any bit of any byte was changed", () => {
    const sealed = Buffer.from(seal(key, header, place, value));
    for (let index = 0; index < sealed.length; index++) {
      for (let bit = 0; bit < 8; bit++) {
        const changed = Buffer.from(sealed);
        changed[index]! ^= 1 << bit;
        expect(unseal(key, place, changed), `byte ${index}, bit ${bit}`).toBeUndefined();
      }
    }
  });

  test("does not open when bytes are missing or added", () => {
    const sealed = Buffer.from(seal(key, header, place, value));
    for (let length = 46; length < sealed.length; length++) {
      expect(unseal(key, place, sealed.subarray(0, length))).toBeUndefined();
    }
    expect(unseal(key, place, Buffer.concat([sealed, Buffer.alloc(1)]))).toBeUndefined();
  });

  test("does not open with another key", () => {
    const other = createSecretKey(randomBytes(32));
    expect(unseal(other, place, seal(key, header, place, value))).toBeUndefined();
  });

  test.each([
    ["another name", { ...place, name: "db-passwore" }],
    ["another environment", { ...place, environment: "prod" }],
    [
      "a place that reads the same when its parts are joined",
      { environment: "defaultdb", name: "-password" },
    ],
    ["a place with the boundary moved", { environment: "default\0db", name: "password" }],
    ["a label that it has not", { ...place, label: "json" }],
  ])("does not open at %s", (_, elsewhere) => {
    expect(unseal(key, elsewhere, seal(key, header, place, value))).toBeUndefined();
  });

  test("does not open under another data key's id or with another time", () => {
    const sealed = Buffer.from(seal(key, header, place, value));
    const other = Buffer.from(seal(key, { keyId: "ffffffffffffffff", setAt: 0 }, place, value));
    expect(unseal(key, place, Buffer.concat([other.subarray(0, 18), sealed.subarray(18)]))).toBe(
      undefined,
    );
  });
});

test("no nonce comes twice in 100,000 encryptions of the same value", () => {
  const nonces = new Set<string>();
  const texts = new Set<string>();
  for (let i = 0; i < 100_000; i++) {
    const sealed = Buffer.from(seal(key, header, place, value));
    nonces.add(sealed.toString("latin1", 18, 30));
    texts.add(sealed.toString("latin1", 30));
  }
  expect([nonces.size, texts.size]).toEqual([100_000, 100_000]);
});
