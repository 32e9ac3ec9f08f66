import { JetbucketError } from "./errors.ts";

/** Path of all buckets, under the server's base address. */
export const BUCKETS = "/api/v1/kv/buckets";

/** Path of a bucket. The server judges the name; refused here is only what would make it another path. */
export function bucketPath(bucket: string): string {
  if (isDotSegment(bucket) || bucket === "") {
    throw new JetbucketError(
      "invalid_bucket_name",
      `${JSON.stringify(bucket)} cannot be the name of a bucket`,
    );
  }
  return `${BUCKETS}/${encode(bucket, "invalid_bucket_name")}`;
}

/** What is asked of a key, as the word before it in a path. */
export type KeyRoute = "keys" | "history" | "diff" | "increment" | "touch" | "restore";

/**
 * Path and query under which a key arrives as it is, whatever is in it.
 *
 * URL parsers collapse `.` and `..` segments, also as `%2e`, and proxies may do so after decoding `%2F`: keys with
 * such segments travel in the query.
 */
export function keyPath(bucket: string, route: KeyRoute, key: string, query: Query = {}): string {
  const base = bucketPath(bucket);
  if (key === "") throw new JetbucketError("invalid_key", "a key must not be empty");
  if (key.split("/").some(isDotSegment)) {
    return `${base}/${route === "keys" ? "entry" : route}${queryOf({ key, ...query })}`;
  }
  return `${base}/${route}/${encode(key, "invalid_key")}${queryOf(query)}`;
}

/** Parameters of a query; those that are undefined are left out, lists are repeated. */
export type Query = Record<string, string | number | readonly string[] | undefined>;

/** A query with its `?`, or nothing. */
export function queryOf(query: Query): string {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    value === undefined
      ? []
      : (typeof value === "object" ? value : [String(value)]).map(
          (item) => `${name}=${encode(item, "invalid_request")}`,
        ),
  );
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}

function isDotSegment(segment: string): boolean {
  return segment === "." || segment === "..";
}

function encode(text: string, code: "invalid_key" | "invalid_bucket_name" | "invalid_request") {
  try {
    return encodeURIComponent(text);
  } catch (cause) {
    throw new JetbucketError(code, "text must be valid Unicode: half of a surrogate pair found", {
      cause,
    });
  }
}
