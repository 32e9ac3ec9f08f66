/** Kestra's names and types, as its routes and its module of the SDK know them, and where its namespaces are stored. */
import { assertBucketName } from "./bucket-names.ts";
import { KvError } from "./errors.ts";
import { limits } from "./limits.ts";

/** What a value is. It is stored as the entry's label. */
export const kvTypes = [
  "STRING",
  "NUMBER",
  "BOOLEAN",
  "DATETIME",
  "DATE",
  "DURATION",
  "JSON",
] as const;
export type KvType = (typeof kvTypes)[number];

/** A namespace of a tenant. */
export interface Namespace {
  tenant: string;
  /** For instance `company.team`. */
  name: string;
}

/** The tenant of an installation that has but one. */
export const MAIN_TENANT = "main";

const tenantGrammar = /^[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?$/;
const nameGrammar = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const keyGrammar = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/**
 * The bucket in which a namespace is stored. Names without a dot are their own; a dot is written `--`, and a dash that stands
 * before another dash, a dot or an underscore `-_`. Of other tenants than `main` the tenant comes first, with `-_` behind it,
 * which nothing else has before a letter or a digit.
 *
 * @example
 * bucketOfNamespace({ tenant: "main", name: "company.team" }); // "company--team"
 * @throws KvError `invalid_request` when it is no namespace, or has no room in a bucket's name; `invalid_bucket_name`
 */
export function bucketOfNamespace({ tenant, name }: Namespace): string {
  if (!tenantGrammar.test(tenant)) {
    throw new KvError(
      "invalid_request",
      `tenant ${JSON.stringify(tenant.slice(0, 80))} is not allowed: use letters, digits, and "-" and "_" between them`,
    );
  }
  if (!nameGrammar.test(name)) {
    throw new KvError(
      "invalid_request",
      `namespace ${JSON.stringify(name.slice(0, 80))} is not allowed: use letters, digits, ".", "_" and "-", a letter or digit first`,
    );
  }
  const prefix = tenant === MAIN_TENANT ? "" : `${encode(tenant)}-_`;
  const bucket = prefix + encode(name);
  if (bucket.length > limits.bucketName) {
    throw new KvError(
      "invalid_request",
      `namespace ${JSON.stringify(name.slice(0, 80))} is too long: as a bucket's name it has ${bucket.length} characters, at most ${limits.bucketName} are possible`,
    );
  }
  assertBucketName(bucket);
  return bucket;
}

/** The namespace that a bucket is; the inverse of {@link bucketOfNamespace}. Undefined for the few names that are none. */
export function namespaceOfBucket(bucket: string): Namespace | undefined {
  const parts = bucket
    .replace(/--|-_/g, (pair, at: number) => {
      if (pair === "--") return ".";
      return /[A-Za-z0-9]/.test(bucket.charAt(at + 2)) ? "/" : "-";
    })
    .split("/");
  const name = parts.pop()!;
  const namespace = { tenant: parts.join("/") || MAIN_TENANT, name };
  try {
    return bucketOfNamespace(namespace) === bucket ? namespace : undefined;
  } catch {
    return undefined;
  }
}

function encode(name: string): string {
  return name.replace(/\.|-(?=[-._])/g, (found) => (found === "." ? "--" : "-_"));
}

/** Checks a key of Kestra's, which are fewer than those of buckets. @throws KvError `invalid_key` with Kestra's sentence */
export function assertKvKey(key: string): void {
  if (key.length <= limits.key && keyGrammar.test(key)) return;
  throw new KvError(
    "invalid_key",
    key.length > limits.key
      ? `Key must have at most ${limits.key} characters.`
      : "Key must start with an alphanumeric character (uppercase or lowercase) and can contain alphanumeric characters (uppercase or lowercase), dots (.), underscores (_), and hyphens (-) only.",
  );
}

/** The sentence for a key without a value. */
export function noValue(key: string, namespace: string): string {
  return `No value found for key '${key}' in namespace '${namespace}'`;
}

const date = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$/;
const time =
  /^(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;
const duration =
  /^P(?=\d|T\d)(?:\d+Y)?(?:\d+M)?(?:\d+W)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d{1,9})?S)?)?$/;

/** Which of the types that are written as text some text is, if it is one: a day, a moment, or a length of time. */
export function temporalType(text: string): "DATE" | "DATETIME" | "DURATION" | undefined {
  if (duration.test(text)) return "DURATION";
  const day = text.slice(0, 10);
  if (!date.test(day) || !isDay(day)) return undefined;
  if (text.length === 10) return "DATE";
  return text[10] === "T" && time.test(text.slice(11)) ? "DATETIME" : undefined;
}

/** Whether a month has that day. */
function isDay(day: string): boolean {
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day);
}
