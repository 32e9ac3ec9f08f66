import type { KeyPattern } from "../protocol/keys.ts";

/** A member as it stands in the index. */
interface Seat<T> {
  readonly member: T;
  /** The search that found it last, so that no search finds it twice. */
  found: number;
}

interface Filter<T> {
  readonly seat: Seat<T>;
  readonly pattern: KeyPattern;
}

/** What the filters with the same beginning have behind it. */
class Branch<T> {
  /** By the next token, as it is. */
  tokens: Map<string, Branch<T>> | undefined;
  /** Where the next token can be any. */
  any: Branch<T> | undefined;
  /** Filters that end here. */
  ends: Set<Filter<T>> | undefined;
  /** Filters that take any tokens behind this, at least one. */
  rests: Set<Filter<T>> | undefined;

  get isEmpty(): boolean {
    return (
      this.tokens === undefined &&
      this.any === undefined &&
      this.ends === undefined &&
      this.rests === undefined
    );
  }
}

/**
 * Who wants to hear of which keys: a tree over the tokens of the filters, so that a key costs a walk along its own tokens, however
 * many filters there are. Only where a filter has a star inside a token it is tried by itself, at the end of the walk. Filters for
 * one key stand beside the tree, which would cost far more memory per token than the filter itself.
 */
export class FilterIndex<T> {
  readonly #root = new Branch<T>();
  readonly #single = new Map<string, Set<Filter<T>>>();
  readonly #filters = new Map<T, Filter<T>[]>();
  #search = 0;

  add(member: T, patterns: readonly KeyPattern[]): void {
    const seat = { member, found: 0 };
    const filters = patterns.map((pattern) => ({ seat, pattern }));
    this.#filters.set(member, filters);
    for (const filter of filters) {
      const { subject } = filter.pattern;
      if (hasWildcards(subject)) {
        plant(this.#root, subject.split("."), 0, filter);
        continue;
      }
      const same = this.#single.get(subject);
      if (same === undefined) this.#single.set(subject, new Set([filter]));
      else same.add(filter);
    }
  }

  delete(member: T): void {
    const filters = this.#filters.get(member);
    if (filters === undefined) return;
    this.#filters.delete(member);
    for (const filter of filters) {
      const { subject } = filter.pattern;
      if (hasWildcards(subject)) {
        uproot(this.#root, subject.split("."), 0, filter);
        continue;
      }
      const same = this.#single.get(subject);
      same?.delete(filter);
      if (same?.size === 0) this.#single.delete(subject);
    }
  }

  /** Calls back once for each member that wants a key, given as its subject suffix. Members may be deleted meanwhile. */
  forEachMatch(suffix: string, callback: (member: T) => void): void {
    const search = ++this.#search;
    const call = (filters: Set<Filter<T>>): void => {
      for (const { seat, pattern } of filters) {
        if (seat.found === search || !(pattern.exact || pattern.matches(suffix))) continue;
        seat.found = search;
        callback(seat.member);
      }
    };
    const single = this.#single.get(suffix);
    if (single !== undefined) call(single);
    if (this.#root.isEmpty) return;
    const tokens = suffix.split(".");
    const walk = (branch: Branch<T>, depth: number): void => {
      if (depth === tokens.length) {
        if (branch.ends !== undefined) call(branch.ends);
        return;
      }
      if (branch.rests !== undefined) call(branch.rests);
      const next = branch.tokens?.get(tokens[depth]!);
      if (next !== undefined) walk(next, depth + 1);
      if (branch.any !== undefined) walk(branch.any, depth + 1);
    };
    walk(this.#root, 0);
  }
}

function hasWildcards(subject: string): boolean {
  return /[*>]/.test(subject);
}

function plant<T>(
  branch: Branch<T>,
  tokens: readonly string[],
  depth: number,
  filter: Filter<T>,
): void {
  const token = tokens[depth];
  if (token === undefined) {
    (branch.ends ??= new Set()).add(filter);
  } else if (token === ">") {
    (branch.rests ??= new Set()).add(filter);
  } else if (token === "*") {
    plant((branch.any ??= new Branch<T>()), tokens, depth + 1, filter);
  } else {
    branch.tokens ??= new Map();
    let next = branch.tokens.get(token);
    if (next === undefined) {
      next = new Branch<T>();
      branch.tokens.set(token, next);
    }
    plant(next, tokens, depth + 1, filter);
  }
}

function uproot<T>(
  branch: Branch<T>,
  tokens: readonly string[],
  depth: number,
  filter: Filter<T>,
): void {
  const token = tokens[depth];
  if (token === undefined) {
    branch.ends?.delete(filter);
    if (branch.ends?.size === 0) branch.ends = undefined;
  } else if (token === ">") {
    branch.rests?.delete(filter);
    if (branch.rests?.size === 0) branch.rests = undefined;
  } else if (token === "*") {
    if (branch.any === undefined) return;
    uproot(branch.any, tokens, depth + 1, filter);
    if (branch.any.isEmpty) branch.any = undefined;
  } else {
    const next = branch.tokens?.get(token);
    if (branch.tokens === undefined || next === undefined) return;
    uproot(next, tokens, depth + 1, filter);
    if (!next.isEmpty) return;
    branch.tokens.delete(token);
    if (branch.tokens.size === 0) branch.tokens = undefined;
  }
}
