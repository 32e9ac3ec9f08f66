import type { Grants } from "../auth/grants.ts";
import { KvError } from "../protocol/errors.ts";

/**
 * The error of a write that somebody may see. One that says where a key stands is for whoever may read or write the key; others learn
 * that their condition does not hold.
 */
export function discreet(error: unknown, grants: Grants, bucket: string, key: string): unknown {
  if (!(error instanceof KvError) || error.details?.current_revision === undefined) return error;
  if (grants.allows("read", bucket, key) || grants.allows("write", bucket, key)) return error;
  const details = { ...error.details };
  delete details.current_revision;
  return new KvError(error.code, `key "${key}" is not at the revision that the request expects`, {
    details,
    cause: error,
  });
}
