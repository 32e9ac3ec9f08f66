import {
  environmentVerbs,
  keyVerbs,
  scopesSchema,
  verbs,
  type Scope,
  type Verb,
} from "../protocol/scopes.ts";
import { parseWith } from "../protocol/messages.ts";
import { KvError } from "../protocol/errors.ts";

const ofKeys: readonly string[] = keyVerbs;
const ofEnvironments: readonly string[] = environmentVerbs;

/**
 * Reads scopes as one types them: `read,watch:carts:user.42.>`, which is verbs, a bucket or an environment, and filters of keys, the
 * last two optional; `*` for all verbs; or JSON, of one scope or several.
 *
 * @throws KvError `invalid_request`
 * @example
 * parseScopes("read,watch:carts:user.42.>,public.*");
 * // [{ verbs: ["read", "watch"], bucket: "carts", keys: ["user.42.>", "public.*"] }]
 */
export function parseScopes(text: string): Scope[] {
  return parseWith(scopesSchema, /^\s*[[{]/.test(text) ? ofJson(text) : [ofNotation(text)]);
}

function ofJson(text: string): unknown {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new KvError("invalid_request", `${text} is not valid JSON`, { cause });
  }
  return Array.isArray(parsed) ? parsed : [parsed];
}

function ofNotation(text: string): unknown {
  // One verb has a colon in it.
  const match = /^((?:secrets:reveal|[^:])*)(?::([^:]*)(?::(.*))?)?$/s.exec(text);
  const [, verbText = "", place, keys] = match ?? [];
  const given = verbText === "*" ? [...verbs] : verbText.split(",").map((verb) => verb.trim());
  const isOfKeys = given.some((verb) => ofKeys.includes(verb) || verb === "admin");
  const unknown = given.find((verb) => !verbs.includes(verb as Verb));
  if (unknown !== undefined) {
    throw new KvError(
      "invalid_request",
      `${JSON.stringify(unknown)} is none of ${verbs.join(", ")}: write scopes as read,watch:bucket:keys`,
    );
  }
  if (isOfKeys && place !== undefined && given.some((verb) => ofEnvironments.includes(verb))) {
    throw new KvError(
      "invalid_request",
      `${text}: verbs on buckets and verbs on environments need a --scope each`,
    );
  }
  return {
    verbs: given,
    ...(place === undefined || place === ""
      ? {}
      : { [isOfKeys ? "bucket" : "environment"]: place }),
    ...(keys === undefined ? {} : { keys: keys.split(",") }),
  };
}

/** A scope in the same notation. */
export function scopeText({ verbs: given, bucket, environment, keys }: Scope): string {
  const place = bucket ?? environment ?? (keys === undefined ? undefined : "*");
  const isAll = verbs.every((verb) => given.includes(verb));
  const parts = [isAll ? "*" : given.join(","), place, keys?.join(",")];
  return parts.filter((part) => part !== undefined).join(":");
}
