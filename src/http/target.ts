import type { Context } from "hono";
import { assertBucketName } from "../protocol/bucket-names.ts";
import { assertKey } from "../protocol/keys.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import { decodePart, rawSegments, text } from "./input.ts";

/** The rest of a path: slashes and line breaks, which a dot would not match, can be part of a key. */
export const KEY = ":key{[\\s\\S]*}";

/** Finds what a request is about: the bucket in its path, and the key behind it or in `?key=`. */
export interface Target {
  bucketName(c: Context): string;
  bucket(c: Context): Promise<Bucket>;
  key(c: Context): string;
}

/**
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`. Behind it come the bucket, a word for what is
 * asked of it (`keys`, `history`), and the key, which may itself hold slashes.
 */
export function targetOf(base: string, buckets: Buckets): Target {
  const depth = base.split("/").length - 1;
  const bucketName = (c: Context): string => {
    const name = decodePart(rawSegments(c)[depth] ?? "", "invalid_bucket_name");
    assertBucketName(name);
    return name;
  };
  return {
    bucketName,
    bucket: (c) => buckets.open(bucketName(c)),
    key(c) {
      const segments = rawSegments(c);
      const key =
        segments.length > depth + 2
          ? decodePart(segments.slice(depth + 2).join("/"), "invalid_key")
          : (text(c, "key", "invalid_key") ?? "");
      assertKey(key);
      return key;
    },
  };
}
