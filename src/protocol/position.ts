/**
 * Positions as they travel: epoch, revision and what was watched, in base 36. They are opaque to users: nothing but handing one
 * back is promised to work.
 */
import type { Position } from "./entry.ts";

/** What a position says. */
export interface ParsedPosition {
  /** When the bucket was created, in milliseconds since 1970. */
  epoch: number;
  revision: number;
  /** What the watch was about, see {@link watchHash}; undefined where that is not to be checked. */
  hash: string | undefined;
}

/** What decides which changes a watch gets, beside its filters. */
export interface WatchMode {
  /** Whether values are delivered, or keys only. */
  values: boolean;
  include: "snapshot" | "updates" | "history";
}

const form = /^([0-9a-z]{1,11})-([0-9a-z]{1,11})(?:-([0-9a-z]{1,7}))?$/;

/**
 * Writes a position.
 *
 * @param hash what was watched, so that the position cannot be used for something else unnoticed
 * @example
 * encodePosition({ epoch: "2026-01-02T03:04:05.678Z", revision: 7 }); // "mjwe1cwu-7"
 */
export function encodePosition({ epoch, revision }: Position, hash?: string): string {
  const position = `${Date.parse(epoch).toString(36)}-${revision.toString(36)}`;
  return hash === undefined ? position : `${position}-${hash}`;
}

/** Reads a position; undefined when it is none. */
export function parsePosition(text: string): ParsedPosition | undefined {
  const match = form.exec(text);
  if (match === null) return undefined;
  const epoch = Number.parseInt(match[1]!, 36);
  const revision = Number.parseInt(match[2]!, 36);
  if (!Number.isSafeInteger(epoch) || !Number.isSafeInteger(revision)) return undefined;
  return { epoch, revision, hash: match[3] };
}

/** The position moved on to a later revision; an earlier one changes nothing, and neither does a position of unknown form. */
export function advancePosition(position: string, revision: number): string {
  const match = form.exec(position);
  if (match === null || revision <= Number.parseInt(match[2]!, 36)) return position;
  const [, epoch, , hash] = match;
  return `${epoch}-${revision.toString(36)}${hash === undefined ? "" : `-${hash}`}`;
}

/** The revision of a position; 0 when it is of a form that this version does not know. */
export function revisionOfPosition(position: string): number {
  return parsePosition(position)?.revision ?? 0;
}

/**
 * What a watch is about, in a few characters: the same for the same set of filters and the same mode. A watch for updates goes on
 * like one that began with a snapshot, so those are the same.
 *
 * @param filters as they were given; none means all keys
 */
export function watchHash(filters: readonly string[], { values, include }: WatchMode): string {
  const set = [...new Set(filters.length === 0 ? [">"] : filters)].sort();
  return fnv1a(JSON.stringify([set, values, include === "history"])).toString(36);
}

/** The 32-bit hash of Fowler, Noll and Vo. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    hash = Math.imul(hash ^ (unit & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (unit >>> 8), 0x01000193);
  }
  return hash >>> 0;
}
