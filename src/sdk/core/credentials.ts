import type {
  ApiKeyInfo as ApiKeyBody,
  ApiKeyList,
  CreatedApiKey as CreatedApiKeyBody,
  CreatedTicket as TicketBody,
  CreatedToken as TokenBody,
} from "../../protocol/access.ts";
import type { Scope } from "../../protocol/scopes.ts";
import { namedPath } from "./configs.ts";
import { camelFields, snakeFields } from "./fields.ts";
import type { CallOptions } from "./options.ts";
import type { Transport } from "./transport.ts";
import type { Ttl } from "./ttl.ts";
import { jsonBodyOf } from "./values.ts";

export type { Scope } from "../../protocol/scopes.ts";

const API_KEYS = "/api/v1/api-keys";

/** What is known of an API key. */
export interface ApiKeyInfo {
  id: string;
  name: string;
  scopes: Scope[];
  /** The environment of config and secrets that is meant where a request names none. */
  environment?: string;
  /** ISO 8601, as all times here. */
  expiresAt?: string;
  createdAt: string;
  createdBy: string;
  /** To the minute. */
  lastUsedAt?: string;
}

/** A key that was just made: this is the only time that its text is told. */
export interface CreatedApiKey extends ApiKeyInfo {
  key: string;
}

/** What a new API key is to be. */
export interface NewApiKey {
  /** For people, up to 128 characters. */
  name: string;
  /** What it allows; no more than your own credentials do. */
  scopes: Scope[];
  environment?: string | undefined;
  /** When it ends, ISO 8601. Default: when it is revoked. */
  expiresAt?: string | undefined;
  /** The same as a time from now, for instance `"30d"`. */
  expiresIn?: Ttl | undefined;
}

/** Options of `createToken`. */
export interface TokenOptions extends CallOptions {
  /** What it allows. Default: what your own credentials allow. */
  scopes?: Scope[] | undefined;
  /** How long it lives, at most 24 hours, and never longer than your own credentials. Default: 15 minutes. */
  ttl?: Ttl | undefined;
  /** Whom it is for, as audit and limits will call them: a user's id, for instance. */
  subject?: string | undefined;
  environment?: string | undefined;
}

/** Options of `createTicket`. */
export interface TicketOptions extends CallOptions {
  /** What it allows. Default: what your own credentials allow. */
  scopes?: Scope[] | undefined;
}

export interface CreatedToken {
  token: string;
  expiresAt: string;
}

export interface CreatedTicket {
  ticket: string;
  expiresAt: string;
}

/** The API keys of a server, for whoever has `admin` on all its buckets. */
export class ApiKeysClient {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Makes a key.
   *
   * Rejects with `forbidden` when it would allow more than your own credentials, or outlive them.
   *
   * @example
   * const { key } = await client.apiKeys().create({
   *   name: "orders",
   *   scopes: [{ verbs: ["read", "write"], bucket: "orders" }],
   * });
   */
  async create(key: NewApiKey, options: CallOptions = {}): Promise<CreatedApiKey> {
    const request = { method: "POST", path: API_KEYS, body: jsonBodyOf(snakeFields(key)) } as const;
    return camelFields(
      (await this.#transport.send(request, options)) as CreatedApiKeyBody,
    ) as CreatedApiKey;
  }

  /**
   * What is known of all keys, the oldest first.
   *
   * @example
   * for (const { name, lastUsedAt } of await client.apiKeys().list()) console.log(name, lastUsedAt);
   */
  async list(options: CallOptions = {}): Promise<ApiKeyInfo[]> {
    const { keys } = (await this.#transport.send(
      { method: "GET", path: API_KEYS },
      options,
    )) as ApiKeyList;
    return keys.map((key: ApiKeyBody) => camelFields(key) as ApiKeyInfo);
  }

  /**
   * What is known of a key.
   *
   * Rejects with `not_found`.
   *
   * @example
   * const { expiresAt } = await client.apiKeys().get(id);
   */
  async get(id: string, options: CallOptions = {}): Promise<ApiKeyInfo> {
    const path = namedPath(API_KEYS, id);
    const body = await this.#transport.send({ method: "GET", path }, options);
    return camelFields(body as ApiKeyBody) as ApiKeyInfo;
  }

  /**
   * Ends a key, the tokens that were made with it, and their sockets, everywhere within a second.
   *
   * Rejects with `not_found`.
   *
   * @example
   * await client.apiKeys().revoke(id);
   */
  async revoke(id: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: namedPath(API_KEYS, id) }, options);
  }
}

export async function createToken(
  transport: Transport,
  { scopes, ttl, subject, environment, ...call }: TokenOptions,
): Promise<CreatedToken> {
  const body = jsonBodyOf({ scopes, ttl, subject, environment });
  const answer = await transport.send({ method: "POST", path: "/api/v1/tokens", body }, call);
  return camelFields(answer as TokenBody) as CreatedToken;
}

export async function createTicket(
  transport: Transport,
  { scopes, ...call }: TicketOptions,
): Promise<CreatedTicket> {
  const body = jsonBodyOf({ scopes });
  const answer = await transport.send({ method: "POST", path: "/api/v1/tickets", body }, call);
  return camelFields(answer as TicketBody) as CreatedTicket;
}
