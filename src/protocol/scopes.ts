/** What somebody may do: verbs on buckets and keys, or on the documents and secrets of environments. */
import { z } from "zod";
import { KvError } from "./errors.ts";
import { parsePattern } from "./keys.ts";
import { limits } from "./limits.ts";

/** What can be done with keys. */
export const keyVerbs = ["read", "write", "watch", "delete"] as const;
/** What can be done with the system stores, by environment. */
export const environmentVerbs = ["config", "secrets", "secrets:reveal"] as const;
/** Everything that can be granted. `admin` is for whole buckets, and on all of them for keys of the API, too. */
export const verbs = [...keyVerbs, "admin", ...environmentVerbs, "audit"] as const;

export type KeyVerb = (typeof keyVerbs)[number];
export type EnvironmentVerb = (typeof environmentVerbs)[number];
export type Verb = (typeof verbs)[number];

/** A name in which each `*` stands for any characters. */
const namePattern = z
  .string()
  .max(limits.bucketName)
  .regex(/^[A-Za-z0-9_*-]+$/, `use letters, digits, "_", "-", and "*" for any characters`);

const keyFilter = z.string().superRefine((text, context) => {
  try {
    parsePattern(text);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    context.addIssue({ code: "custom", message: error.message });
  }
});

const ofBuckets: readonly Verb[] = [...keyVerbs, "admin"];
const ofEnvironments: readonly Verb[] = environmentVerbs;
const ofKeys: readonly Verb[] = [...keyVerbs, ...environmentVerbs];

/**
 * A right: `verbs` on the keys that match one of `keys` (filters as in listings; default: all) in the buckets that `bucket` names
 * (default: all), or on so named documents and secrets of the environments that `environment` names (default: all).
 *
 * @example
 * scopeSchema.parse({ verbs: ["read", "watch"], bucket: "carts", keys: ["user.42.>"] });
 */
export const scopeSchema = z
  .strictObject({
    verbs: z.array(z.enum(verbs)).min(1).max(verbs.length),
    bucket: namePattern.optional(),
    keys: z.array(keyFilter).min(1).max(limits.filtersPerWatch).optional(),
    environment: namePattern.optional(),
  })
  .superRefine((scope, context) => {
    const fields = [
      ["bucket", ofBuckets, "whole buckets and their keys"],
      ["keys", ofKeys, "keys, documents and secrets"],
      ["environment", ofEnvironments, "config and secrets"],
    ] as const;
    for (const [field, allowed, what] of fields) {
      const foreign = scope.verbs.find((verb) => !allowed.includes(verb));
      if (scope[field] === undefined || foreign === undefined) continue;
      context.addIssue({
        code: "custom",
        path: [field],
        message: `"${field}" narrows ${what}, but not "${foreign}": give that verb a scope of its own`,
      });
    }
  });

/** A right, as it travels. */
export type Scope = z.infer<typeof scopeSchema>;

/** Several rights: who has them may do what any of them allows. */
export const scopesSchema = z.array(scopeSchema).min(1).max(limits.scopes);
