import type { Position } from "./entry.ts";

/**
 * A position as it travels: epoch and revision in base 36. It is opaque to users: nothing but handing it back is promised
 * to work.
 */
export function encodePosition({ epoch, revision }: Position): string {
  return `${Date.parse(epoch).toString(36)}-${revision.toString(36)}`;
}

/** The revision of a position; 0 when it is of a form that this version does not know. */
export function revisionOfPosition(position: string): number {
  return Number.parseInt(/^[0-9a-z]+-([0-9a-z]+)$/.exec(position)?.[1] ?? "0", 36);
}
