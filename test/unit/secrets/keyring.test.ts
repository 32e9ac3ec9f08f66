import { createSecretKey, randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import {
  activeKey,
  keyringValue,
  parseKeyring,
  underPrimary,
  unwrap,
  withNewKey,
  type Keyring,
} from "../../../src/secrets/keyring.ts";
import { MasterKeys } from "../../../src/secrets/master-keys.ts";

const oldKey = createSecretKey(Buffer.alloc(32, 1));
const newKey = createSecretKey(Buffer.alloc(32, 2));
const onlyOld = new MasterKeys([oldKey]);
const onlyNew = new MasterKeys([newKey]);
const both = new MasterKeys([newKey, oldKey]);

const ringOf = (masters: MasterKeys, before?: Keyring): Keyring =>
  withNewKey(before, "default", masters.primary);

describe("master keys", () => {
  test("have ids that follow from the keys", () => {
    expect(onlyOld.primary.id).toBe("29570d67");
    expect(onlyNew.primary.id).toBe("981ab1b3");
    expect(both.find(onlyOld.primary.id)?.id).toBe(onlyOld.primary.id);
    expect(onlyNew.find(onlyOld.primary.id)).toBeUndefined();
  });

  test("do not show themselves when they are printed", () => {
    const masters = new MasterKeys([createSecretKey(Buffer.alloc(32, 0xab))]);
    for (const text of [inspect(masters, { depth: 9, showHidden: true }), JSON.stringify(masters)])
      expect(text).not.toMatch(/abab|q6ur|171, 171/i);
  });
});

describe("a keyring", () => {
  // As for secrets: another form takes another version.
  test("is stored in a form that is pinned", () => {
    const stored = `{"version":1,"active":"2cf1b09d40f97876","keys":[{"id":"2cf1b09d40f97876","master":"29570d67","nonce":"88249bdc4c15e92a7bc2595f","wrapped":"ccd8fb12fc743798d05cfb6799b88924138821c25b58b856c1c2d87164f05c5b3da3ac7e37400d91aa29e647e384f778","reserved":0,"created_at":"2026-11-21T15:03:17.670Z"}]}`;
    const keyring = parseKeyring("default", Buffer.from(stored));
    const key = unwrap(activeKey(keyring)!, "default", onlyOld.primary);
    expect(key?.export().toString("hex")).toBe(
      "7e4d3c27a09b27ee03ed0a42b02ed3f5feb5f428a7557aefb8cc3c2dcca9323e",
    );
    expect(Buffer.from(keyringValue(keyring).bytes).toString()).toBe(stored);
  });

  test("gives its keys to whoever has the master key, and to nobody else", () => {
    const key = activeKey(ringOf(onlyOld))!;
    expect(unwrap(key, "default", onlyOld.primary)?.symmetricKeySize).toBe(32);
    expect(unwrap(key, "default", onlyNew.primary)).toBeUndefined();
    expect(unwrap(key, "prod", onlyOld.primary)).toBeUndefined();
    expect(unwrap({ ...key, id: "0".repeat(16) }, "default", onlyOld.primary)).toBeUndefined();
  });

  test.each(["nonce", "wrapped"] as const)(
    "does not give a key of which any digit of its %s was changed",
    (field) => {
      const key = activeKey(ringOf(onlyOld))!;
      for (let i = 0; i < key[field].length; i++) {
        const digit = key[field][i] === "0" ? "1" : "0";
        const changed = key[field].slice(0, i) + digit + key[field].slice(i + 1);
        expect(unwrap({ ...key, [field]: changed }, "default", onlyOld.primary)).toBeUndefined();
      }
    },
  );

  test.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["another version", JSON.stringify({ ...ringOf(onlyOld), version: 2 })],
    ["no keys", JSON.stringify({ version: 1, active: "0".repeat(16), keys: [] })],
    [
      "an active key that is not there",
      JSON.stringify({ ...ringOf(onlyOld), active: "0".repeat(16) }),
    ],
  ])("is called unreadable when it is %s", (_, text) => {
    expect(() => parseKeyring("default", Buffer.from(text))).toThrow(
      expect.objectContaining({ code: "secret_unreadable" }),
    );
  });
});

describe("bringing a keyring under the primary master key", () => {
  test("wraps every key anew, retires it, and begins another one", () => {
    const before = ringOf(onlyOld, ringOf(onlyOld));
    const after = underPrimary(before, "default", both);
    expect(after.keys.map(({ master }) => master)).toEqual(Array(3).fill(onlyNew.primary.id));
    expect(after.keys.map(({ retired = false }) => retired)).toEqual([true, true, false]);
    expect(after.active).toBe(after.keys[2]!.id);
    for (const [i, key] of before.keys.entries()) {
      const same = unwrap(after.keys[i]!, "default", onlyNew.primary);
      expect(same?.equals(unwrap(key, "default", onlyOld.primary)!)).toBe(true);
    }
  });

  test("changes nothing the second time, nor where there is nothing to do", () => {
    const turned = underPrimary(ringOf(onlyOld), "default", both);
    expect(underPrimary(turned, "default", both)).toBe(turned);
    expect(underPrimary(turned, "default", onlyNew)).toBe(turned);
  });

  test("keeps keys as they are whose master key is missing, but encrypts with a new one", () => {
    const before = ringOf(onlyOld);
    const turned = underPrimary(before, "default", onlyNew);
    expect(turned.keys[0]).toEqual({ ...before.keys[0], retired: true });
    expect(activeKey(turned)).toMatchObject({ master: onlyNew.primary.id });
    expect(underPrimary(turned, "default", onlyNew)).toBe(turned);
    // The master key is found again.
    expect(underPrimary(turned, "default", both).keys[0]).toMatchObject({
      master: onlyNew.primary.id,
      retired: true,
    });
  });

  test("keeps a key that was tampered with as it is", () => {
    const before = ringOf(onlyOld);
    before.keys[0]!.wrapped = randomBytes(48).toString("hex");
    const turned = underPrimary(before, "default", both);
    expect(turned.keys[0]!.master).toBe(onlyOld.primary.id);
    expect(underPrimary(turned, "default", both)).toBe(turned);
  });
});
