import { assertBucketName } from "../protocol/bucket-names.ts";
import { assertKey } from "../protocol/keys.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import type { Asked } from "./answer.ts";
import { decodePart, rawPart, text } from "./input.ts";

/** Finds what a request is about: the bucket in its path, and the key behind it or in `?key=`. */
export interface Target {
  bucketName(c: Asked): string;
  bucket(c: Asked): Promise<Bucket>;
  key(c: Asked): string;
}

/**
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`. Behind it come the bucket, a word for what is
 * asked of it (`keys`, `history`), and the key, which may itself hold slashes.
 */
export function targetOf(base: string, buckets: Buckets): Target {
  const slashes = base.split("/").length;
  const bucketName = (c: Asked): string => {
    const name = decodePart(rawPart(c, slashes, false) ?? "", "invalid_bucket_name");
    assertBucketName(name);
    return name;
  };
  return {
    bucketName,
    bucket: (c) => buckets.open(bucketName(c)),
    key(c) {
      const part = rawPart(c, slashes + 2, true);
      const key =
        part === undefined
          ? (text(c, "key", "invalid_key") ?? "")
          : decodePart(part, "invalid_key");
      assertKey(key);
      return key;
    },
  };
}
