import type { Context, Hono } from "hono";
import { parsePattern } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import type { Buckets } from "../../store/buckets.ts";
import type { Entry } from "../../protocol/entry.ts";
import type { Bucket } from "../../store/bucket.ts";
import {
  decodeCursor,
  encodeCursor,
  pageOf,
  type KeyPage,
  type KeyQuery,
} from "../../store/listing.ts";
import { keysAt, type Moment } from "../../store/past.ts";
import { patch } from "../../store/updates.ts";
import { answer, answerJsonText, principalOf, responseOf } from "../answer.ts";
import { readJson } from "../body.ts";
import { discreet } from "../discreet.ts";
import { entryJson as nativeJson, entryMetadataJson, type EntryJson } from "../entry-json.ts";
import { flag, integer, momentOf, text, ttlOf, writeCondition } from "../input.ts";
import { inPath, keyResource, resource } from "../resource.ts";
import { targetOf } from "../target.ts";
import { writtenResponse } from "../written.ts";
import { entryAnswers, type EntryAnswers } from "./entry.ts";

/**
 * Keys of a bucket. A key stands in the path, or in `?key=` of the same routes without it, for keys that URL parsers
 * would change before they send them (`.` and `..` between slashes).
 *
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`
 * @param entryJson how entries are written; default: as they are
 * @returns what answers reads and writes of one key here
 */
export function keyRoutes(
  app: Hono,
  base: string,
  buckets: Buckets,
  entryJson: EntryJson = nativeJson,
): EntryAnswers {
  const target = targetOf(base, buckets);
  const answers = entryAnswers(base, buckets, entryJson);

  const entry = {
    GET: async (c: Context): Promise<Response> => responseOf(c, await answers.get(c)),

    PUT: async (c: Context): Promise<Response> => responseOf(c, await answers.put(c)),

    PATCH: async (c: Context): Promise<Response> => {
      // The answer has the value.
      const { key, open } = target.key(c, "write", "read");
      const condition = writeCondition(c);
      const ttl = ttlOf(c);
      const change = await readJson(c, buckets.maxValueSize);
      const bucket = await open();
      const { value, ...written } = await patch(bucket, key, change, {
        ...(condition === undefined ? {} : { condition }),
        ...(ttl === undefined ? {} : { ttl }),
      });
      return writtenResponse(c, bucket, written, `,"value":${JSON.stringify(value)}`);
    },

    DELETE: async (c: Context): Promise<Response> => {
      const { key, bucketName, open } = target.key(c, "delete");
      const condition = writeCondition(c);
      const purge = flag(c, "purge");
      const bucket = await open();
      await bucket
        .delete(key, { purge, ...(condition === undefined ? {} : { condition }) })
        .catch((error: unknown) => {
          throw discreet(error, principalOf(c).grants, bucketName, key);
        });
      return answer(c, null, 204, { Durability: bucket.durability });
    },
  };
  inPath(app, `${base}/:bucket/keys`, entry);
  resource(app, `${base}/:bucket/entry`, entry);

  resource(app, `${base}/:bucket/keys`, {
    GET: async (c) => {
      const { bucketName, reach, open } = target.keys(c, "read");
      const filter = text(c, "filter", "invalid_filter");
      const pattern = filter === undefined ? undefined : parsePattern(filter);
      // Of a prefix nobody could say for sure what it is about; a filter for what is out of reach is a mistake to be told.
      if (pattern !== undefined) principalOf(c).grants.narrow(["read"], bucketName, [pattern]);
      const prefix = text(c, "prefix", "invalid_request");
      const after = decodeCursor(text(c, "cursor", "invalid_request"));
      const withValues = flag(c, "values");
      const withEntries = withValues || flag(c, "metadata");
      const limit =
        integer(c, "limit", 1, limits.page) ?? (withEntries ? limits.entriesPage : undefined);
      const query: KeyQuery = {
        reach,
        ...(pattern === undefined ? {} : { pattern }),
        ...(prefix === undefined ? {} : { prefix }),
        ...(after === undefined ? {} : { after }),
        ...(limit === undefined ? {} : { limit }),
      };
      const bucket = await open();
      const moment = momentOf(c, "as_of");
      const render = withValues ? entryJson : entryMetadataJson;
      if (moment !== undefined) {
        const listed = await listAt(bucket, moment, query, withEntries ? render : undefined);
        return answerJsonText(c, listed);
      }
      const page = await buckets.keys(bucket, query);
      const { text: json } = withEntries
        ? await withBodies(page, (key) => bucket.find(key), render)
        : { text: keysJson(page) };
      return answerJsonText(c, `${json}}`);
    },
  });

  const history = {
    GET: async (c: Context): Promise<Response> => {
      const { key, open } = target.key(c, "read");
      const entries = await (await open()).history(key);
      return answerJsonText(
        c,
        `{"entries":[${entries.map(entryJson).join(",")}],"count":${entries.length}}`,
      );
    },
  };
  keyResource(app, `${base}/:bucket/history`, history);
  return answers;
}

/** The members of a page of keys, as JSON text that is still open. */
function keysJson({ keys, hasMore }: KeyPage): string {
  const next = hasMore ? `,"next_cursor":"${encodeCursor(keys.at(-1)!)}"` : "";
  return `{"keys":${JSON.stringify(keys)},"count":${keys.length}${next}`;
}

/** Entries read at a time: the first ones tell how large they are. */
const FIRST_READ = 32;
const MOST_READ = 1024;
/** Characters after which a page ends early, so that large values do not fill the memory. */
const PAGE_TEXT = 16 * 1024 * 1024;

/**
 * The members of a page of keys with their entries, as JSON text that is still open. A key that went since it was listed is left
 * out.
 */
async function withBodies(
  { keys, hasMore }: KeyPage,
  find: (key: string) => Promise<Entry | undefined>,
  render: EntryJson,
): Promise<{ text: string; areAllThere: boolean }> {
  const names: string[] = [];
  const bodies: string[] = [];
  let length = 0;
  let size = 0;
  let read = 0;
  for (let step = FIRST_READ; read < keys.length && length < PAGE_TEXT;) {
    const some = keys.slice(read, read + step);
    read += some.length;
    for (const entry of await Promise.all(some.map(find))) {
      if (entry === undefined) continue;
      const body = render(entry);
      length += body.length;
      size += entry.size;
      names.push(entry.key);
      bodies.push(body);
    }
    step = Math.max(1, Math.min(MOST_READ, Math.floor((PAGE_TEXT * read) / Math.max(size, 1))));
  }
  const isCut = read < keys.length;
  const next = isCut || hasMore ? `,"next_cursor":"${encodeCursor(keys[read - 1]!)}"` : "";
  const text = `{"keys":${JSON.stringify(names)},"count":${names.length},"entries":[${bodies.join(",")}]${next}`;
  return { text, areAllThere: names.length === read };
}

/**
 * A page of the keys as they were, as JSON text.
 *
 * @param render how to write each entry, where they are wanted
 */
async function listAt(
  bucket: Bucket,
  moment: Moment,
  query: KeyQuery,
  render: EntryJson | undefined,
): Promise<string> {
  const { revisions, isComplete } = await keysAt(bucket, moment, query.pattern);
  const page = pageOf([...revisions.keys()], query);
  if (render === undefined) return `${keysJson(page)},"complete":${isComplete}}`;
  const { text: json, areAllThere } = await withBodies(
    page,
    (key) => bucket.findRevision(key, revisions.get(key)!),
    render,
  );
  return `${json},"complete":${isComplete && areAllThere}}`;
}
