import { expect, test } from "vitest";
import { parseScopes, scopeText } from "../../../src/cli/scope-text.ts";
import { verbs } from "../../../src/protocol/scopes.ts";

test.each([
  ["read", [{ verbs: ["read"] }]],
  ["read,watch:carts", [{ verbs: ["read", "watch"], bucket: "carts" }]],
  [
    "read,watch:carts:user.42.>,public.*",
    [{ verbs: ["read", "watch"], bucket: "carts", keys: ["user.42.>", "public.*"] }],
  ],
  ["read:carts:a:b", [{ verbs: ["read"], bucket: "carts", keys: ["a:b"] }]],
  ["secrets:reveal:production", [{ verbs: ["secrets:reveal"], environment: "production" }]],
  ["secrets:reveal", [{ verbs: ["secrets:reveal"] }]],
  ["config:*:app", [{ verbs: ["config"], environment: "*", keys: ["app"] }]],
  ["*", [{ verbs: [...verbs] }]],
  ["audit", [{ verbs: ["audit"] }]],
  ['{"verbs":["read"]}', [{ verbs: ["read"] }]],
  ['[{"verbs":["read"]},{"verbs":["audit"]}]', [{ verbs: ["read"] }, { verbs: ["audit"] }]],
])("%s is read", (text, scopes) => {
  const parsed = parseScopes(text);
  expect(parsed).toEqual(scopes);
  for (const scope of parsed) expect(parseScopes(scopeText(scope))).toEqual([scope]);
});

test.each([
  ["fly", '"fly"'],
  ["", "none of"],
  ["read,config:carts", "each"],
  ["audit:carts", "environment"],
  ["read:ca rts", "bucket"],
  ["{", "JSON"],
  ['{"verbs":[]}', "verbs"],
])("%j is refused", (text, said) => {
  expect(() => parseScopes(text)).toThrow(said);
});
