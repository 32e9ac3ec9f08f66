/** What a client asks for, whichever way: in an address, or in a frame of a multiplexed socket. */
import type { IncomingMessage } from "node:http";
import type { Grants } from "../../auth/grants.ts";
import type { Principal } from "../../auth/principal.ts";
import { assertBucketName } from "../../protocol/bucket-names.ts";
import { KvError } from "../../protocol/errors.ts";
import { everyKey, parsePattern, type KeyPattern } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import {
  environmentOf,
  includes,
  parseName,
  parseWith,
  watchSchema,
  type Include,
} from "../../protocol/messages.ts";
import { parsePosition } from "../../protocol/position.ts";
import type { KeyVerb } from "../../protocol/scopes.ts";
import type { ValueForm, WatchOptions } from "../../watch/watch.ts";
import { decodePart, queryTexts } from "../input.ts";

/** A watch that may be opened, as far as can be said without a look at the bucket. */
export interface WatchTarget {
  bucket: string;
  options: WatchOptions;
}

/** A watch of a config document. */
export interface ConfigTarget {
  name: string;
  /** As the address has it, for want of a header. */
  environment: string | undefined;
  since: string | undefined;
}

/**
 * A watch of a bucket of which nothing but what its asker may see is left: keys that `watch` reaches, and `read`, too, where values are
 * delivered. Rights that change give it another position, so that it starts over.
 *
 * @throws KvError `forbidden` when a filter asks for nothing that can be seen
 */
export function permitted({ bucket, options }: WatchTarget, grants: Grants): WatchTarget {
  if (grants.isUnlimited) return { bucket, options };
  const verbs: readonly KeyVerb[] = options.values === false ? ["watch"] : ["watch", "read"];
  const patterns = grants.narrow(verbs, bucket, options.patterns);
  return { bucket, options: { ...options, patterns } };
}

/**
 * What somebody may see of a watch. That of a config document has its environment then.
 *
 * @throws KvError `forbidden` when that is nothing, `invalid_request`
 */
export function permit(
  target: WatchTarget | ConfigTarget,
  { headers }: Pick<IncomingMessage, "headers">,
  { grants, environment: own }: Principal,
): WatchTarget | ConfigTarget {
  if (!isOfConfig(target)) return permitted(target, grants);
  const header = headers["x-ironflow-environment"];
  const environment = environmentOf(typeof header === "string" ? header : target.environment, own);
  grants.require("config", environment, target.name);
  return { ...target, environment };
}

/** A watch as it was asked for. */
interface Asked {
  bucket: string;
  keys: readonly string[];
  include: string | undefined;
  values: ValueForm;
  since: string | undefined;
}

/** Where the routes stand a second time, with every value in base64. */
export const IRONFLOW = "/compat/ironflow";

const bucketRoute = /^(\/compat\/ironflow)?\/api\/v1\/kv\/buckets\/([^/]+)\/watch$/;
const configRoute = /^(?:\/compat\/ironflow)?\/api\/v1\/config\/([^/]+)\/watch$/;
const multiplexedRoute = "/api/v1/kv/watch";

/** Whether a path is that of the watch of one bucket, or of one config document. */
export function isWatchOfOne(path: string): boolean {
  return bucketRoute.test(path) || configRoute.test(path);
}

/**
 * Reads the address of a watch.
 *
 * @param url path and query
 * @returns what is to be watched, or `multiplexed` where frames will say that
 * @throws KvError `not_found`, `invalid_request`, `invalid_filter`, `invalid_bucket_name`
 */
export function parseAddress(url: string): WatchTarget | ConfigTarget | "multiplexed" {
  const start = url.indexOf("?");
  const path = start === -1 ? url : url.slice(0, start);
  if (path === multiplexedRoute) return "multiplexed";
  const query = start === -1 ? "" : url.slice(start + 1);
  const config = configRoute.exec(path);
  if (config !== null) return parseConfigWatch(config[1]!, query);
  const match = bucketRoute.exec(path);
  if (match === null) throw new KvError("not_found", `there is nothing to watch at ${path}`);
  const values = parseValues(queryTexts(query, "values", "invalid_request")[0]);
  return parseWatch({
    bucket: decodePart(match[2]!, "invalid_bucket_name"),
    keys: queryTexts(query, "key", "invalid_filter"),
    include: queryTexts(query, "include", "invalid_request")[0],
    values: values && match[1] !== undefined ? "base64" : values,
    since: queryTexts(query, "since", "invalid_request")[0],
  });
}

