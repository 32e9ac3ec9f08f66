/** What requests say in their path, query and headers, read once. */
import { parseTtl } from "../protocol/durations.ts";
import { KvError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { valueTypeName } from "../protocol/messages.ts";
import type { GetOptions, PutOptions } from "../store/bucket.ts";
import type { Moment } from "../store/past.ts";
import type { Condition } from "../store/conditions.ts";
import type { Asked } from "./answer.ts";

/**
 * A part of the path as it was sent, not decoded.
 *
 * @param slashes how many slashes stand before it
 * @param toEnd whether it is all that follows, further slashes included, rather than one segment
 * @returns undefined when the path has not so many slashes
 */
export function rawPart(
  { req: { url } }: Asked,
  slashes: number,
  toEnd: boolean,
): string | undefined {
  let start = url.indexOf("/", url.indexOf("//") + 2);
  for (let passed = 1; passed < slashes && start !== -1; passed++)
    start = url.indexOf("/", start + 1);
  const query = url.indexOf("?");
  const end = query === -1 ? url.length : query;
  if (start === -1 || start >= end) return undefined;
  const slash = toEnd ? -1 : url.indexOf("/", start + 1);
  return url.slice(start + 1, slash === -1 || slash > end ? end : slash);
}

/**
 * A header of the request. Taken from where the server has parsed it already: the platform's own form of headers checks and
 * normalises name and value each time.
 */
export function header(c: Asked, name: LowerCase): string | undefined {
  const value = c.env.incoming.headers[name];
  return typeof value === "object" ? value.join(", ") : value;
}

type LowerCase =
  | "accept"
  | "content-type"
  | "if-match"
  | "if-none-match"
  | "last-event-id"
  | "min-revision"
  | "origin"
  | "x-request-id";

/** Whether the address has a query at all. */
export function hasQuery(c: Asked): boolean {
  return c.req.url.includes("?");
}

/** Which error a part of an address that cannot be decoded is. */
export type AddressCode =
  "invalid_key" | "invalid_bucket_name" | "invalid_filter" | "invalid_request";

/** Decodes a part of a path once. @throws KvError of the given code */
export function decodePart(part: string, code: AddressCode): string {
  if (!part.includes("%")) return part;
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new KvError(code, `${JSON.stringify(part)} is not valid percent-encoding of UTF-8`, {
      cause,
    });
  }
}

/**
 * All values of a query's parameter. Unlike the platform's own parser it refuses what is not valid percent-encoding of
 * UTF-8: replaced by something else it would name another key.
 *
 * @param query what follows the question mark
 * @throws KvError of the given code
 */
export function queryTexts(query: string, name: string, code: AddressCode): string[] {
  const found: string[] = [];
  for (const pair of query.split("&")) {
    const end = pair.indexOf("=");
    if ((end === -1 ? pair : pair.slice(0, end)) !== name) continue;
    found.push(end === -1 ? "" : decodePart(pair.slice(end + 1).replaceAll("+", " "), code));
  }
  return found;
}

/** A text of the query. @throws KvError of the given code */
export function text(c: Asked, name: string, code: AddressCode): string | undefined {
  const { url } = c.req;
  const start = url.indexOf("?");
  return start === -1 ? undefined : queryTexts(url.slice(start + 1), name, code)[0];
}

