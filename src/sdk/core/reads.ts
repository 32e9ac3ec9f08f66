/** Reading one key. */
import type { EntryBody, HistoryList } from "../../protocol/messages.ts";
import type { BucketAccess } from "./access.ts";
import type { Entry, Revision } from "./entry.ts";
import { JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";
import { given, pointText, revisionText, type Point } from "./points.ts";

/** Which state of a key to read. `revision` and `asOf` exclude each other. */
export interface GetOptions extends CallOptions {
  /** Read exactly this revision of the key, as far as the bucket's history reaches. */
  revision?: number | undefined;
  /** Read the key as it was at a revision of the bucket or at a time, as far as the bucket's history reaches. */
  asOf?: Point | undefined;
  /**
   * Read from the leader of a NATS cluster, so that every write that was acknowledged is seen. Default false: the nearest
   * replica answers, which may lag behind by a moment. Makes no difference on a single server.
   */
  strong?: boolean | undefined;
  /**
   * Never answer from a replica that has not reached this revision: give the `revision` of a write to read it back,
   * whoever wrote it.
   */
  minRevision?: number | undefined;
}

/** A key at two points of its life. */
export interface Diff<T = unknown> {
  key: string;
  /** Undefined when the key did not exist then. */
  from: Entry<T> | undefined;
  /** Undefined when the key did not exist then. */
  to: Entry<T> | undefined;
  changed: boolean;
  /** What {@link Bucket.patch} would take to make the second value of the first; only between two JSON values that differ. */
  mergePatch?: unknown;
}

/** The two points of a {@link Diff}. */
export interface DiffOptions extends CallOptions {
  from: Point;
  /** Default: now. */
  to?: Point | undefined;
}

interface DiffBody {
  key: string;
  from: EntryBody | null;
  to: EntryBody | null;
  changed: boolean;
  merge_patch?: unknown;
}

export async function getBody(
  access: BucketAccess<unknown, unknown>,
  key: string,
  options: GetOptions,
): Promise<EntryBody> {
  const { revision, asOf, strong, minRevision } = options;
  const path = access.keyPath("keys", key, {
    revision: given(revision, revisionText),
    as_of: given(asOf, pointText),
    consistency: strong === true ? "strong" : undefined,
  });
  const headers: Record<string, string> =
    minRevision === undefined ? {} : { "min-revision": revisionText(minRevision) };
  return (await access.send({ method: "GET", path, headers }, options)) as EntryBody;
}

/** Undefined for what is not there. That the history does not reach back to a point says nothing about the key. */
export async function absentAsUndefined<R>(
  read: Promise<R>,
  { asOf }: GetOptions = {},
): Promise<R | undefined> {
  try {
    return await read;
  } catch (error) {
    const code = error instanceof JetbucketError ? error.code : undefined;
    if (code === "key_not_found") return undefined;
    if (code === "revision_not_found" && asOf === undefined) return undefined;
    throw error;
  }
}

export async function history<Out, In>(
  access: BucketAccess<Out, In>,
  key: string,
  call: CallOptions,
): Promise<Revision<Out>[]> {
  const { entries } = (await access.get(access.keyPath("history", key), call)) as HistoryList;
  return Promise.all(entries.map(async (entry) => access.revision(entry)));
}

export async function diff<Out, In>(
  access: BucketAccess<Out, In>,
  key: string,
  options: DiffOptions,
): Promise<Diff<Out>> {
  const path = access.keyPath("diff", key, {
    from: pointText(options.from),
    to: given(options.to, pointText),
  });
  const body = (await access.get(path, options)) as DiffBody;
  const [from, to] = await Promise.all([access.maybeEntry(body.from), access.maybeEntry(body.to)]);
  return {
    key: body.key,
    from,
    to,
    changed: body.changed,
    ...("merge_patch" in body ? { mergePatch: body.merge_patch } : {}),
  };
}
