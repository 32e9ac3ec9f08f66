/**
 * A bucket as users understand it, in memory and as simple as can be. A run of random operations is compared with it.
 */

/** What an operation was told to do about the life of its key; both ends of the moment at which it is over. */
export interface Expiry {
  from: number;
  to: number;
}

export interface Content {
  value: unknown;
  encoding: "json" | "text" | "base64";
  description?: string | undefined;
}

/** One revision of a key. */
export interface Revision {
  /** Not known where the answer to a write does not say it: a delete's, until the history is read. */
  revision: number | undefined;
  /** Undefined for a delete. */
  content: Content | undefined;
  reason?: "delete" | "purge" | "expired";
  expiry?: Expiry | undefined;
  /** May be stored or not: the mark of an expired key goes by itself. */
  isOptional?: boolean;
  /** Its time was over. The store may take a moment longer to remove it, in which a condition can still name it. */
  hasExpired?: boolean;
}

export type LiveRevision = Revision & { content: Content };

export type Condition =
  { kind: "absent" } | { kind: "present" } | { kind: "revision"; revision: number };

/** How a condition fails. */
export interface Refusal {
  code: "key_exists" | "revision_mismatch";
  current: number;
}

export class ModelBucket {
  readonly historyLimit: number;
  /** What is stored of each key, oldest first. */
  readonly #stored = new Map<string, Revision[]>();
  /** Everything that ever happened to each key. */
  readonly #past = new Map<string, Revision[]>();
  /** The highest revision that is known. */
  last = 0;

  constructor(historyLimit: number) {
    this.historyLimit = historyLimit;
  }

  history(key: string): readonly Revision[] {
    return this.#stored.get(key) ?? [];
  }

  past(key: string): readonly Revision[] {
    return this.#past.get(key) ?? [];
  }

  latest(key: string): Revision | undefined {
    return this.history(key).at(-1);
  }

  live(key: string): LiveRevision | undefined {
    const latest = this.latest(key);
    return latest?.content === undefined ? undefined : (latest as LiveRevision);
  }

  /** The revision that a conditional writer has to name: 0 for a key that is not there. */
  current(key: string): number {
    return this.live(key)?.revision ?? 0;
  }

  /** Live keys, sorted. */
  keys(): string[] {
    return [...this.#stored.keys()].filter((key) => this.live(key) !== undefined).sort();
  }

  /** How many revisions are stored, at least and at most. */
  values(): { least: number; most: number } {
    const all = [...this.#stored.values()].flat();
    const least = all.filter(({ isOptional }) => isOptional !== true).length;
    return { least, most: all.length };
  }

  check(key: string, condition: Condition | undefined): Refusal | undefined {
    const current = this.current(key);
    switch (condition?.kind) {
      case undefined:
        return undefined;
      case "absent":
        return current === 0 ? undefined : { code: "key_exists", current };
      case "present":
        return current === 0 ? { code: "revision_mismatch", current } : undefined;
      case "revision": {
        // The revision of a tombstone is one, too.
        const stands = condition.revision === 0 ? current : (this.latest(key)?.revision ?? -1);
        return stands === condition.revision ? undefined : { code: "revision_mismatch", current };
      }
    }
  }

  put(key: string, revision: number, content: Content, expiry?: Expiry): void {
    const entry: Revision = { revision, content, expiry };
    // A value with an end takes the key's history along, so that its end cannot uncover any of it.
    this.#add(key, entry, expiry !== undefined);
  }

  /** @param isCertain false where a purge had something to remove only if an expired key's mark was still there */
  delete(key: string, revision: number | undefined, purge: boolean, isCertain = true): void {
    const entry: Revision = {
      revision,
      content: undefined,
      reason: purge ? "purge" : "delete",
      isOptional: !isCertain,
    };
    this.#add(key, entry, purge);
  }

  /** The values of a key whose time is over go. */
  expire(key: string, isOver: (expiry: Expiry) => boolean): void {
    const stored = this.history(key);
    const left = stored.filter(({ expiry }) => expiry === undefined || !isOver(expiry));
    if (left.length === stored.length) return;
    for (const each of stored) each.hasExpired = !left.includes(each);
    if (left.at(-1) !== stored.at(-1)) {
      const mark: Revision = {
        revision: undefined,
        content: undefined,
        reason: "expired",
        isOptional: true,
      };
      left.push(mark);
      this.#remember(key, mark);
    }
    this.#stored.set(key, left);
  }

  /** Keys whose last revision is a tombstone go whole. Returns how many that are, at least and at most. */
  compact(): { least: number; most: number } {
    const removed = { least: 0, most: 0 };
    for (const [key, stored] of this.#stored) {
      if (stored.length === 0 || this.live(key) !== undefined) continue;
      removed.most += 1;
      // The mark of an expired key may come only now.
      const left = stored.filter(({ reason }) => reason === "expired");
      if (stored.some(({ isOptional }) => isOptional !== true)) removed.least += 1;
      this.#stored.set(key, left);
    }
    return removed;
  }

  #add(key: string, entry: Revision, alone: boolean): void {
    const stored = alone ? [entry] : [...this.history(key), entry];
    this.#stored.set(key, stored.slice(-this.historyLimit));
    this.#remember(key, entry);
    if (entry.revision !== undefined) this.last = Math.max(this.last, entry.revision);
  }

  #remember(key: string, entry: Revision): void {
    this.#past.set(key, [...this.past(key), entry]);
  }
}

/** The tokens of a key: dots separate them, unless a token would be empty. */
function tokensOf(key: string): string[] {
  const tokens: string[] = [];
  let token = "";
  for (let i = 0; i < key.length; i++) {
    const character = key.charAt(i);
    if (character === "." && token !== "" && i + 1 < key.length) {
      tokens.push(token);
      token = "";
    } else {
      token += character;
    }
  }
  return [...tokens, token];
}

/** Whether a filter covers a key: `*` for a token or a part of one, `>` for the rest. */
export function covers(filter: string, key: string): boolean {
  const open = filter === ">" || filter.endsWith(".>");
  const wanted = filter.split(".").slice(0, open ? -1 : undefined);
  const tokens = tokensOf(key);
  if (open ? tokens.length <= wanted.length : tokens.length !== wanted.length) return false;
  return wanted.every((token, i) => {
    const pieces = token.split("*").map((piece) => piece.replace(/[^\w-]/g, "\\$&"));
    return new RegExp(`^${pieces.join("[^]*")}$`).test(tokens[i]!);
  });
}

/** RFC 7396. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Record<string, unknown> = isObject(target) ? { ...target } : {};
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) Reflect.deleteProperty(result, name);
    else result[name] = mergePatch(result[name], change);
  }
  return result;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
