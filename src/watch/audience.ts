import type { KeyPattern } from "../protocol/keys.ts";
import { watchHash } from "../protocol/position.ts";
import { dialectOf, type Dialect } from "./frames.ts";
import type { Members, Shard } from "./shard.ts";
import type { Format, WatchOptions } from "./watch.ts";

/**
 * All watches that get the same frames: with the same filters, written in the same way. A change is matched, and its frame
 * found, once for all of them.
 */
export class Audience {
  readonly key: string;
  readonly patterns: readonly KeyPattern[];
  readonly dialect: Dialect;
  /** The same for the same set of filters. */
  readonly filters: string;
  /** Whether every revision counts, so that none may be left out. */
  readonly wantsHistory: boolean;
  /** What is watched, as positions say it. */
  readonly hash: string;
  /** Those that are live, by where they are. */
  readonly members = new Map<Shard, Members>();
  /** How many there are, whether they are live yet or not. */
  size = 0;
  /** Revision of which the members were told last, or at which the first of them became live. */
  told = 0;

  constructor(options: WatchOptions, format: Format) {
    const { patterns, include, values, id, wording } = options;
    this.filters = filtersOf(patterns);
    this.key = keyOf(this.filters, options, format);
    this.patterns = patterns;
    this.dialect = dialectOf(format, values, id, wording);
    this.wantsHistory = include === "history";
    this.hash = watchHash(
      patterns.map(({ text }) => text),
      { values: values !== false, include },
    );
  }

  /** The key of the audience to which a watch belongs. */
  static keyOf(options: WatchOptions, format: Format): string {
    return keyOf(filtersOf(options.patterns), options, format);
  }

  get isLive(): boolean {
    return this.members.size > 0;
  }

  get isPlain(): boolean {
    return this.dialect.format === "plain";
  }

  wants(suffix: string): boolean {
    return this.patterns.some((pattern) => pattern.matches(suffix));
  }
}

function keyOf(
  filters: string,
  { include, values, id, wording }: WatchOptions,
  format: Format,
): string {
  return JSON.stringify([format, id, values, include === "history", filters, wording?.name]);
}

function filtersOf(patterns: readonly KeyPattern[]): string {
  // The same text can be a filter and the name of one key.
  return JSON.stringify(patterns.map(({ subject, text }) => `${subject} ${text}`).sort());
}
