import type { KeyPattern } from "../protocol/keys.ts";

/**
 * Who wants to hear of which keys. Single keys, the most common filter, are found by a look-up; only real patterns
 * are tried one by one.
 */
export class FilterIndex<T> {
  readonly #byKey = new Map<string, Set<T>>();
  readonly #byPattern = new Map<T, KeyPattern[]>();

  add(member: T, patterns: readonly KeyPattern[]): void {
    const open: KeyPattern[] = [];
    for (const pattern of patterns) {
      if (!isSingleKey(pattern)) {
        open.push(pattern);
        continue;
      }
      const members = this.#byKey.get(pattern.subject) ?? new Set();
      members.add(member);
      this.#byKey.set(pattern.subject, members);
    }
    if (open.length > 0) this.#byPattern.set(member, open);
  }

  delete(member: T, patterns: readonly KeyPattern[]): void {
    for (const pattern of patterns) {
      if (!isSingleKey(pattern)) continue;
      const members = this.#byKey.get(pattern.subject);
      members?.delete(member);
      if (members?.size === 0) this.#byKey.delete(pattern.subject);
    }
    this.#byPattern.delete(member);
  }

  /** Calls back once for each member that wants a key, given as its subject suffix. */
  forEachMatch(suffix: string, callback: (member: T) => void): void {
    const direct = this.#byKey.get(suffix);
    if (direct !== undefined) for (const member of direct) callback(member);
    for (const [member, patterns] of this.#byPattern) {
      if (direct?.has(member) !== true && patterns.some((pattern) => pattern.matches(suffix)))
        callback(member);
    }
  }
}

function isSingleKey(pattern: KeyPattern): boolean {
  return !/[*>]/.test(pattern.subject);
}
