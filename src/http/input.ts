/** What requests say in their path, query and headers, read once. */
import type { Context } from "hono";
import { KvError } from "../protocol/errors.ts";
import type { Condition } from "../store/bucket.ts";

/** The path as it was sent, cut at slashes, not decoded: `/api/v1/kv` is `["api", "v1", "kv"]`. */
export function rawSegments(c: Context): string[] {
  const { url } = c.req;
  const start = url.indexOf("/", url.indexOf("//") + 2) + 1;
  const query = url.indexOf("?", start);
  return url.slice(start, query === -1 ? undefined : query).split("/");
}

/** Decodes a part of a path once. @throws KvError of the given code */
export function decodePart(part: string, code: "invalid_key" | "invalid_bucket_name"): string {
  if (!part.includes("%")) return part;
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new KvError(code, `${JSON.stringify(part)} is not valid percent-encoding of UTF-8`, {
      cause,
    });
  }
}

/** A flag of the query: `?purge`, `?purge=true`, `?purge=false`. @throws KvError `invalid_request` */
export function flag(c: Context, name: string): boolean {
  const value = c.req.query(name);
  switch (value) {
    case undefined:
    case "false":
    case "0":
      return false;
    case "":
    case "true":
    case "1":
      return true;
    default:
      throw new KvError(
        "invalid_request",
        `"${name}" is true or false, not ${JSON.stringify(value)}`,
        { details: { field: name } },
      );
  }
}

/** A whole number of the query. @throws KvError `invalid_request` */
export function integer(c: Context, name: string, min: number, max: number): number | undefined {
  const value = c.req.query(name);
  if (value === undefined) return undefined;
  const number = /^\d{1,16}$/.test(value) ? Number(value) : NaN;
  if (!(number >= min && number <= max)) {
    throw new KvError(
      "invalid_request",
      `"${name}" is a whole number from ${min} to ${max}, not ${JSON.stringify(value)}`,
      {
        details: { field: name },
      },
    );
  }
  return number;
}

const entityTag = /^(?:W\/)?"(\d{1,16})"$|^(\d{1,16})$/;

/** The revision of an entity tag, bare (`7`), quoted (`"7"`) or weak (`W/"7"`). */
function revisionOf(tag: string): number | undefined {
  const match = entityTag.exec(tag.trim());
  return match === null ? undefined : Number(match[1] ?? match[2]);
}

/**
 * The condition of a write: `If-None-Match: *`, `If-Match: *` or `If-Match: <revision>`.
 *
 * @throws KvError `invalid_request`
 */
export function writeCondition(c: Context): Condition | undefined {
  const ifNoneMatch = c.req.header("If-None-Match");
  const ifMatch = c.req.header("If-Match");
  if (ifNoneMatch !== undefined && ifMatch !== undefined) {
    throw new KvError("invalid_request", "If-Match and If-None-Match exclude each other: send one");
  }
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() !== "*") {
      throw new KvError(
        "invalid_request",
        `on a write If-None-Match takes only "*", which means that the key must not exist`,
      );
    }
    return { kind: "absent" };
  }
  if (ifMatch === undefined) return undefined;
  if (ifMatch.trim() === "*") return { kind: "present" };
  const revision = revisionOf(ifMatch);
  if (revision === undefined) {
    throw new KvError(
      "invalid_request",
      `If-Match takes one revision, for instance 7 or "7", not ${JSON.stringify(ifMatch)}`,
    );
  }
  return { kind: "revision", revision };
}

/** Whether the reader's `If-None-Match` names a revision, so that nothing needs to be sent. */
export function isNotModified(c: Context, revision: number): boolean {
  const header = c.req.header("If-None-Match");
  if (header === undefined) return false;
  return header.split(",").some((tag) => tag.trim() === "*" || revisionOf(tag) === revision);
}

/** Whether the reader wants the bytes rather than the JSON form. */
export function wantsRaw(c: Context): boolean {
  if (flag(c, "raw")) return true;
  const accept = c.req.header("Accept");
  return accept !== undefined && accept !== "" && !/application\/(?:json|\*)|\*\/\*/i.test(accept);
}
