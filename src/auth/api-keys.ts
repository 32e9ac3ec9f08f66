import { timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { ApiKeyInfo, CreateApiKeyRequest, CreatedApiKey } from "../protocol/access.ts";
import { parseTtl } from "../protocol/durations.ts";
import { isLive, type LiveEntry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { parsePattern } from "../protocol/keys.ts";
import { scopesSchema } from "../protocol/scopes.ts";
import { jsonValue, utf8 } from "../protocol/values.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import { idOfKeyText, newKeyText } from "./key-text.ts";
import type { Principal } from "./principal.ts";
import { AUTH_BUCKET, type Vault } from "./vault.ts";

/** What the keys of the bucket begin with that hold API keys, and when these were used. */
export const KEYS = "key.";
export const USES = "used.";
/** It is there from the first API key on: without credentials nobody is let in any more, also when that key is gone. */
export const REQUIRED = "required";

const everyKey = parsePattern(`${KEYS}*`);
const everyUse = parsePattern(`${USES}*`);

const recordSchema = z.object({
  version: z.literal(1),
  name: z.string(),
  scopes: scopesSchema,
  environment: z.string().optional(),
  expires_at: z.string().optional(),
  created_at: z.string(),
  created_by: z.string(),
  /** HMAC-SHA-256 under the vault's pepper, base64url, of what {@link hashedText} says. */
  hash: z.string(),
});
const useSchema = z.object({ at: z.iso.datetime() });
/** An API key as it is stored. */
export type KeyRecord = z.infer<typeof recordSchema>;

/** Told after each write, with its revision, before the writer is answered. */
export type OnWritten = (bucket: Bucket, revision: number) => Promise<void>;

/**
 * API keys. Their texts are told once; what is stored is a keyed hash.
 *
 * All methods reject with KvError `store_unavailable` when NATS is away.
 */
export class ApiKeys {
  readonly #buckets: Buckets;
  readonly #vault: Vault;
  readonly #onWritten: OnWritten;

  constructor(buckets: Buckets, vault: Vault, onWritten: OnWritten = () => Promise.resolve()) {
    this.#buckets = buckets;
    this.#vault = vault;
    this.#onWritten = onWritten;
  }

  /**
   * Makes a key.
   *
   * @param by who makes it: it may do no more than that, and does not outlive that
   * @throws KvError `forbidden`, `invalid_request`, `invalid_ttl`, `secrets_disabled` without the master key that is in use
   */
  async create(request: CreateApiKeyRequest, by: Principal): Promise<CreatedApiKey> {
    const { name, scopes, environment } = request;
    if (!by.grants.isAdminOfAll) {
      throw new KvError("forbidden", `API keys are made by whoever has "admin" on all buckets`);
    }
    if (!by.grants.includes(scopes)) {
      throw new KvError("forbidden", "the scopes allow more than your own credentials do");
    }
    const expiresAt = expiryOf(request, by);
    const { id, text } = newKeyText();
    const record: KeyRecord = {
      version: 1,
      name,
      scopes,
      ...(environment === undefined ? {} : { environment }),
      ...(expiresAt === undefined ? {} : { expires_at: new Date(expiresAt).toISOString() }),
      created_at: new Date().toISOString(),
      created_by: by.id,
      hash: "",
    };
    const hash = await this.#vault.firstHash(hashedText(text, record));
    record.hash = hash.toString("base64url");
    await this.#buckets.writeSystem(AUTH_BUCKET, async (bucket) => {
      await bucket.put(KEYS + id, jsonValue(record));
      const { revision } = await bucket.put(REQUIRED, jsonValue({ since: record.created_at }));
      await this.#onWritten(bucket, revision);
    });
    return { ...infoOf(id, record), key: text };
  }

  /** All keys, the oldest first, those that have expired included. */
  async list(): Promise<ApiKeyInfo[]> {
    const [keys, uses] = await Promise.all([
      this.#buckets.systemEntries(AUTH_BUCKET, everyKey),
      this.#buckets.systemEntries(AUTH_BUCKET, everyUse),
    ]);
    const used = new Map(uses.map((entry) => [entry.key.slice(USES.length), usedAtOf(entry)]));
    return keys
      .flatMap((entry) => {
        const id = entry.key.slice(KEYS.length);
        const record = recordOf(entry);
        return record === undefined ? [] : [infoOf(id, record, used.get(id))];
      })
      .sort((a, b) => (a.created_at < b.created_at ? -1 : 1));
  }

  /** @throws KvError `not_found` */
  async get(idOrText: string): Promise<ApiKeyInfo> {
    const id = idOf(idOrText);
    const found = await this.#buckets.readSystem(AUTH_BUCKET, async (bucket) =>
      Promise.all([bucket.latest(KEYS + id), bucket.latest(USES + id)]),
    );
    const [entry, use] = found ?? [];
    const record = isLive(entry) ? recordOf(entry) : undefined;
    if (record === undefined) throw notFound(id);
    return infoOf(id, record, isLive(use) ? usedAtOf(use) : undefined);
  }

  /** Ends a key, its tokens, and their sockets, on all gateways. Whoever has the key itself at hand may give that. @throws KvError `not_found` */
  async revoke(idOrText: string): Promise<void> {
    const id = idOf(idOrText);
    const wasThere = await this.#buckets.readSystem(AUTH_BUCKET, async (bucket) => {
      if (!(await bucket.delete(KEYS + id, { purge: true }))) return false;
      await this.#onWritten(bucket, await bucket.lastRevision());
      // It is revoked by now, whatever becomes of this.
      await bucket.delete(USES + id, { purge: true }).catch(() => undefined);
      return true;
    });
    if (wasThere !== true) throw notFound(id);
  }

  /** Writes down when a key was used. */
  async noteUse(id: string, usedAt: number): Promise<void> {
    await this.#buckets.readSystem(AUTH_BUCKET, (bucket) =>
      bucket.put(USES + id, jsonValue({ at: new Date(usedAt).toISOString() })),
    );
  }
}

