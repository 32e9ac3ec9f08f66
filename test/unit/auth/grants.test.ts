import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Grants, patternCovers } from "../../../src/auth/grants.ts";
import { encodeKey, parsePattern } from "../../../src/protocol/keys.ts";
import { scopeSchema, type Scope } from "../../../src/protocol/scopes.ts";

const cart: Scope = { verbs: ["read", "watch"], bucket: "carts", keys: ["user.42.>"] };

describe("grants", () => {
  it("allow a verb on keys of a bucket, and nothing else", () => {
    const grants = new Grants([cart]);
    expect(grants.allows("read", "carts", "user.42.items")).toBe(true);
    expect(grants.allows("read", "carts", "user.420.items")).toBe(false);
    expect(grants.allows("read", "carts", "user.42")).toBe(false);
    expect(grants.allows("write", "carts", "user.42.items")).toBe(false);
    expect(grants.allows("read", "cart", "user.42.items")).toBe(false);
    expect(grants.isAdmin("carts")).toBe(false);
    expect(() => grants.require("delete", "carts", "user.42.items")).toThrow(
      expect.objectContaining({ code: "forbidden" }),
    );
  });

  it("add up", () => {
    const grants = new Grants([
      cart,
      { verbs: ["write"], bucket: "car*" },
      { verbs: ["read"], bucket: "carts", keys: ["public.*"] },
    ]);
    expect(grants.reach("read", "carts")).toHaveLength(2);
    expect(grants.reach("write", "cars")).toBe("all");
    expect(grants.reach("write", "bars")).toEqual([]);
  });

  it("tell a bucket from one that may not be known", () => {
    const grants = new Grants([cart, { verbs: ["config"], environment: "secret" }]);
    expect(grants.knows("carts")).toBe(true);
    expect(grants.knows("secret")).toBe(false);
  });

  it("can be handed on in part, but not widened", () => {
    const grants = new Grants([cart, { verbs: ["admin"], bucket: "team-*" }]);
    expect(grants.includes([cart])).toBe(true);
    expect(
      grants.includes([{ ...cart, verbs: ["read"], keys: ["user.42.items", "user.42.a*"] }]),
    ).toBe(true);
    for (const wider of [
      { verbs: ["read"], bucket: "carts" },
      { verbs: ["read"], bucket: "*", keys: ["user.42.>"] },
      { verbs: ["read"], bucket: "carts", keys: ["user.*.>"] },
      { verbs: ["write"], bucket: "carts", keys: ["user.42.x"] },
      { verbs: ["admin"] },
      { verbs: ["admin"], bucket: "*-team" },
    ] satisfies Scope[]) {
      expect(grants.includes([wider])).toBe(false);
    }
    expect(grants.includes([{ verbs: ["admin"], bucket: "team-a*" }])).toBe(true);
    expect(Grants.all.includes([{ verbs: ["admin"] }])).toBe(true);
  });

  it("of no scopes allow nothing", () => {
    const grants = new Grants([]);
    expect(grants.reach("read", "carts")).toEqual([]);
    expect(grants.includes([cart])).toBe(false);
    expect(grants.isAdminOfAll || grants.mayAudit || grants.isUnlimited).toBe(false);
  });
});

describe("patternCovers", () => {
  const token = fc.constantFrom("a", "b", "*", "a*", "*b", "a*b", "ab");
  const pattern = fc
    .tuple(fc.array(token, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([tokens, open]) => parsePattern(tokens.join(".") + (open ? ".>" : "")));
  const key = fc
    .array(fc.constantFrom("a", "b", "ab", "aab", "c", "aXb"), { minLength: 1, maxLength: 5 })
    .map((tokens) => encodeKey(tokens.join(".")));

  it("says yes only when every key of the inner is one of the outer", () => {
    fc.assert(
      fc.property(pattern, pattern, fc.array(key, { maxLength: 50 }), (outer, inner, keys) => {
        fc.pre(patternCovers(outer, inner));
        for (const suffix of keys)
          if (inner.matches(suffix)) expect(outer.matches(suffix)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    [">", "a", true],
    [">", ">", true],
    ["a.>", "a.b.>", true],
    ["a.>", "a", false],
    ["a.*", "a.>", false],
    ["a.*.>", "a.>", false],
    ["a*", "ab*", true],
    ["ab*", "a*", false],
    ["a*b", "a*ab", true],
    ["*", "a*", true],
    ["a.b", "a.b", true],
    ["a.*.c", "a.b.c", true],
  ])("%s covers %s: %s", (outer, inner, expected) => {
    expect(patternCovers(parsePattern(outer), parsePattern(inner))).toBe(expected);
  });
});

describe("a scope", () => {
  it.each<[unknown, string]>([
    [{ verbs: ["read", "config"], bucket: "carts" }, "bucket"],
    [{ verbs: ["admin"], bucket: "carts", keys: ["a"] }, "keys"],
    [{ verbs: ["read"], environment: "default" }, "environment"],
    [{ verbs: ["read"], keys: ["a.>.b"] }, "keys"],
    [{ verbs: ["fly"] }, "verbs"],
    [{ verbs: [] }, "verbs"],
    [{ verbs: ["read"], bucket: "SYS auth" }, "bucket"],
  ])("%j is refused for its field", (scope, field) => {
    const { error } = scopeSchema.safeParse(scope);
    expect(error?.issues[0]?.path[0]).toBe(field);
  });
});
