/** Keys in their order, by what they begin with. */
import type { Reach } from "../../protocol/reach.ts";
import type { Bucket } from "../../store/bucket.ts";
import type { Buckets } from "../../store/buckets.ts";
import { decodeCursor, encodeCursor } from "../../store/listing.ts";
import { ForgeError } from "./errors.ts";
import { entryJson, type Handler } from "./keys.ts";
import {
  forgeLimits,
  isForgeKey,
  parse,
  querySchema,
  type Condition,
  type MetadataField,
} from "./requests.ts";

/** Keys whose values are read at a time. */
const READ = 16;
/** Characters after which a page ends early: other clients write values that are larger than Forge's. */
const PAGE_TEXT = 16 * 1024 * 1024;

interface Query {
  prefix: string;
  limit: number;
  after: string | undefined;
  reach: Reach;
  fields: readonly MetadataField[] | undefined;
}

/** Answers queries. A cursor is the last key that was looked at, so it stays good while keys come and go. */
export function queries(buckets: Buckets): Handler {
  return async ({ bucket: name, body, grants }) => {
    const { limit = forgeLimits.queryDefault, after, where, options } = parse(querySchema, body);
    checkLimit(limit);
    const query: Query = {
      prefix: prefixOf(where),
      limit,
      after: decodeCursor(after),
      reach: grants.requireAny("read", name),
      fields: options?.metadataFields,
    };
    const page = await buckets.read(name, (bucket) => pageOf(buckets, bucket, query));
    return page ?? '{"data":[]}';
  };
}

async function pageOf(buckets: Buckets, bucket: Bucket, query: Query): Promise<string> {
  const { prefix, limit, reach, fields } = query;
  const found: string[] = [];
  let size = 0;
  let last = query.after;
  const answer = (hasMore: boolean): string => {
    const cursor = hasMore && last !== undefined ? `,"cursor":"${encodeCursor(last)}"` : "";
    return `{"data":[${found.join(",")}]${cursor}}`;
  };
  for (;;) {
    const page = await buckets.keys(bucket, {
      prefix,
      reach,
      limit: limit - found.length,
      ...(last === undefined ? {} : { after: last }),
    });
    // Nobody could name the others here, to read or delete them.
    const keys = page.keys.filter((key) => isForgeKey(key));
    while (keys.length > 0) {
      if (found.length === limit || size > PAGE_TEXT) return answer(true);
      const some = keys.splice(0, Math.min(READ, limit - found.length));
      for (const entry of await Promise.all(some.map((key) => bucket.find(key)))) {
        if (entry === undefined) continue;
        const json = entryJson(entry, fields);
        size += json.length;
        found.push(json);
      }
      last = some.at(-1);
    }
    last = page.keys.at(-1) ?? last;
    if (!page.hasMore || found.length === limit || size > PAGE_TEXT) return answer(page.hasMore);
  }
}

function checkLimit(limit: number): void {
  if (Number.isInteger(limit) && limit >= 1 && limit <= forgeLimits.queryMost) return;
  throw new ForgeError(
    "LIST_QUERY_LIMIT_EXCEEDED",
    `the limit of a query is a whole number from 1 to ${forgeLimits.queryMost}, not ${limit}`,
    { limit: forgeLimits.queryMost },
  );
}

/** What the keys have to begin with. @throws ForgeError as Forge calls what it does not take */
function prefixOf(where: readonly Condition[] = []): string {
  const [only, ...others] = where;
  if (only === undefined) return "";
  if (others.length > 0)
    throw new ForgeError("QUERY_WHERE_INVALID", "a query has one condition at most");
  const { property, condition, values } = only;
  if (property !== "key")
    throw new ForgeError("QUERY_WHERE_FIELD_INVALID", `a query is by "key", not "${property}"`);
  if (condition !== "BEGINS_WITH")
    throw new ForgeError("INVALID_FILTER_CONDITION", `a query takes BEGINS_WITH, not ${condition}`);
  const [prefix, ...more] = values;
  if (more.length > 0 || (typeof prefix !== "string" && typeof prefix !== "number"))
    throw new ForgeError("INVALID_FILTER_VALUES", "BEGINS_WITH wants one text");
  return String(prefix);
}
