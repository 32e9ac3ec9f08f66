import { KvError } from "../protocol/errors.ts";
import { encodeKey, everyKey, parsePattern, type KeyPattern } from "../protocol/keys.ts";
import { ANY, narrowed, patternCovers, type Reach } from "../protocol/reach.ts";
import {
  keyVerbs,
  type EnvironmentVerb,
  type KeyVerb,
  type Scope,
  type Verb,
} from "../protocol/scopes.ts";

export { isWithin, patternCovers, type Reach } from "../protocol/reach.ts";

/** A scope, ready to be asked. */
interface Grant {
  verbs: ReadonlySet<Verb>;
  /** Bucket or environment. */
  covers: (place: string) => boolean;
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
    if (this === Grants.all) return true;
    let suffix: string | undefined;
    for (const { verbs, covers, keys } of this.#grants) {
      if (!verbs.has(verb) || !covers(place)) continue;
      if (keys === "all") return true;
      suffix ??= encodeKey(key);
      for (const pattern of keys) if (pattern.matches(suffix)) return true;
    }
    return false;
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

  /**
   * What is left of some patterns within the reach of all of some verbs.
   *
   * @throws KvError `forbidden` when nothing can be left of one of them, `invalid_filter` when that is too much to find out
   */
  narrow(
    verbs: readonly KeyVerb[],
    place: string,
    patterns: readonly KeyPattern[],
  ): readonly KeyPattern[] {
    const [first, ...others] = verbs.map((verb) => this.requireAny(verb, place));
    // Verbs that are granted together reach the same.
    const reaches = [first!, ...others.filter((reach) => !isSame(reach, first!))];
    if (reaches.every((reach) => reach === "all")) return patterns;
    let comparisons = 0;
    return patterns.flatMap((pattern) => {
      let left: readonly KeyPattern[] = [pattern];
      for (const reach of reaches) {
        comparisons += left.length * reach.length;
        if (comparisons > COMPARISONS) throw tooMuch();
        left = narrowed(left, reach);
      }
      if (left.length === 0) throw forbidden(verbs.join('" and "'), place, pattern.text);
      return left;
    });
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

  /** @throws KvError `forbidden` when {@link knows} says no */
  requireKnown(bucket: string): void {
    if (this.knows(bucket)) return;
    throw new KvError("forbidden", `the credentials do not allow anything in "${bucket}"`);
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

/** Comparisons of patterns that one request may cost. */
const COMPARISONS = 16_384;

function tooMuch(): KvError {
  return new KvError("invalid_filter", "that many filters are too much for these credentials");
}

function isSame(one: Reach, other: Reach): boolean {
  if (one === "all" || other === "all") return one === other;
  return one.length === other.length && one.every((pattern, i) => pattern === other[i]);
}

/** Says only what the caller said. */
function forbidden(verb: string, place: string, key?: string): KvError {
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

function globCovers(outer: string, inner: string): boolean {
  return globOf(outer)(encodeKey(inner.replaceAll("*", ANY)));
}