/** Reads what is stored of a key; undefined when it is damaged. */
export function recordOf({ value }: LiveEntry): KeyRecord | undefined {
  return recordSchema.safeParse(jsonOf(value)).data;
}

/** When a key was used, as it is stored, ISO 8601; undefined when that is damaged. */
export function usedAtOf({ value }: LiveEntry): string | undefined {
  return useSchema.safeParse(jsonOf(value)).data?.at;
}

/**
 * What is hashed of a key: its text, and all that is stored of it, so that whoever can write to the store cannot make a key allow
 * more than it was made for.
 */
export function hashedText(text: string, record: KeyRecord): string {
  const { name, scopes, environment, expires_at, created_at, created_by } = record;
  const bound = [name, scopesSchema.parse(scopes), environment, expires_at, created_at, created_by];
  return `${text}\0${JSON.stringify(bound)}`;
}

/** Whether a hash is the one of a key's record, in a time that says nothing about where they differ. */
export function isHashOf(hash: Buffer, stored: Buffer): boolean {
  return hash.length === stored.length && timingSafeEqual(hash, stored);
}

function expiryOf(request: CreateApiKeyRequest, by: Principal): number | undefined {
  const { expires_at: at, expires_in: after } = request;
  const wanted =
    at !== undefined
      ? Date.parse(at)
      : after === undefined
        ? undefined
        : Date.now() + parseTtl(after) * 1000;
  if (wanted !== undefined && wanted <= Date.now()) {
    throw new KvError("invalid_request", `"expires_at" is in the past`, {
      details: { field: "expires_at" },
    });
  }
  if (by.expiresAt !== undefined && (wanted === undefined || wanted > by.expiresAt)) {
    const until = new Date(by.expiresAt).toISOString();
    throw new KvError(
      "forbidden",
      `a key does not outlive what it was made with: let it expire by ${until}`,
    );
  }
  return wanted;
}

function infoOf(id: string, record: KeyRecord, lastUsedAt?: string): ApiKeyInfo {
  const { name, scopes, environment, expires_at, created_at, created_by } = record;
  return {
    id,
    name,
    scopes,
    ...(environment === undefined ? {} : { environment }),
    ...(expires_at === undefined ? {} : { expires_at }),
    created_at,
    created_by,
    ...(lastUsedAt === undefined ? {} : { last_used_at: lastUsedAt }),
  };
}

function notFound(id: string): KvError {
  return new KvError("not_found", `there is no API key ${JSON.stringify(id.slice(0, 40))}`);
}

/** @throws KvError `not_found` for what cannot be one, which is not repeated: it may be a damaged key */
function idOf(idOrText: string): string {
  const id = idOfKeyText(idOrText) ?? idOrText;
  if (!/^[0-9A-Za-z]{1,64}$/.test(id)) throw new KvError("not_found", "there is no such API key");
  return id;
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8(bytes) ?? "");
  } catch {
    return undefined;
  }
}
