import type { Context, Hono } from "hono";
import { assertBucketName } from "../../protocol/bucket-names.ts";
import { KvError } from "../../protocol/errors.ts";
import { assertKey, parsePattern } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import type { KeyList } from "../../protocol/messages.ts";
import { mediaTypeOf, valueFromBody } from "../../protocol/values.ts";
import type { Bucket } from "../../store/bucket.ts";
import type { Buckets } from "../../store/buckets.ts";
import { readBody } from "../body.ts";
import { entryJson } from "../entry-json.ts";
import {
  decodePart,
  flag,
  integer,
  isNotModified,
  rawSegments,
  text,
  wantsRaw,
  writeCondition,
} from "../input.ts";
import { resource } from "../resource.ts";

/** The rest of a path: slashes and line breaks, which a dot would not match, can be part of a key. */
const KEY = ":key{[\\s\\S]*}";
const JSON_TYPE = { "Content-Type": "application/json" };

/**
 * Keys of a bucket. A key stands in the path, or in `?key=` of the same routes without it, for keys that URL parsers
 * would change before they send them (`.` and `..` between slashes).
 *
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`
 */
export function keyRoutes(app: Hono, base: string, buckets: Buckets): void {
  // Segments of the raw path: base, bucket, "keys" or "history", and the key, which may itself hold slashes.
  const depth = base.split("/").length - 1;

  const openBucket = (c: Context): Promise<Bucket> => {
    const name = decodePart(rawSegments(c)[depth] ?? "", "invalid_bucket_name");
    assertBucketName(name);
    return buckets.open(name);
  };
  const keyOf = (c: Context): string => {
    const segments = rawSegments(c);
    const key =
      segments.length > depth + 2
        ? decodePart(segments.slice(depth + 2).join("/"), "invalid_key")
        : (text(c, "key", "invalid_key") ?? "");
    assertKey(key);
    return key;
  };

  const entry = {
    GET: async (c: Context): Promise<Response> => {
      const key = keyOf(c);
      const revision = integer(c, "revision", 1, Number.MAX_SAFE_INTEGER);
      const bucket = await openBucket(c);
      const found =
        revision === undefined ? await bucket.get(key) : await bucket.getRevision(key, revision);
      const etag = `"${found.revision}"`;
      if (isNotModified(c, found.revision)) return c.body(null, 304, { ETag: etag });
      if (wantsRaw(c)) {
        // Whoever may write could store a page with a script: it must not run with this origin's rights.
        return c.body(found.value as Uint8Array<ArrayBuffer>, 200, {
          "Content-Type": mediaTypeOf(found.valueType, found.contentType, found.value),
          "Content-Security-Policy": "sandbox",
          "X-Content-Type-Options": "nosniff",
          "Last-Modified": new Date(found.createdAt).toUTCString(),
          ETag: etag,
        });
      }
      return c.body(entryJson(found), 200, { ...JSON_TYPE, ETag: etag });
    },

    PUT: async (c: Context): Promise<Response> => {
      const key = keyOf(c);
      const condition = writeCondition(c);
      const bytes = await readBody(c, buckets.maxPayload - limits.valueHeaders);
      const value = valueFromBody(bytes, c.req.header("Content-Type"));
      const { revision, createdAt } = await (await openBucket(c)).put(key, value, condition);
      return c.body(`{"revision":${revision},"created_at":"${createdAt}"}`, 200, {
        ...JSON_TYPE,
        ETag: `"${revision}"`,
      });
    },

    DELETE: async (c: Context): Promise<Response> => {
      const key = keyOf(c);
      const condition = writeCondition(c);
      const purge = flag(c, "purge");
      await (
        await openBucket(c)
      ).delete(key, { purge, ...(condition === undefined ? {} : { condition }) });
      return c.body(null, 204);
    },
  };
  resource(app, `${base}/:bucket/keys/${KEY}`, entry);
  resource(app, `${base}/:bucket/entry`, entry);

  resource(app, `${base}/:bucket/keys`, {
    GET: async (c) => {
      const filter = text(c, "filter", "invalid_filter");
      const prefix = text(c, "prefix", "invalid_request");
      const cursor = decodeCursor(text(c, "cursor", "invalid_request"));
      const limit = integer(c, "limit", 1, limits.page);
      const pattern = filter === undefined ? undefined : parsePattern(filter);
      let keys = await (await openBucket(c)).keys(pattern);
      if (prefix !== undefined) keys = keys.filter((key) => key.startsWith(prefix));
      if (cursor !== undefined) keys = keys.filter((key) => key > cursor);
      const page = limit === undefined ? keys : keys.slice(0, limit);
      const list: KeyList = { keys: page, count: page.length };
      if (page.length < keys.length) list.next_cursor = encodeCursor(page.at(-1)!);
      return c.body(JSON.stringify(list), 200, JSON_TYPE);
    },
  });

  const history = {
    GET: async (c: Context): Promise<Response> => {
      const key = keyOf(c);
      const entries = await (await openBucket(c)).history(key);
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
