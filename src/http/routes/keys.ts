import type { Context, Hono } from "hono";
import { KvError } from "../../protocol/errors.ts";
import { parsePattern } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import { mediaTypeOf, valueFromBody } from "../../protocol/values.ts";
import type { Buckets } from "../../store/buckets.ts";
import type { Entry } from "../../protocol/entry.ts";
import type { Bucket, GetOptions } from "../../store/bucket.ts";
import { pageOf, type KeyQuery } from "../../store/listing.ts";
import { entryAt, keysAt, type Moment } from "../../store/past.ts";
import { patch } from "../../store/updates.ts";
import { readBody, readJson } from "../body.ts";
import { entryJson, entryMetadataJson, headerText, metadataHeaders } from "../entry-json.ts";
import {
  consistency,
  flag,
  integer,
  isNotModified,
  momentOf,
  putOptions,
  text,
  ttlOf,
  wantsRaw,
  writeCondition,
} from "../input.ts";
import { resource } from "../resource.ts";
import { KEY, targetOf } from "../target.ts";
import { writtenResponse } from "../written.ts";

const JSON_TYPE = { "Content-Type": "application/json" };

/**
 * Keys of a bucket. A key stands in the path, or in `?key=` of the same routes without it, for keys that URL parsers
 * would change before they send them (`.` and `..` between slashes).
 *
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`
 */
export function keyRoutes(app: Hono, base: string, buckets: Buckets): void {
  const target = targetOf(base, buckets);

  const entry = {
    GET: async (c: Context): Promise<Response> => {
      const key = target.key(c);
      const revision = integer(c, "revision", 1, Number.MAX_SAFE_INTEGER);
      const options = consistency(c);
      const bucket = await target.bucket(c);
      const found = await read(bucket, key, revision, momentOf(c, "as_of"), options);
      const etag = `"${found.revision}"`;
      if (isNotModified(c, found.revision)) return c.body(null, 304, { ETag: etag });
      if (wantsRaw(c)) {
        // Whoever may write could store a page with a script: it must not run with this origin's rights.
        return c.body(found.value as Uint8Array<ArrayBuffer>, 200, {
          "Content-Type": headerText(mediaTypeOf(found.valueType, found.contentType, found.value)),
          "Content-Security-Policy": "sandbox",
          "X-Content-Type-Options": "nosniff",
          ...metadataHeaders(found),
          ETag: etag,
        });
      }
      const metadata = c.req.method === "HEAD" ? metadataHeaders(found) : undefined;
      return c.body(entryJson(found), 200, { ...JSON_TYPE, ...metadata, ETag: etag });
    },

    PUT: async (c: Context): Promise<Response> => {
      const key = target.key(c);
      const options = putOptions(c);
      const bytes = await readBody(c, buckets.maxValueSize);
      const value = valueFromBody(bytes, c.req.header("Content-Type"));
      const bucket = await target.bucket(c);
      const written = await bucket.put(key, value, options);
      let more = "";
      if (options.returns === "previous") {
        more = `,"previous":${written.previous === undefined ? "null" : entryJson(written.previous)}`;
      } else if (written.latest !== undefined) {
        more = `,"latest":${entryJson(written.latest)}`;
      }
      return writtenResponse(c, bucket, written, more);
    },

    PATCH: async (c: Context): Promise<Response> => {
      const key = target.key(c);
      const condition = writeCondition(c);
      const ttl = ttlOf(c);
      const change = await readJson(c, buckets.maxValueSize);
      const bucket = await target.bucket(c);
      const { value, ...written } = await patch(bucket, key, change, {
        ...(condition === undefined ? {} : { condition }),
        ...(ttl === undefined ? {} : { ttl }),
      });
      return writtenResponse(c, bucket, written, `,"value":${JSON.stringify(value)}`);
    },

    DELETE: async (c: Context): Promise<Response> => {
      const key = target.key(c);
      const condition = writeCondition(c);
      const purge = flag(c, "purge");
      const bucket = await target.bucket(c);
      await bucket.delete(key, { purge, ...(condition === undefined ? {} : { condition }) });
      return c.body(null, 204, { Durability: bucket.durability });
    },
  };
  resource(app, `${base}/:bucket/keys/${KEY}`, entry);
  resource(app, `${base}/:bucket/entry`, entry);

  resource(app, `${base}/:bucket/keys`, {
    GET: async (c) => {
      const filter = text(c, "filter", "invalid_filter");
      const prefix = text(c, "prefix", "invalid_request");
      const after = decodeCursor(text(c, "cursor", "invalid_request"));
      const withValues = flag(c, "values");
      const withEntries = withValues || flag(c, "metadata");
      const limit =
        integer(c, "limit", 1, limits.page) ?? (withEntries ? limits.entriesPage : undefined);
      const query: KeyQuery = {
        ...(filter === undefined ? {} : { pattern: parsePattern(filter) }),
        ...(prefix === undefined ? {} : { prefix }),
        ...(after === undefined ? {} : { after }),
        ...(limit === undefined ? {} : { limit }),
      };
      const bucket = await target.bucket(c);
      const moment = momentOf(c, "as_of");
      if (moment !== undefined)
        return c.body(await listAt(bucket, moment, query, withValues, withEntries), 200, JSON_TYPE);
      const { keys, hasMore } = await buckets.keys(bucket, query);
      const next = hasMore ? `,"next_cursor":"${encodeCursor(keys.at(-1)!)}"` : "";
      if (!withEntries)
        return c.body(
          `{"keys":${JSON.stringify(keys)},"count":${keys.length}${next}}`,
          200,
          JSON_TYPE,
        );
      // A key that went since it was listed is left out.
      const entries = (await Promise.all(keys.map((key) => bucket.find(key)))).filter(
        (entry) => entry !== undefined,
      );
      const bodies = entries.map(withValues ? entryJson : entryMetadataJson);
      const names = JSON.stringify(entries.map(({ key }) => key));
      return c.body(
        `{"keys":${names},"count":${entries.length},"entries":[${bodies.join(",")}]${next}}`,
        200,
        JSON_TYPE,
      );
    },
  });

  const history = {
    GET: async (c: Context): Promise<Response> => {
      const key = target.key(c);
      const entries = await (await target.bucket(c)).history(key);
      return c.body(
        `{"entries":[${entries.map(entryJson).join(",")}],"count":${entries.length}}`,
        200,
        JSON_TYPE,
      );
    },
  };
  resource(app, `${base}/:bucket/history/${KEY}`, history);
  resource(app, `${base}/:bucket/history`, history);
}

