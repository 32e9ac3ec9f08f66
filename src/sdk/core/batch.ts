/** Many keys at a time: each for itself, as if asked for one by one. */
import type { ErrorBody } from "../../protocol/errors.ts";
import type { EntryBody, PutResult as PutBody } from "../../protocol/messages.ts";
import type { BucketAccess } from "./access.ts";
import type { Entry } from "./entry.ts";
import { errorOfBody, JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";
import type { Ttl } from "./ttl.ts";
import { jsonBody, jsonOf } from "./values.ts";
import { writtenOf, type Written } from "./writes.ts";

/** A key and its new value. */
export interface PutItem<T = unknown> {
  key: string;
  value: T;
  /** In the notations of `put`. Default: the key stays. */
  ttl?: Ttl | undefined;
  /** As for `put`. */
  description?: string | undefined;
  /** As for `put`. */
  valueType?: string | undefined;
}

/** What became of each item of {@link Bucket.putMany}. */
export interface PutManyResult {
  /** By key, what was stored. */
  written: Map<string, Written>;
  /** By key, why the others were not. Empty when all went well. */
  failed: Map<string, JetbucketError>;
}

/** What became of each key of {@link Bucket.deleteMany}. */
export interface DeleteManyResult {
  /** Keys that do not exist any more. */
  deleted: string[];
  /** Those of them that did until now. */
  existed: string[];
  /** By key, why the others were not. Empty when all went well. */
  failed: Map<string, JetbucketError>;
}

/** What the server takes in one request. */
const ITEMS = 1000;
/** In characters; far below what the server takes in bytes, since a character may have three. */
const REQUEST_SIZE = 8 * 1024 * 1024;

export async function getMany<Out>(
  access: BucketAccess<Out, never>,
  keys: Iterable<string>,
  call: CallOptions,
): Promise<Map<string, Entry<Out> | undefined>> {
  const found = new Map<string, Entry<Out> | undefined>();
  await send(access, "get", jsonOfKeys(keys), call, {
    onResult: async (result) => void found.set(result.key, await access.entry(result as EntryBody)),
    onError: (key, error) => {
      if (error.code !== "key_not_found") throw error;
      found.set(key, undefined);
    },
  });
  return found;
}

export async function putMany<In>(
  access: BucketAccess<unknown, In>,
  items: Iterable<PutItem<In>>,
  call: CallOptions,
): Promise<PutManyResult> {
  const written = new Map<string, Written>();
  const failed = new Map<string, JetbucketError>();
  const texts: string[] = [];
  const latest = new Map(Array.from(items, (item) => [item.key, item]));
  for (const { key, value, ttl, description, valueType } of latest.values()) {
    try {
      await access.check(key, value);
      texts.push(jsonOf({ key, ttl, description, value_type: valueType }, value));
    } catch (error) {
      if (!(error instanceof JetbucketError)) throw error;
      failed.set(key, error);
    }
  }
  await send(access, "set", texts, call, {
    onResult: (result, headers) => written.set(result.key, writtenOf(result as PutBody, headers)),
    onError: (key, error) => failed.set(key, error),
  });
  return { written, failed };
}

export async function deleteMany(
  access: BucketAccess<unknown, never>,
  keys: Iterable<string>,
  call: CallOptions,
): Promise<DeleteManyResult> {
  const deleted: string[] = [];
  const existed: string[] = [];
  const failed = new Map<string, JetbucketError>();
  await send(access, "delete", jsonOfKeys(keys), call, {
    onResult: (result) => {
      deleted.push(result.key);
      if (result.existed === true) existed.push(result.key);
    },
    onError: (key, error) => failed.set(key, error),
  });
  return { deleted, existed, failed };
}

function jsonOfKeys(keys: Iterable<string>): string[] {
  return Array.from(new Set(keys), (key) => JSON.stringify(key));
}

/** An item's result: what else is in it depends on what was asked. */
interface ItemResult extends Partial<EntryBody> {
  key: string;
  error?: ErrorBody;
  existed?: boolean;
}

interface Outcomes {
  onResult: (result: ItemResult, headers: Headers) => unknown;
  onError: (key: string, error: JetbucketError) => unknown;
}

/** Sends items, given as JSON texts, in as many requests as it takes, one after the other. */
async function send(
  access: BucketAccess<unknown, never>,
  what: "get" | "set" | "delete",
  items: string[],
  call: CallOptions,
  { onResult, onError }: Outcomes,
): Promise<void> {
  const path = access.path("batch");
  const isRead = what === "get";
  for (const chunk of chunksOf(items)) {
    const { body, headers } = await access.exchange(
      { method: "POST", path, body: jsonBody(`{"${what}":[${chunk.join(",")}]}`), isRead },
      call,
    );
    for (const result of (body as Record<typeof what, ItemResult[]>)[what]) {
      const { key, error } = result;
      if (error === undefined) await onResult(result, headers);
      else onError(key, errorOfBody(error));
    }
  }
}

function* chunksOf(items: string[]): Generator<string[]> {
  let chunk: string[] = [];
  let size = 0;
  for (const item of items) {
    if (chunk.length === ITEMS || (size + item.length > REQUEST_SIZE && chunk.length > 0)) {
      yield chunk;
      chunk = [];
      size = 0;
    }
    chunk.push(item);
    size += item.length;
  }
  if (chunk.length > 0) yield chunk;
}
