/** Which keys somebody reaches, and what of some filters lies within that. */
import { decodeKey, encodeKey, everyKey, type KeyPattern } from "./keys.ts";

/** Which keys: all of them, or those that match one of these. None when there is none. */
export type Reach = "all" | readonly KeyPattern[];

/** Whether a key is one of these. */
export function isWithin(reach: Reach, key: string): boolean {
  if (reach === "all") return true;
  if (reach.length === 0) return false;
  const suffix = encodeKey(key);
  return reach.some((pattern) => pattern.matches(suffix));
}

/**
 * Patterns for exactly those keys that match one of some patterns and are within reach. Whatever takes patterns is so kept within
 * a reach, without knowing of it: what is read, listed and watched, and what a position says of it.
 *
 * @returns the same patterns when everything is within reach; none when nothing can be
 * @example
 * narrowed([everyKey], reach); // the reach itself
 */
export function narrowed(patterns: readonly KeyPattern[], reach: Reach): readonly KeyPattern[] {
  if (reach === "all") return patterns;
  const found = new Map<string, KeyPattern>();
  for (const pattern of patterns) {
    for (const outer of reach) {
      const both = intersection(pattern, outer);
      if (both !== undefined) found.set(`${both.subject} ${both.text}`, both);
    }
  }
  return [...found.values()];
}

/** Between the texts of two patterns that both have to match. No pattern that somebody gives has this character. */
const BOTH = "\u0000";

/** The texts that have to match all, of a pattern that may be a narrowed one. */
export function textsOf(text: string): string[] {
  return text.split(BOTH);
}

/** The pattern for what two patterns match both; undefined when it is sure that there is no such key. */
function intersection(a: KeyPattern, b: KeyPattern): KeyPattern | undefined {
  const subject = commonSubject(a.subject.split("."), b.subject.split("."));
  if (subject === undefined) return undefined;
  if (a === everyKey || patternCovers(a, b)) return strict(b);
  if (patternCovers(b, a)) return strict(a);
  return strict({
    text: a.text + BOTH + b.text,
    subject,
    exact: a.exact && b.exact,
    matches: (suffix) => a.matches(suffix) && b.matches(suffix),
  });
}

/**
 * Another client can have stored a key under a name that looks like an escape of ours. It is called by that name, which decides, and
 * not what it would be if it were one.
 */
function strict(pattern: KeyPattern): KeyPattern {
  const { text, subject, exact } = pattern;
  if (exact && !subject.includes("=")) return pattern;
  return { text, subject, exact: false, matches: (suffix) => pattern.matches(canonical(suffix)) };
}

function canonical(suffix: string): string {
  return suffix.includes("=") ? encodeKey(decodeKey(suffix)) : suffix;
}

/** What two NATS filters have in common, as one filter; undefined when that is nothing. */
function commonSubject(a: readonly string[], b: readonly string[]): string | undefined {
  const tokens: string[] = [];
  for (let i = 0; ; i++) {
    const [left, right] = [a[i], b[i]];
    if (left === undefined && right === undefined) return tokens.join(".");
    if (left === undefined || right === undefined) return undefined;
    if (left === ">") return [...tokens, ...b.slice(i)].join(".");
    if (right === ">") return [...tokens, ...a.slice(i)].join(".");
    if (left !== "*" && right !== "*" && left !== right) return undefined;
    tokens.push(left === "*" ? right : left);
  }
}

/** A character that stands for whatever a star stands for: what matches it can only be another star. */
export const ANY = "\u{10FFFD}";

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
