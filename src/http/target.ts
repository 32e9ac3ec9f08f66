import type { Grants } from "../auth/grants.ts";
import { assertBucketName } from "../protocol/bucket-names.ts";
import { assertKey } from "../protocol/keys.ts";
import type { Reach } from "../protocol/reach.ts";
import type { KeyVerb } from "../protocol/scopes.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import { principalOf, type Asked } from "./answer.ts";
import { decodePart, rawPart, text } from "./input.ts";

/** A bucket in which its asker may do something. Whether it exists shows only when it is opened. */
export interface AskedBucket {
  bucketName: string;
  /** @throws KvError `bucket_not_found`, `store_unavailable` */
  open: () => Promise<Bucket>;
}

/** A key with which its asker may do what was named. */
export interface AskedKey extends AskedBucket {
  key: string;
}

/** The keys of a bucket that its asker reaches; there may be some. */
export interface AskedKeys extends AskedBucket {
  reach: Reach;
}

/** A bucket that its asker knows. Each of its keys is still to be asked for. */
export interface KnownBucket extends AskedBucket {
  grants: Grants;
}

/**
 * Finds what a request is about: the bucket in its path, and the key behind it or in `?key=`. Nothing of it is told without the
 * rights that a route names, and without a look at the store: what may not be known is forbidden whether it exists or not.
 */
export interface Target {
  /** A key, for all of some verbs. @throws KvError `forbidden`, `invalid_key`, `invalid_bucket_name` */
  key(c: Asked, ...verbs: [KeyVerb, ...KeyVerb[]]): AskedKey;
  /** Those keys of a bucket that a verb reaches. @throws KvError `forbidden`, `invalid_bucket_name` */
  keys(c: Asked, verb: KeyVerb): AskedKeys;
  /** A bucket as a whole, to change it. @throws KvError `forbidden`, `invalid_bucket_name` */
  administered(c: Asked): AskedBucket;
  /** A bucket of whose keys the request says more later. @throws KvError `forbidden`, `invalid_bucket_name` */
  known(c: Asked): KnownBucket;
}

/**
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`. Behind it come the bucket, a word for what is
 * asked of it (`keys`, `history`), and the key, which may itself hold slashes.
 */
export function targetOf(base: string, buckets: Buckets): Target {
  const slashes = base.split("/").length;
  const nameOf = (c: Asked): string => {
    const name = decodePart(rawPart(c, slashes, false) ?? "", "invalid_bucket_name");
    assertBucketName(name);
    return name;
  };
  const keyOf = (c: Asked): string => {
    const part = rawPart(c, slashes + 2, true);
    const key =
      part === undefined ? (text(c, "key", "invalid_key") ?? "") : decodePart(part, "invalid_key");
    assertKey(key);
    return key;
  };
  return {
    key(c, ...verbs) {
      const bucketName = nameOf(c);
      const key = keyOf(c);
      const { grants } = principalOf(c);
      for (const verb of verbs) grants.require(verb, bucketName, key);
      return { bucketName, key, open: () => buckets.open(bucketName) };
    },
    keys(c, verb) {
      const bucketName = nameOf(c);
      const reach = principalOf(c).grants.requireAny(verb, bucketName);
      return { bucketName, reach, open: () => buckets.open(bucketName) };
    },
    administered(c) {
      const bucketName = nameOf(c);
      principalOf(c).grants.requireAdmin(bucketName);
      return { bucketName, open: () => buckets.open(bucketName) };
    },
    known(c) {
      const bucketName = nameOf(c);
      const { grants } = principalOf(c);
      grants.requireKnown(bucketName);
      return { bucketName, grants, open: () => buckets.open(bucketName) };
    },
  };
}