/** A flag of the query: `?purge`, `?purge=true`, `?purge=false`. @throws KvError `invalid_request` */
export function flag(c: Asked, name: string): boolean {
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
export function integer(c: Asked, name: string, min: number, max: number): number | undefined {
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
export function writeCondition(c: Asked): Condition | undefined {
  const ifNoneMatch = header(c, "if-none-match");
  const ifMatch = header(c, "if-match");
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
export function isNotModified(c: Asked, revision: number): boolean {
  const tags = header(c, "if-none-match");
  if (tags === undefined) return false;
  return tags.split(",").some((tag) => tag.trim() === "*" || revisionOf(tag) === revision);
}

/** Whether the reader wants the bytes rather than the JSON form. */
export function wantsRaw(c: Asked): boolean {
  if (flag(c, "raw")) return true;
  const accept = header(c, "accept");
  return accept !== undefined && accept !== "" && !/application\/(?:json|\*)|\*\/\*/i.test(accept);
}

/** How fresh a read has to be: `?consistency=strong`, or the header `Min-Revision`. @throws KvError `invalid_request` */
export function consistency(c: Asked): GetOptions {
  const wanted = oneOf(c, "consistency", ["strong", "eventual"]);
  const wantedRevision = header(c, "min-revision");
  const minRevision = wantedRevision === undefined ? undefined : revisionOf(wantedRevision);
  if (wantedRevision !== undefined && minRevision === undefined) {
    throw new KvError(
      "invalid_request",
      `Min-Revision takes a revision, not ${JSON.stringify(wantedRevision)}`,
    );
  }
  return {
    ...(wanted === "strong" ? { strong: true } : {}),
    ...(minRevision === undefined ? {} : { minRevision }),
  };
}

/** The time to live of the query, in seconds. @throws KvError `invalid_ttl` */
export function ttlOf(c: Asked): number | undefined {
  const ttl = text(c, "ttl", "invalid_request");
  return ttl === undefined ? undefined : parseTtl(ttl);
}

/** One of some words of the query. @throws KvError `invalid_request` */
function oneOf<T extends string>(c: Asked, name: string, words: readonly T[]): T | undefined {
  const value = text(c, name, "invalid_request");
  const word = words.find((each) => each === value);
  if (value === undefined || word !== undefined) return word;
  throw new KvError(
    "invalid_request",
    `"${name}" is one of ${words.join(", ")}, not ${JSON.stringify(value)}`,
    {
      details: { field: name },
    },
  );
}

/** All that a PUT can ask for. @throws KvError `invalid_request`, `invalid_ttl` */
export function putOptions(c: Asked): PutOptions {
  const condition = writeCondition(c);
  const options: PutOptions = condition === undefined ? {} : { condition };
  if (!hasQuery(c)) return options;
  const ttl = ttlOf(c);
  if (ttl !== undefined) options.ttl = ttl;
  if (flag(c, "keep_created")) options.keepCreated = true;
  const returns = oneOf(c, "return", ["previous", "latest"]);
  if (returns !== undefined) options.returns = returns;
  const description = text(c, "description", "invalid_request");
  if (description !== undefined && description.length > limits.keyDescription) {
    throw new KvError(
      "invalid_request",
      `"description" has at most ${limits.keyDescription} characters`,
      {
        details: { field: "description" },
      },
    );
  }
  if (description !== undefined && description !== "") options.description = description;
  const valueType = text(c, "value_type", "invalid_request");
  if (valueType !== undefined && !valueTypeName.test(valueType)) {
    throw new KvError(
      "invalid_request",
      `"value_type" is a name of 1 to 32 letters, digits, "_" and "-"`,
      {
        details: { field: "value_type" },
      },
    );
  }
  if (valueType !== undefined) options.label = valueType;
  return options;
}

/** A moment of the query: a revision, or a time in ISO 8601. @throws KvError `invalid_request` */
export function momentOf(c: Asked, name: string): Moment | undefined {
  const value = text(c, name, "invalid_request");
  if (value === undefined) return undefined;
  if (/^\d{1,16}$/.test(value) && Number(value) > 0) return { revision: Number(value) };
  const time = /^\d{4}-\d\d-\d\dT/.test(value) ? Date.parse(value) : NaN;
  if (!Number.isNaN(time)) return { time };
  throw new KvError(
    "invalid_request",
    `"${name}" is a revision or a time such as 2026-01-02T03:04:05Z, not ${JSON.stringify(value)}`,
    {
      details: { field: name },
    },
  );
}
