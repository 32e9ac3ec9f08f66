import { isLive, type Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";

/** On which revision of its key a write depends. */
export type Condition =
  /** The key must not exist. */
  | { kind: "absent" }
  /** The key must exist, at whatever revision. */
  | { kind: "present" }
  /** The key's latest revision must be this one; 0 means that the key must not exist. */
  | { kind: "revision"; revision: number };

/** Whether a condition asks that the key does not exist. */
export function mustBeAbsent(condition: Condition | undefined): boolean {
  return (
    condition?.kind === "absent" || (condition?.kind === "revision" && condition.revision === 0)
  );
}

/**
 * Checks a condition against what a key holds.
 *
 * @throws KvError `key_exists`, `revision_mismatch`
 */
export function checkCondition(
  key: string,
  condition: Condition | undefined,
  latest: Entry | undefined,
): void {
  if (condition === undefined) return;
  const current = liveRevision(latest);
  if (condition.kind === "present") {
    if (current === 0) throw revisionMismatch(key, latest);
  } else if (mustBeAbsent(condition)) {
    if (current !== 0) throw conflict(key, condition, latest);
  } else if (condition.kind === "revision" && condition.revision !== latest?.revision) {
    throw revisionMismatch(key, latest);
  }
}

/** The error that says that a condition does not hold. */
export function conflict(
  key: string,
  condition: Condition | undefined,
  latest: Entry | undefined,
): KvError {
  if (condition?.kind !== "absent") return revisionMismatch(key, latest);
  return new KvError("key_exists", `key "${key}" exists already`, {
    details: { current_revision: liveRevision(latest) },
  });
}

export function keyNotFound(key: string, latest: Entry | undefined): KvError {
  if (latest === undefined) return new KvError("key_not_found", `key "${key}" does not exist`);
  const expired = latest.operation === "put" || latest.reason === "expired";
  return new KvError("key_not_found", `key "${key}" ${expired ? "has expired" : "was deleted"}`);
}

/** The revision that a retry has to expect: 0 for a key that does not exist. */
export function liveRevision(latest: Entry | undefined): number {
  return isLive(latest) ? latest.revision : 0;
}

function revisionMismatch(key: string, latest: Entry | undefined): KvError {
  const current = liveRevision(latest);
  return new KvError(
    "revision_mismatch",
    current === 0 ? `key "${key}" does not exist` : `key "${key}" is at revision ${current} now`,
    { details: { current_revision: current } },
  );
}
