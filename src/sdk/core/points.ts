/**
 * A point in the life of a bucket: a revision, or a time as a `Date` or in ISO 8601, for instance `2026-11-21T11:00:00Z`.
 */
export type Point = number | string | Date;

/** A revision. One that is no number must not go out as none: a write would be unconditional. */
export function checkedRevision(revision: number): number {
  if (!Number.isSafeInteger(revision) || revision < 0) {
    throw new TypeError(`a revision is a whole number, not ${String(revision)}`);
  }
  return revision;
}

/** A revision as it travels in a query or a header. */
export function revisionText(revision: number): string {
  return String(checkedRevision(revision));
}

/** A point as it travels. */
export function pointText(point: Point): string {
  if (typeof point === "number") return revisionText(point);
  return typeof point === "string" ? point : point.toISOString();
}

/** What of optional things there is, under a function. */
export function given<A, B>(value: A | undefined, as: (value: A) => B): B | undefined {
  return value === undefined ? undefined : as(value);
}
