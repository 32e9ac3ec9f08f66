import type { Position } from "../protocol/entry.ts";

/** A position as clients keep it. It is opaque to them: nothing but handing it back is promised to work. */
export function encodePosition({ epoch, revision }: Position): string {
  return `${Date.parse(epoch).toString(36)}-${revision.toString(36)}`;
}
