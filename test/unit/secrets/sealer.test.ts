import { createSecretKey } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MasterKeys } from "../../../src/secrets/master-keys.ts";
import { Sealer } from "../../../src/secrets/sealer.ts";

const key = (digit: string) => createSecretKey(digit.repeat(64), "hex");
const mine = new Sealer(new MasterKeys([key("1")]), "tests");

test("what was sealed is opened as what it is, and as nothing else", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.string(),
      fc.string(),
      (bytes, name, other) => {
        const sealed = mine.seal(name, bytes);
        expect(mine.open(name, sealed)).toEqual(Buffer.from(bytes));
        if (other !== name) expect(mine.open(other, sealed)).toBeUndefined();
        const another = new Sealer(new MasterKeys([key("1")]), "other tests");
        expect(another.open(name, sealed)).toBeUndefined();
      },
    ),
  );
});

test("a changed or cut box is not opened", () => {
  const sealed = mine.seal("x", Buffer.from("value"));
  if (!("box" in sealed)) throw new Error("it is not encrypted");
  const box = Buffer.from(sealed.box, "base64url");
  for (let at = 0; at < box.length; at++) {
    const changed = Buffer.from(box);
    changed[at]! ^= 1;
    expect(mine.open("x", { ...sealed, box: changed.toString("base64url") })).toBeUndefined();
    const cut = box.subarray(0, at).toString("base64url");
    expect(mine.open("x", { ...sealed, box: cut })).toBeUndefined();
  }
});

test("an older master key opens what it has sealed, which is to be sealed anew", () => {
  const sealed = mine.seal("x", Buffer.from("value"));
  const rotated = new Sealer(new MasterKeys([key("2"), key("1")]), "tests");
  expect(rotated.open("x", sealed)?.toString()).toBe("value");
  expect([rotated.isFresh(sealed), rotated.isFresh(rotated.seal("x", Buffer.of()))]).toEqual([
    false,
    true,
  ]);
  expect(new Sealer(new MasterKeys([key("2")]), "tests").open("x", sealed)).toBeUndefined();
});

test("without a master key nothing is encrypted, until there is one", () => {
  const none = new Sealer(undefined, "tests");
  const sealed = none.seal("x", Buffer.from("value"));
  expect(none.open("x", sealed)?.toString()).toBe("value");
  expect(none.isFresh(sealed)).toBe(true);
  // Anybody could have put it there.
  expect(mine.open("x", sealed)).toBeUndefined();
  expect(mine.adopt("x", sealed)?.toString()).toBe("value");
  expect(mine.isFresh(sealed)).toBe(false);
});
