import type { Entry } from "../../protocol/entry.ts";
import { KvError } from "../../protocol/errors.ts";
import { mediaTypeOf, valueFromBody } from "../../protocol/values.ts";
import type { Bucket, GetOptions } from "../../store/bucket.ts";
import type { Buckets } from "../../store/buckets.ts";
import { entryAt, type Moment } from "../../store/past.ts";
import type { Answer, Asked } from "../answer.ts";
import { readBody } from "../body.ts";
import { headerText, metadataHeaders, type EntryJson } from "../entry-json.ts";
import {
  consistency,
  hasQuery,
  header,
  integer,
  isNotModified,
  momentOf,
  putOptions,
  wantsRaw,
} from "../input.ts";
import { targetOf } from "../target.ts";
import { writtenAnswer } from "../written.ts";

/** Reads and writes of one key: what nearly all requests are, so they can also be answered without the framework. */
export interface EntryAnswers {
  get: (c: Asked) => Promise<Answer>;
  put: (c: Asked) => Promise<Answer>;
}

/**
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`
 * @param entryJson how entries are written
 */
export function entryAnswers(base: string, buckets: Buckets, entryJson: EntryJson): EntryAnswers {
  const target = targetOf(base, buckets);
  return {
    async get(c) {
      const { key, open } = target.key(c, "read");
      const options = readOptions(c);
      const found = await read(await open(), key, options);
      const etag = `"${found.revision}"`;
      if (isNotModified(c, found.revision))
        return { body: null, status: 304, headers: { ETag: etag } };
      if (wantsRaw(c)) return rawAnswer(found, etag);
      const type = "application/json";
      const headers =
        c.req.method === "HEAD"
          ? { "Content-Type": type, ...metadataHeaders(found), ETag: etag }
          : { "Content-Type": type, ETag: etag };
      return { body: entryJson(found), status: 200, headers };
    },

    async put(c) {
      const options = putOptions(c);
      const { key, open } =
        options.returns === undefined ? target.key(c, "write") : target.key(c, "write", "read");
      const bytes = await readBody(c, buckets.maxValueSize);
      const value = valueFromBody(bytes, header(c, "content-type"));
      const bucket = await open();
      const written = await bucket.put(key, value, options);
      let more = "";
      if (options.returns === "previous") {
        more = `,"previous":${written.previous === undefined ? "null" : entryJson(written.previous)}`;
      } else if (written.latest !== undefined) {
        more = `,"latest":${entryJson(written.latest)}`;
      }
      return writtenAnswer(bucket, written, more);
    },
  };
}

function rawAnswer(found: Entry, etag: string): Answer {
  return {
    body: found.value,
    status: 200,
    headers: {
      "Content-Type": headerText(mediaTypeOf(found.valueType, found.contentType, found.value)),
      // Whoever may write could store a page with a script: it must not run with this origin's rights.
      "Content-Security-Policy": "sandbox",
      "X-Content-Type-Options": "nosniff",
      ...metadataHeaders(found),
      ETag: etag,
    },
  };
}

interface ReadOptions extends GetOptions {
  revision?: number | undefined;
  moment?: Moment | undefined;
}

/** All that a GET of a key can ask for. */
function readOptions(c: Asked): ReadOptions {
  if (!hasQuery(c)) return consistency(c);
  return {
    ...consistency(c),
    revision: integer(c, "revision", 1, Number.MAX_SAFE_INTEGER),
    moment: momentOf(c, "as_of"),
  };
}

/** One entry, now or as it was. */
function read(bucket: Bucket, key: string, options: ReadOptions): Promise<Entry> {
  const { revision, moment } = options;
  if (revision !== undefined) return bucket.getRevision(key, revision);
  return moment === undefined ? bucket.get(key, options) : readAt(bucket, key, moment);
}

async function readAt(bucket: Bucket, key: string, moment: Moment): Promise<Entry> {
  const entry = await entryAt(bucket, key, moment);
  if (entry === undefined) throw new KvError("key_not_found", `key "${key}" did not exist then`);
  return entry;
}
