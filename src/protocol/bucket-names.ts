import { KvError } from "./errors.ts";
import { limits } from "./limits.ts";

/** Prefix of the JetStream buckets that users own. Users neither type nor see it. */
export const APP_PREFIX = "APP_";

const grammar = new RegExp(`^[A-Za-z0-9_-]{1,${limits.bucketName}}$`);
const reserved = /^(APP|SYS)_/i;

/**
 * Checks a bucket name that a user gave.
 *
 * Names are 1 to 64 ASCII letters, digits, `_` and `-`. Names that begin with `APP_` or `SYS_`, in any case, are
 * refused: they are the prefixes of the stored names, and such a name is a mistake or an attempt to reach a
 * system bucket.
 *
 * @throws KvError `invalid_bucket_name`
 */
export function assertBucketName(name: string): void {
  if (!grammar.test(name)) {
    throw new KvError(
      "invalid_bucket_name",
      `bucket name ${JSON.stringify(name.slice(0, 80))} is not allowed: use 1 to ${limits.bucketName} letters, digits, "_" and "-"`,
    );
  }
  if (reserved.test(name)) {
    throw new KvError(
      "invalid_bucket_name",
      `bucket name "${name}" begins with a reserved prefix: leave out "${name.slice(0, 4)}"`,
    );
  }
}

/** Prefix of the gateway's own buckets. */
export const SYSTEM_PREFIX = "SYS_";

/** The name of the JetStream stream behind a user's bucket: `settings` is `KV_APP_settings`. */
export function streamOfBucket(name: string): string {
  return `KV_${APP_PREFIX}${name}`;
}

/** The user's bucket behind a stream, or undefined when the stream is no user bucket. */
export function bucketOfStream(stream: string): string | undefined {
  const prefix = `KV_${APP_PREFIX}`;
  if (!stream.startsWith(prefix)) return undefined;
  const name = stream.slice(prefix.length);
  return grammar.test(name) && !reserved.test(name) ? name : undefined;
}
