import { KvError } from "../protocol/errors.ts";
import { encodeKey, everyKey, parsePattern, type KeyPattern } from "../protocol/keys.ts";
import {
  keyVerbs,
  type EnvironmentVerb,
  type KeyVerb,
  type Scope,
  type Verb,
} from "../protocol/scopes.ts";

/** Which keys: all of them, or those that match one of these. None when there is none. */
export type Reach = "all" | readonly KeyPattern[];

/** A scope, ready to be asked. */
interface Grant {
  verbs: ReadonlySet<Verb>;
  /** Bucket or environment. */
  covers(place: string): boolean;
  /** The same as text, `*` for any characters. */
  place: string;
  keys: Reach;
}

/**
 * What somebody may do. Whoever may do nothing at all in a bucket is not told whether it exists, and nobody is told about a key
 * that is out of reach: ask before looking.
 *
 * @example
 * const grants = new Grants([{ verbs: ["read"], bucket: "carts", keys: ["user.42.>"] }]);
 * grants.require("read", "carts", "user.42.items");
 */
export class Grants {
  /** Everything. */
  // `new Grants` would be compiled to a use of the class before it is there.
  static readonly all: Grants = new this([]);

  readonly scopes: readonly Scope[];
  readonly #grants: readonly Grant[];

  constructor(scopes: readonly Scope[]) {
    this.scopes = scopes;
    this.#grants = scopes.map(grantOf);
  }

  /** Whether there is nothing that these do not allow. */
  get isUnlimited(): boolean {
    return this === Grants.all;
  }

  /**
   * The keys that a verb reaches in a bucket, or the names that it reaches in an environment.
   *
   * @param place the bucket's name as users know it, or the environment's
   */
  reach(verb: KeyVerb | EnvironmentVerb, place: string): Reach {
    if (this === Grants.all) return "all";
    const patterns: KeyPattern[] = [];
    for (const grant of this.#grants) {
      if (!grant.verbs.has(verb) || !grant.covers(place)) continue;
      if (grant.keys === "all") return "all";
      patterns.push(...grant.keys);
    }
    return patterns;
  }

  /** Whether a verb is allowed on one key of a bucket, or one name of an environment. */
  allows(verb: KeyVerb | EnvironmentVerb, place: string, key: string): boolean {
    return isWithin(this.reach(verb, place), key);
  }

  /** @throws KvError `forbidden` when {@link allows} says no */
  require(verb: KeyVerb | EnvironmentVerb, place: string, key: string): void {
    if (!this.allows(verb, place, key)) throw forbidden(verb, place, key);
  }

  /** The keys that a verb reaches. @throws KvError `forbidden` when there can be none */
  requireAny(verb: KeyVerb | EnvironmentVerb, place: string): Reach {
    const reach = this.reach(verb, place);
    if (reach.length === 0) throw forbidden(verb, place);
    return reach;
  }

  /** Whether a bucket as a whole may be made, changed and deleted. */
  isAdmin(bucket: string): boolean {
    return this.#has("admin", bucket);
  }

  /** @throws KvError `forbidden` when {@link isAdmin} says no */
  requireAdmin(bucket: string): void {
    if (!this.isAdmin(bucket)) throw forbidden("admin", bucket);
  }

  /** Whether all buckets may be administered, and with them who may do what. */
  get isAdminOfAll(): boolean {
    return (
      this === Grants.all ||
      this.#grants.some((grant) => grant.verbs.has("admin") && grant.place === "*")
    );
  }

  /** Whether the audit may be read. */
  get mayAudit(): boolean {
    return this === Grants.all || this.#grants.some((grant) => grant.verbs.has("audit"));
  }

  /** Whether a bucket's existence may be known: when anything in it is allowed. */
  knows(bucket: string): boolean {
    return (
      this === Grants.all ||
      this.#grants.some(
        (grant) => grant.covers(bucket) && bucketVerbs.some((verb) => grant.verbs.has(verb)),
      )
    );
  }

  /** Whether all that some scopes allow is allowed here, too, so that they may be handed on. */
  includes(scopes: readonly Scope[]): boolean {
    return this === Grants.all || scopes.map(grantOf).every((wanted) => this.#includes(wanted));
  }

  #includes(wanted: Grant): boolean {
    return [...wanted.verbs].every((verb) => {
      const held = this.#grants.filter(
        ({ verbs, place }) => verbs.has(verb) && globCovers(place, wanted.place),
      );
      if (held.some(({ keys }) => keys === "all")) return true;
      const patterns = held.flatMap(({ keys }) => (keys === "all" ? [] : keys));
      const needed = wanted.keys === "all" ? [everyKey] : wanted.keys;
      return needed.every((inner) => patterns.some((outer) => patternCovers(outer, inner)));
    });
  }

  #has(verb: Verb, bucket: string): boolean {
    return (
      this === Grants.all ||
      this.#grants.some((grant) => grant.verbs.has(verb) && grant.covers(bucket))
    );
  }
}

const bucketVerbs: readonly Verb[] = [...keyVerbs, "admin"];

/** Whether a key is one of these. */
export function isWithin(reach: Reach, key: string): boolean {
  if (reach === "all") return true;
  if (reach.length === 0) return false;
  const suffix = encodeKey(key);
  return reach.some((pattern) => pattern.matches(suffix));
}

/** Says only what the caller said. */
function forbidden(verb: Verb, place: string, key?: string): KvError {
  const what = key === undefined ? `"${place}"` : `"${key}" in "${place}"`;
  return new KvError("forbidden", `the credentials do not allow "${verb}" on ${what}`);
}

function grantOf({ verbs, bucket, environment, keys }: Scope): Grant {
  const place = bucket ?? environment ?? "*";
  const patterns = keys?.map(parsePattern);
  return {
    verbs: new Set(verbs),
    place,
    covers: globOf(place),
    keys: patterns === undefined || patterns.some(({ text }) => text === ">") ? "all" : patterns,
  };
}

function globOf(glob: string): (name: string) => boolean {
  if (glob === "*") return () => true;
  if (!glob.includes("*")) return (name) => name === glob;
  const pattern = parsePattern(glob);
  return (name) => pattern.matches(name);
}

/** A character that stands for whatever a star stands for: what matches it can only be another star. */
const ANY = "\u{10FFFD}";

function globCovers(outer: string, inner: string): boolean {
  return globOf(outer)(encodeKey(inner.replaceAll("*", ANY)));
}

/**
 * Whether every key that one pattern matches is matched by the other, too. The stars of the inner one are replaced by a
 * character that occurs nowhere else, and its open end by one and by two tokens of it: what matches these matches all.
 */
export function patternCovers(outer: KeyPattern, inner: KeyPattern): boolean {
  if (outer.text.includes(ANY) || inner.text.includes(ANY)) return outer.text === inner.text;
  const isOpen = inner.text === ">" || inner.text.endsWith(".>");
  const body = isOpen ? inner.text.slice(0, -1) : inner.text;
  const fixed = body.replaceAll("*", ANY);
  const samples = isOpen ? [`${fixed}${ANY}`, `${fixed}${ANY}.${ANY}`] : [fixed];
  return samples.every((sample) => outer.matches(encodeKey(sample)));
}