/** Checks what a frame asks for. @throws KvError `invalid_request`, `invalid_filter`, `invalid_bucket_name` */
export function parseWatchFrame(frame: unknown): WatchTarget {
  const { bucket, keys = [], include, values = true, since } = parseWith(watchSchema, frame);
  return parseWatch({ bucket, keys, include, values, since });
}

/** Checks a watch. @throws KvError `invalid_request`, `invalid_filter`, `invalid_bucket_name` */
function parseWatch({ bucket, keys, include, values, since }: Asked): WatchTarget {
  assertBucketName(bucket);
  if (keys.length > limits.filtersPerWatch) {
    throw new KvError("invalid_filter", `a watch takes at most ${limits.filtersPerWatch} filters`);
  }
  const options: WatchOptions = {
    patterns: patterns(keys),
    include: parseInclude(include),
    values,
  };
  // Compared to the position of another bucket or with other filters it would be of no use, but that is for the hub to say.
  if (since !== undefined) options.since = parseSince(since);
  return { bucket, options };
}

function parseConfigWatch(name: string, query: string): ConfigTarget {
  const text = (field: string): string | undefined =>
    queryTexts(query, field, "invalid_request")[0];
  const since = text("since");
  return {
    name: parseName(decodePart(name, "invalid_request")),
    environment: text("environment"),
    since: since === undefined ? undefined : parseSince(since),
  };
}

/** Where a watch is to go on. */
export function sinceOf(target: WatchTarget | ConfigTarget): string | undefined {
  return isOfConfig(target) ? target.since : target.options.since;
}

/** The same watch, to go on at a position. */
export function withSince<T extends WatchTarget | ConfigTarget>(target: T, since: string): T {
  return isOfConfig(target)
    ? { ...target, since }
    : { ...target, options: { ...target.options, since } };
}

export function isOfConfig(target: WatchTarget | ConfigTarget): target is ConfigTarget {
  return !("bucket" in target);
}

function parseSince(since: string): string {
  if (parsePosition(since) === undefined) {
    throw new KvError(
      "invalid_request",
      `"since" is a position as kv_ready has it, not ${JSON.stringify(since.slice(0, 80))}`,
      { details: { field: "since" } },
    );
  }
  return since;
}

function parseInclude(value: string | undefined): Include {
  if (value === undefined) return "snapshot";
  const include = includes.find((known) => known === value);
  if (include === undefined) {
    throw new KvError(
      "invalid_request",
      `"include" is one of ${includes.join(", ")}, not ${JSON.stringify(value.slice(0, 80))}`,
      { details: { field: "include" } },
    );
  }
  return include;
}

function parseValues(value: string | undefined): boolean {
  switch (value) {
    case undefined:
    case "":
    case "true":
    case "1":
      return true;
    case "false":
    case "0":
      return false;
    default:
      throw new KvError(
        "invalid_request",
        `"values" is true or false, not ${JSON.stringify(value.slice(0, 80))}`,
        { details: { field: "values" } },
      );
  }
}

const every: readonly KeyPattern[] = [everyKey];
/** Filters that were read before: a thousand sockets of the same page have the same ones, and need them once. */
const known = new Map<string, readonly KeyPattern[]>();
const KNOWN = 1_000;
/** Longer ones, in characters, are not remembered, so that the memory for it is bounded. */
const KNOWN_LENGTH = 256;

function patterns(keys: readonly string[]): readonly KeyPattern[] {
  if (keys.length === 0) return every;
  const text = JSON.stringify(keys);
  const found = known.get(text);
  if (found !== undefined) return found;
  const parsed = keys.map(parsePattern);
  if (text.length <= KNOWN_LENGTH) {
    if (known.size >= KNOWN) known.clear();
    known.set(text, parsed);
  }
  return parsed;
}
