/** Lists what is in namespaces, without the values. */
import type { Grants } from "../../auth/grants.ts";
import type { LiveEntry } from "../../protocol/entry.ts";
import { KvError } from "../../protocol/errors.ts";
import { bucketOfNamespace, namespaceOfBucket, type Namespace } from "../../protocol/kestra.ts";
import { everyKey } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import { narrowed, type Reach } from "../../protocol/reach.ts";
import type { Buckets } from "../../store/buckets.ts";

/** A key as Kestra lists it. */
export interface KvEntry {
  key: string;
  namespace: string;
  description?: string;
  version: number;
  revision: number;
  creationDate: string;
  updateDate: string;
  expirationDate?: string;
}

/** A page of all keys of a tenant. */
export interface Page {
  results: KvEntry[];
  total: number;
}

/** Keys that are listed at most: Kestra's lists have no pages, or have to be sorted as a whole. */
const MOST = 100_000;

/** The keys of a namespace that are within reach, sorted. */
export async function entriesOf(
  buckets: Buckets,
  namespace: Namespace,
  reach: Reach,
): Promise<KvEntry[]> {
  if (reach.length === 0) return [];
  const patterns = narrowed([everyKey], reach);
  const entries = await buckets.read(bucketOfNamespace(namespace), (bucket) =>
    bucket.entries(patterns, { headersOnly: true, atMost: MOST }),
  );
  return (entries ?? []).map((entry) => entryOf(namespace.name, entry));
}

/** The keys that the namespaces above one have; of those with the same name the one of the nearest. */
export async function inheritedEntries(
  buckets: Buckets,
  grants: Grants,
  { tenant, name }: Namespace,
): Promise<KvEntry[]> {
  const found = new Map<string, KvEntry>();
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) {
    const parent = { tenant, name: name.slice(0, dot) };
    const reach = grants.reach("read", bucketOfNamespace(parent));
    for (const entry of await entriesOf(buckets, parent, reach)) {
      if (!found.has(entry.key)) found.set(entry.key, entry);
    }
  }
  return [...found.values()];
}

/**
 * A page of the keys of all namespaces of a tenant.
 *
 * @param query `page` (from 1), `size` (default 10), `sort` (`key:asc`; repeated for more) and `filters[field][OPERATION]`
 * @throws KvError `invalid_request`
 */
export async function pageOf(
  buckets: Buckets,
  grants: Grants,
  tenant: string,
  query: Record<string, string[]>,
): Promise<Page> {
  const page = integer(query, "page", 1, Number.MAX_SAFE_INTEGER);
  const size = integer(query, "size", 10, limits.page);
  const filters = Object.entries(query).flatMap(([name, values]) => filtersOf(name, values));
  const order = (query.sort ?? []).map(comparisonOf);
  const all: KvEntry[] = [];
  for (const bucket of await buckets.names()) {
    const namespace = namespaceOfBucket(bucket);
    if (namespace?.tenant !== tenant) continue;
    const { name } = namespace;
    if (!filters.every(({ field, test }) => field !== "namespace" || test(name))) continue;
    const entries = await entriesOf(buckets, namespace, grants.reach("read", bucket));
    for (const entry of entries) {
      if (filters.every(({ field, test }) => test(entry[field]))) all.push(entry);
    }
    if (all.length > MOST) {
      throw new KvError("invalid_request", `more than ${MOST} keys: filter by a namespace`);
    }
  }
  all.sort((a, b) => {
    for (const compare of order) {
      const sign = compare(a, b);
      if (sign !== 0) return sign;
    }
    return 0;
  });
  return { results: all.slice((page - 1) * size, page * size), total: all.length };
}

function entryOf(namespace: string, entry: LiveEntry): KvEntry {
  const { key, description, revision, createdAt, firstCreatedAt, expiresAt } = entry;
  return {
    key,
    namespace,
    ...(description === undefined ? {} : { description }),
    version: revision,
    revision,
    creationDate: firstCreatedAt ?? createdAt,
    updateDate: createdAt,
    ...(expiresAt === undefined ? {} : { expirationDate: expiresAt }),
  };
}

function integer(
  query: Record<string, string[]>,
  name: string,
  byDefault: number,
  max: number,
): number {
  const [text] = query[name] ?? [];
  if (text === undefined) return byDefault;
  const number = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (number >= 1 && number <= max) return number;
  throw new KvError(
    "invalid_request",
    `"${name}" is a whole number from 1 to ${max}, not ${JSON.stringify(text)}`,
  );
}

const fields: readonly string[] = [
  "key",
  "namespace",
  "description",
  "version",
  "revision",
  "creationDate",
  "updateDate",
  "expirationDate",
] satisfies (keyof KvEntry)[];

/** A comparison by a field, such as `key:desc`. Entries without it come last. */
function comparisonOf(sort: string): (a: KvEntry, b: KvEntry) => number {
  const [field = "", direction = "asc"] = sort.split(":");
  if (!fields.includes(field) || !/^(?:asc|desc)$/i.test(direction)) {
    throw new KvError(
      "invalid_request",
      `"sort" is a field and a direction, such as key:asc, not ${JSON.stringify(sort)}`,
    );
  }
  const sign = direction.toLowerCase() === "desc" ? -1 : 1;
  return (a, b) => {
    const [left, right] = [a, b].map((entry) => entry[field as keyof KvEntry]);
    if (left === right) return 0;
    if (left === undefined || right === undefined) return left === undefined ? 1 : -1;
    return left < right ? -sign : sign;
  };
}

interface Filter {
  field: "namespace" | "key";
  test: (value: string) => boolean;
}

const operations: Record<string, (value: string, wanted: string) => boolean> = {
  EQUALS: (value, wanted) => value === wanted,
  NOT_EQUALS: (value, wanted) => value !== wanted,
  IN: (value, wanted) => wanted.split(",").includes(value),
  NOT_IN: (value, wanted) => !wanted.split(",").includes(value),
  STARTS_WITH: (value, wanted) => value.startsWith(wanted),
  ENDS_WITH: (value, wanted) => value.endsWith(wanted),
  CONTAINS: (value, wanted) => value.toLowerCase().includes(wanted.toLowerCase()),
  /** A namespace with all below it. */
  PREFIX: (value, wanted) => value === wanted || value.startsWith(`${wanted}.`),
};

/** The filters that a parameter of the query is; what it is called decides, `q` is looked for in keys. */
function filtersOf(name: string, values: readonly string[]): Filter[] {
  if (!name.startsWith("filters")) return [];
  const [, field, operation = ""] = /^filters\[(\w+)\]\[(\w+)\]$/.exec(name) ?? [];
  const test = Object.hasOwn(operations, operation) ? operations[operation] : undefined;
  if (field === "q" && (operation === "EQUALS" || operation === "CONTAINS"))
    return values.map((wanted) => ({
      field: "key",
      test: (value) => operations.CONTAINS!(value, wanted),
    }));
  if ((field !== "namespace" && field !== "key") || test === undefined) {
    throw new KvError(
      "invalid_request",
      `${JSON.stringify(name)} is no filter that is known: filter by namespace, key or q`,
    );
  }
  return values.map((wanted) => ({ field, test: (value) => test(value, wanted) }));
}
