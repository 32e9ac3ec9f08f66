import { expect, test } from "vitest";
import { CredentialCache } from "../../../src/auth/credential-cache.ts";

test("what was used lately is remembered, and never more than there is room for", () => {
  const cache = new CredentialCache<number>(100);
  cache.set("hot", -1);
  for (let i = 0; i < 1_000; i++) {
    cache.set(`c${i}`, i);
    expect(cache.get("hot")).toBe(-1);
  }
  expect(cache.get("c999")).toBe(999);
  expect(cache.get("c950")).toBe(950);
  expect(cache.get("c800")).toBeUndefined();
});

test("what is forgotten is gone, however old", () => {
  const cache = new CredentialCache<number>(4);
  for (let i = 0; i < 4; i++) cache.set(`c${i}`, i);
  cache.forget((value) => value !== 2);
  expect([0, 1, 2, 3].map((i) => cache.get(`c${i}`))).toEqual([undefined, undefined, 2, undefined]);
  cache.delete("c2");
  expect(cache.get("c2")).toBeUndefined();
});
