import type { EntryBody } from "../../protocol/messages.ts";
import type { BucketAccess } from "./access.ts";
import { detailsOf, type Entry, type EntryDetails } from "./entry.ts";
import type { CallOptions } from "./options.ts";
import { given, pointText, type Point } from "./points.ts";

/** Options of {@link Bucket.list}. `signal` and `timeoutMs` are for each page. */
export interface ListOptions extends CallOptions {
  /** Only keys that begin with this. */
  prefix?: string | undefined;
  /** Only keys that match: `*` stands for one token between dots or a part of one, `>` at the end for all the rest. */
  filter?: string | undefined;
  /** Entries that are asked for at a time, 1 to 10,000. Default 100, without values 1000. */
  limit?: number | undefined;
  /** Whether entries come with their values. Default true; false gives {@link EntryInfo}, at a fraction of the cost. */
  values?: boolean | undefined;
  /**
   * The bucket as it was at a revision or a time, as far as its history reaches: {@link Listing.complete} says whether it
   * reached.
   */
  asOf?: Point | undefined;
}

/** What is known of a key beside its value. */
export interface EntryInfo extends EntryDetails {
  key: string;
  /** Bytes of the value. */
  size: number;
  revision: number;
  /** When it was stored, ISO 8601. */
  createdAt: string;
  operation: "put";
}

interface Page {
  entries?: (EntryBody & { size?: number })[];
  next_cursor?: string;
  complete?: boolean;
}

/**
 * The entries of a bucket, sorted by key. Nothing is asked of the server before the first one is; pages come as they are
 * needed, and leaving the loop asks for no more of them. Keys that come and go meanwhile disturb nothing: every key that was
 * there all the time is told once.
 *
 * @example
 * for await (const { key, value } of bucket.list({ prefix: "user." })) console.log(key, value);
 * const all = await bucket.list({ prefix: "user." }).toArray();
 */
export class Listing<E> implements AsyncIterable<E> {
  /**
   * With `asOf`, whether the history reached far enough for all that was listed so far: false when keys may be missing,
   * because revisions that were current then are not kept any more. Undefined before the first page.
   */
  complete: boolean | undefined;
  readonly #page: (cursor: string | undefined) => Promise<Page>;
  readonly #read: (body: EntryBody & { size?: number }) => E | Promise<E>;

  /** @internal */
  constructor(
    page: (cursor: string | undefined) => Promise<Page>,
    read: (body: EntryBody & { size?: number }) => E | Promise<E>,
  ) {
    this.#page = page;
    this.#read = read;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<E, void, undefined> {
    this.complete = undefined;
    let cursor: string | undefined;
    do {
      const { entries = [], next_cursor, complete } = await this.#page(cursor);
      if (complete !== undefined) this.complete = complete && this.complete !== false;
      for (const entry of entries) yield this.#read(entry);
      cursor = next_cursor;
    } while (cursor !== undefined);
  }

  /** All entries at once; they have to fit into memory. */
  async toArray(): Promise<E[]> {
    const all: E[] = [];
    for await (const entry of this) all.push(entry);
    return all;
  }
}

export function list<Out>(
  access: BucketAccess<Out, never>,
  options: ListOptions,
): Listing<Entry<Out> | EntryInfo> {
  const { prefix, filter, values = true, limit = values ? 100 : 1000, asOf } = options;
  const query = {
    prefix,
    filter,
    limit,
    [values ? "values" : "metadata"]: "true",
    as_of: given(asOf, pointText),
  };
  return new Listing<Entry<Out> | EntryInfo>(
    async (cursor) =>
      (await access.get(access.path("keys", { ...query, cursor }), options)) as Page,
    (body) => (values ? access.entry(body) : infoOf(body)),
  );
}

/** What a listing or a watch without values tells of a key. */
export function infoOf(body: EntryBody & { size?: number }): EntryInfo {
  const { key, size = 0, revision, created_at: createdAt } = body;
  return { key, size, revision, createdAt, operation: "put", ...detailsOf(body) };
}
