/**
 * For apps of Atlassian Forge: their `@forge/kvs` keeps its data in a bucket, and the older `storage` of `@forge/api` is here.
 *
 * @example
 * import { kvs } from "@forge/kvs";
 * import { installForge } from "jetbucket/forge";
 * installForge({ serverUrl: "https://kv.example.com", bucket: "my-app" });
 * await kvs.set("greeting", { hello: "world" });
 */
import { baseUrlOf, DEFAULT_TIMEOUT_MS } from "./core/options.ts";

const DEFAULT_SERVER_URL = "http://localhost:9123";

/** Options of {@link installForge}. */
export interface ForgeOptions {
  /** The bucket that holds the app's data; the first write makes it. */
  bucket: string;
  /** Where the server is. Default: the environment's `JETBUCKET_URL`, else `http://localhost:9123`. */
  serverUrl?: string | undefined;
  /** Sent as `Authorization: Bearer …`. Default: `JETBUCKET_API_KEY`, else none. */
  apiKey?: string | undefined;
  /** Milliseconds that a call may take; 0 waits for ever. Default 10,000. */
  timeoutMs?: number | undefined;
  /** The function that sends HTTP requests. Default: the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/** What Forge's packages call for every request of theirs. */
type ForgeFetch = (target: unknown, path: string, init?: RequestInit) => Promise<Response>;

type Send = (path: string, init: RequestInit) => Promise<Response>;

const runtime = globalThis as { __forge_fetch__?: ForgeFetch };

/** What is installed, the last one in use. */
const installed: Send[] = [];

/**
 * Sends what `@forge/kvs` asks, and {@link storage}, to a bucket. Everything else that Forge's packages ask goes where it went
 * before. May be called before or after those are imported; the last call counts.
 *
 * @returns a function that takes it back
 * @throws TypeError when `serverUrl` is no http address, or `bucket` is empty
 * @example
 * const uninstall = installForge({ bucket: "my-app", apiKey: process.env.JETBUCKET_API_KEY });
 */
export function installForge(options: ForgeOptions): () => void {
  const send = senderOf(options);
  const before = runtime.__forge_fetch__;
  const hook: ForgeFetch = (target, path, init = {}) => {
    if (isForKvs(target)) return send(path, init);
    if (before !== undefined) return before(target, path, init);
    return Promise.reject(
      new TypeError(`jetbucket serves @forge/kvs only, not ${JSON.stringify(target)}`),
    );
  };
  runtime.__forge_fetch__ = hook;
  installed.push(send);
  return () => {
    const place = installed.indexOf(send);
    if (place !== -1) installed.splice(place, 1);
    // Somebody may have put another one on top of it.
    if (runtime.__forge_fetch__ !== hook) return;
    if (before === undefined) delete runtime.__forge_fetch__;
    else runtime.__forge_fetch__ = before;
  };
}

function isForKvs(target: unknown): boolean {
  return (target as { type?: unknown } | undefined)?.type === "kvs";
}

function senderOf({ bucket, serverUrl, apiKey, timeoutMs, fetch: given }: ForgeOptions): Send {
  if (bucket === "") throw new TypeError("bucket is empty: name the one that holds the app's data");
  const server = baseUrlOf(serverUrl ?? environment("JETBUCKET_URL") ?? DEFAULT_SERVER_URL);
  const base = `${server}/compat/forge/${encodeURIComponent(bucket)}`;
  const key = apiKey ?? environment("JETBUCKET_API_KEY");
  const timeout = timeoutMs ?? DEFAULT_TIMEOUT_MS;
  return (path, { method = "POST", body = null }) =>
    (given ?? fetch)(base + path, {
      method,
      body,
      // None of Forge's own headers, which hold a token for Atlassian.
      headers: {
        "content-type": "application/json",
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      ...(timeout > 0 ? { signal: AbortSignal.timeout(timeout) } : {}),
    });
}

/** An empty variable is how shells say "not set". Other runtimes than Node have no environment. */
function environment(name: string): string | undefined {
  const value = (globalThis as { process?: { env: Record<string, string | undefined> } }).process
    ?.env[name];
  return value === "" ? undefined : value;
}

/** What a call of {@link storage} rejects with when the server refuses it. Decide by its `code`. */
export class ForgeStorageError extends Error {
  override readonly name = "ForgeStorageError";
  /** Forge's name of what went wrong, for instance `KEY_TOO_LONG`. */
  readonly code: string;
  /** HTTP status of the answer. */
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

interface ForgeErrorBody {
  code?: string;
  message?: string;
}

/** @returns the JSON of the answer, undefined for none, and for a key that is not there */
async function call(path: string, body: object): Promise<unknown> {
  const send = installed.at(-1);
  if (send === undefined) throw new TypeError("call installForge first: it says where the data is");
  const response = await send(`/api/v1/${path}`, { body: JSON.stringify(body) });
  const text = await response.text();
  if (response.ok) return text === "" ? undefined : (JSON.parse(text) as unknown);
  const { code = "UNKNOWN_ERROR", message = `the server answered ${response.status}` } =
    errorBodyOf(text);
  if (code === "KEY_NOT_FOUND") return undefined;
  throw new ForgeStorageError(code, message, response.status);
}

/** A proxy before the server may answer anything. */
function errorBodyOf(text: string): ForgeErrorBody {
  try {
    return (JSON.parse(text) ?? {}) as ForgeErrorBody;
  } catch {
    return {};
  }
}

/** A condition of {@link StorageQuery.where}. */
export interface StorageCondition {
  condition: "BEGINS_WITH";
  values: [string];
}

/** The condition that keys begin with a text. */
export function startsWith(value: string): StorageCondition {
  return { condition: "BEGINS_WITH", values: [value] };
}

/** A key and its value. */
export interface StorageResult<T = unknown> {
  key: string;
  value: T;
}

/** A query of {@link storage}. Each method gives a new one. */
export class StorageQuery {
  readonly #body: Readonly<Record<string, unknown>>;

  /** @internal */
  constructor(body: Readonly<Record<string, unknown>> = {}) {
    this.#body = body;
  }

  /** Only keys that fulfil a condition. */
  where(property: "key", condition: StorageCondition): StorageQuery {
    return this.#with({ where: [{ property, ...condition }] });
  }

  /** At most so many results, from 1 to 100. Default 10. */
  limit(limit: number): StorageQuery {
    return this.#with({ limit });
  }

  /** Goes on where an earlier query ended, by its `nextCursor`. */
  cursor(after: string): StorageQuery {
    return this.#with({ after });
  }

  /** The results, in the order of their keys; `nextCursor` when there are more. */
  async getMany<T = unknown>(): Promise<{ results: StorageResult<T>[]; nextCursor?: string }> {
    const page = (await call("query", this.#body)) as { data: StorageResult<T>[]; cursor?: string };
    return {
      results: page.data,
      ...(page.cursor === undefined ? {} : { nextCursor: page.cursor }),
    };
  }

  /** The first result, undefined when there is none. */
  async getOne<T = unknown>(): Promise<StorageResult<T> | undefined> {
    return (await this.limit(1).getMany<T>()).results[0];
  }

  #with(change: object): StorageQuery {
    return new StorageQuery({ ...this.#body, ...change });
  }
}

/** The older API of `@forge/api`, which is gone from that package's version 8. */
export interface Storage {
  /** The value of a key, undefined when it is not there. */
  get<T = unknown>(key: string): Promise<T | undefined>;
  /** Stores a value of JSON, up to 240 KiB. */
  set(key: string, value: unknown): Promise<void>;
  /** Deletes a key, whether it is there or not. */
  delete(key: string): Promise<void>;
  /** Finds keys by what they begin with. */
  query(): StorageQuery;
  /** The value of a secret, undefined when it is not there. */
  getSecret<T = unknown>(key: string): Promise<T | undefined>;
  /** Stores a value of JSON encrypted, up to 128 KiB. It can be had from `getSecret` alone. */
  setSecret(key: string, value: unknown): Promise<void>;
  /** Deletes a secret, whether it is there or not. */
  deleteSecret(key: string): Promise<void>;
}

async function valueAt<T>(path: string, key: string): Promise<T | undefined> {
  return ((await call(path, { key })) as { value: T } | undefined)?.value;
}

async function tell(path: string, body: object): Promise<void> {
  await call(path, body);
}

/**
 * Keys and secrets as the older `storage` of `@forge/api` has them, in the bucket that {@link installForge} has named.
 * Its calls reject with {@link ForgeStorageError}.
 *
 * @example
 * import { storage } from "jetbucket/forge"; // was: from "@forge/api"
 * await storage.setSecret("token", "hunter2");
 */
export const storage: Storage = {
  get: (key) => valueAt("get", key),
  set: (key, value) => tell("set", { key, value }),
  delete: (key) => tell("delete", { key }),
  query: () => new StorageQuery(),
  getSecret: (key) => valueAt("secret/get", key),
  setSecret: (key, value) => tell("secret/set", { key, value }),
  deleteSecret: (key) => tell("secret/delete", { key }),
};
