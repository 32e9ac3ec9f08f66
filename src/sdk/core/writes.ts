/** Writing one key. */
import { mergePatch } from "../../protocol/merge-patch.ts";
import type { EntryBody } from "../../protocol/messages.ts";
import type { BucketAccess } from "./access.ts";
import type { Entry } from "./entry.ts";
import { revisionOf } from "./entry.ts";
import { JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";
import { checkedRevision, given, revisionText } from "./points.ts";
import { absentAsUndefined, getBody } from "./reads.ts";
import type { ApiAnswer } from "./transport.ts";
import { ttlText, type Ttl } from "./ttl.ts";
import { bodyOf, jsonBodyOf, type ValueBody } from "./values.ts";

/**
 * What an acknowledged write survives: `fsync`, a power failure (it is on disk); `replicated`, the loss of a server (most
 * of a cluster has it); `cached`, the death of the server process (it is in the machine's file cache, and flushed now and
 * then); `memory`, nothing.
 */
export type Durability = "fsync" | "replicated" | "cached" | "memory";

/** A write that was stored. */
export interface Written {
  /** Names this write of this key; pass it to `update` or `delete` as a condition, or to `get` as `minRevision`. */
  revision: number;
  /** When it was stored, ISO 8601. */
  createdAt: string;
  /** When the key will go by itself, ISO 8601; undefined when it stays. */
  expiresAt?: string;
  /** What the write survives; undefined when the server does not say. */
  durability?: Durability;
}

/** Which value a write answers with. */
export type ReturnedValue = "previous" | "latest";

/** Options of writes of a whole value. */
export interface WriteOptions<
  R extends ReturnedValue | undefined = ReturnedValue | undefined,
> extends CallOptions {
  /**
   * After this time the key goes by itself, its history included: a number of seconds, `"90s"`, `"15m"`, `"24h"`, `"7d"`, an
   * ISO 8601 duration such as `"PT1M"`, or `{ value: 7, unit: "DAYS" }`. One second to 365 days. Default: the key stays, also
   * when it was to go before.
   */
  ttl?: Ttl | undefined;
  /** Answer with the entry that was overwritten as `previous`, or with the one that was written as `latest`. Default: neither. */
  return?: R | undefined;
  /** Keep the time of the key's first creation across this write, as the entry's `firstCreatedAt`. Default false. */
  keepCreated?: boolean | undefined;
  /** A few words about the key, up to 256 characters, kept beside the value. */
  description?: string | undefined;
  /** Your name for what the value is, kept beside it: 1 to 32 letters, digits, `_` and `-`, for instance `DATE`. */
  valueType?: string | undefined;
}

/** Options of {@link Bucket.put}. */
export interface PutOptions<
  R extends ReturnedValue | undefined = ReturnedValue | undefined,
> extends WriteOptions<R> {
  /**
   * Write only when the key's latest revision is this one; 0 means that the key must not exist. Else the call rejects with
   * `revision_mismatch`.
   */
  ifRevision?: number | undefined;
}

/** A write, with the value that was asked for. */
export type PutResult<T, R extends ReturnedValue | undefined> = [R] extends [undefined]
  ? Written
  : [R] extends ["previous"]
    ? Written & {
        /** What the write replaced; undefined when the key did not exist. */
        previous: Entry<T> | undefined;
      }
    : [R] extends ["latest"]
      ? Written & {
          /** What was written, as a reader gets it. */
          latest: Entry<T>;
        }
      : Written & { previous?: Entry<T> | undefined; latest?: Entry<T> };

export interface DeleteOptions extends CallOptions {
  /** Delete only when the key's latest revision is this one; else the call rejects with `revision_mismatch`. */
  ifRevision?: number | undefined;
}

/** Options of {@link Bucket.restore}. */
export type RestoreOptions = DeleteOptions;

/** Options of {@link Bucket.patch}. */
export interface PatchOptions extends CallOptions {
  /** Patch only when the key's latest revision is this one, 0 when it must not exist; else `revision_mismatch`. */
  ifRevision?: number | undefined;
  /** From now on; in the notations of `put`. Default: a running time to live runs on. */
  ttl?: Ttl | undefined;
}

/** Options of {@link Bucket.increment}. */
export interface IncrementOptions extends CallOptions {
  /** What to add, a whole number; negative to subtract. Default 1. */
  by?: number | undefined;
  /** What a key that does not exist counts as. Default 0. */
  initial?: number | undefined;
  /** From now on; in the notations of `put`. Default: a running time to live runs on. */
  ttl?: Ttl | undefined;
}

/**
 * A part of a value, for {@link Bucket.patch}: its members replace those of the value, null removes them, objects are merged
 * member by member, anything else (arrays too) replaces the whole.
 */
export type MergePatch<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [K in keyof T]?: MergePatch<T[K]> | null }
    : T;

interface WrittenBody {
  revision: number;
  created_at: string;
  expires_at?: string;
  value?: unknown;
}

/** How often a patch that has to be checked here is tried while others write the key. */
const PATCH_ATTEMPTS = 10;