/** One entry, now or as it was. */
async function read(
  bucket: Bucket,
  key: string,
  revision: number | undefined,
  moment: Moment | undefined,
  options: GetOptions,
): Promise<Entry> {
  if (revision !== undefined) return bucket.getRevision(key, revision);
  if (moment === undefined) return bucket.get(key, options);
  const entry = await entryAt(bucket, key, moment);
  if (entry === undefined) throw new KvError("key_not_found", `key "${key}" did not exist then`);
  return entry;
}

/** A page of the keys as they were, as JSON text. */
async function listAt(
  bucket: Bucket,
  moment: Moment,
  query: KeyQuery,
  withValues: boolean,
  withEntries: boolean,
): Promise<string> {
  const { revisions, isComplete } = await keysAt(bucket, moment, query.pattern);
  const { keys, hasMore } = pageOf(revisions.keys(), query);
  const end = `${hasMore ? `,"next_cursor":"${encodeCursor(keys.at(-1)!)}"` : ""},"complete":${isComplete}}`;
  if (!withEntries) return `{"keys":${JSON.stringify(keys)},"count":${keys.length}${end}`;
  const entries = await Promise.all(
    keys.map((key) => bucket.getRevision(key, revisions.get(key)!)),
  );
  const bodies = entries.map(withValues ? entryJson : entryMetadataJson);
  return `{"keys":${JSON.stringify(keys)},"count":${keys.length},"entries":[${bodies.join(",")}]${end}`;
}

/** A cursor is the last key of a page, so that it stays good while keys come and go. It is opaque to clients. */
function encodeCursor(key: string): string {
  return Buffer.from(key).toString("base64url");
}

function decodeCursor(cursor: string | undefined): string | undefined {
  if (cursor === undefined) return undefined;
  const key = Buffer.from(cursor, "base64url").toString();
  if (key === "" || encodeCursor(key) !== cursor) {
    throw new KvError("invalid_request", `"cursor" is not one that this API gave`, {
      details: { field: "cursor" },
    });
  }
  return key;
}