/** The answer to a write. */
export function writtenOf(body: WrittenBody, headers?: Headers): Written {
  const { revision, created_at: createdAt, expires_at: expiresAt } = body;
  return {
    revision,
    createdAt,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...durabilityOf(headers),
  };
}

/** The durability that an answer names. */
export function durabilityOf(headers: Headers | undefined): { durability?: Durability } {
  const durability = headers?.get("durability") as Durability | null | undefined;
  return durability ? { durability } : {};
}

export const ifMatch = (revision: number | undefined): Record<string, string> =>
  revision === undefined ? {} : { "if-match": revisionText(revision) };

export async function put<Out, In, R extends ReturnedValue | undefined>(
  access: BucketAccess<Out, In>,
  key: string,
  value: In,
  options: WriteOptions<R>,
  headers: Record<string, string>,
): Promise<PutResult<Out, R>> {
  const path = access.keyPath("keys", key, {
    ttl: given(options.ttl, ttlText),
    return: options.return,
    keep_created: options.keepCreated === true ? "true" : undefined,
    description: options.description,
    value_type: options.valueType,
  });
  await access.check(key, value);
  const answer = await access.exchange(
    { method: "PUT", path, headers, body: bodyOf(value) },
    options,
  );
  const { previous, latest } = answer.body as Record<ReturnedValue, EntryBody | null | undefined>;
  const result: Written & { previous?: Entry<Out> | undefined; latest?: Entry<Out> } = writtenOf(
    answer.body as WrittenBody,
    answer.headers,
  );
  if (options.return === "previous") result.previous = await access.maybeEntry(previous);
  else if (options.return === "latest") result.latest = await access.entry(latest!);
  return result as PutResult<Out, R>;
}

export async function remove(
  access: BucketAccess<unknown, never>,
  key: string,
  { ifRevision, ...call }: DeleteOptions,
  purge?: "true",
): Promise<void> {
  const path = access.keyPath("keys", key, { purge });
  await access.send({ method: "DELETE", path, headers: ifMatch(ifRevision) }, call);
}

/**
 * With a schema, what the patch makes of the value is found out and checked here first, and the patch is then sent under the
 * condition that the value is still the same.
 */
export async function patch<Out, In>(
  access: BucketAccess<Out, In>,
  key: string,
  change: MergePatch<In>,
  options: PatchOptions,
): Promise<Written & { value: Out }> {
  const path = access.keyPath("keys", key, { ttl: given(options.ttl, ttlText) });
  const body = jsonBodyOf(change, "application/merge-patch+json");
  for (let attempt = 1; ; attempt++) {
    const base = await checkPatched(access, key, body, options);
    const headers = ifMatch(options.ifRevision ?? base);
    try {
      const answer = await access.exchange({ method: "PATCH", path, headers, body }, options);
      const { value, ...written } = changed(answer);
      return { ...written, value: await access.value(value, key, written.revision) };
    } catch (error) {
      const raced = error instanceof JetbucketError && error.code === "revision_mismatch";
      if (!raced || base === undefined || options.ifRevision !== undefined) throw error;
      if (attempt === PATCH_ATTEMPTS) throw error;
    }
  }
}

/** The revision for which the patch is good; undefined when nobody has to look. */
async function checkPatched<Out, In>(
  access: BucketAccess<Out, In>,
  key: string,
  patch: ValueBody,
  { signal, timeoutMs }: PatchOptions,
): Promise<number | undefined> {
  if (access.schema === undefined) return undefined;
  const body = await absentAsUndefined(getBody(access, key, { strong: true, signal, timeoutMs }));
  const value = body && revisionOf(body).value;
  const patched = JSON.stringify(mergePatch(value, JSON.parse(patch.body as string)));
  await access.check(key, JSON.parse(patched) as In);
  return body?.revision ?? 0;
}

/** Sends a write that depends on what the key holds, and takes what it needs in a JSON body. */
async function change<W extends Written>(
  access: BucketAccess<unknown, never>,
  route: "increment" | "touch" | "restore",
  key: string,
  fields: object,
  options: DeleteOptions,
): Promise<W> {
  const path = access.keyPath(route, key);
  const headers = ifMatch(options.ifRevision);
  const request = { method: "POST", path, headers, body: jsonBodyOf(fields) } as const;
  return changed(await access.exchange(request, options)) as W;
}

/** A write, and the value that it made where the answer has it. */
function changed({ body, headers }: ApiAnswer): Written & { value?: unknown } {
  const { value } = body as WrittenBody;
  return { ...writtenOf(body as WrittenBody, headers), ...(value === undefined ? {} : { value }) };
}

export function increment(
  access: BucketAccess<unknown, never>,
  key: string,
  { by, initial, ttl, ...call }: IncrementOptions,
): Promise<Written & { value: number }> {
  return change(access, "increment", key, { by, initial, ttl }, call);
}

export function touch(
  access: BucketAccess<unknown, never>,
  key: string,
  ttl: Ttl,
  call: CallOptions,
): Promise<Written> {
  return change(access, "touch", key, { ttl }, call);
}

export function restore(
  access: BucketAccess<unknown, never>,
  key: string,
  revision: number,
  options: RestoreOptions,
): Promise<Written> {
  return change(access, "restore", key, { revision: checkedRevision(revision) }, options);
}
