/**
 * The SDK for Node.
 *
 * @example
 * import { createClient } from "jetbucket/node";
 * const kv = createClient({ serverUrl: "https://kv.example.com" }).kv();
 * await kv.bucket("settings").put("theme", { mode: "dark" });
 */
import { Client, type Platform } from "./core/client.ts";
import { ConfigClient, type EnvironmentOptions } from "./core/configs.ts";
import {
  ApiKeysClient,
  createTicket,
  createToken,
  type CreatedTicket,
  type CreatedToken,
  type TicketOptions,
  type TokenOptions,
} from "./core/credentials.ts";
import type { ClientOptions } from "./core/options.ts";
import { SecretsClient } from "./core/secrets.ts";
import { nodeSockets } from "./node-socket.ts";

export * from "./core/index.ts";
export type {
  ConfigChange,
  ConfigClient,
  ConfigDocument,
  ConfigInfo,
  ConfigWatchCallbacks,
  ConfigWatchOptions,
  ConfigWriteOptions,
  ConfigWritten,
  EnvironmentOptions,
} from "./core/configs.ts";
export type {
  ApiKeyInfo,
  ApiKeysClient,
  CreatedApiKey,
  CreatedTicket,
  CreatedToken,
  NewApiKey,
  Scope,
  TicketOptions,
  TokenOptions,
} from "./core/credentials.ts";
export type { ResolvedSecrets, SecretInfo, SecretOptions, SecretsClient } from "./core/secrets.ts";

const DEFAULT_SERVER_URL = "http://localhost:9123";

const node: Platform = {
  serverUrl: () => environment("JETBUCKET_URL") ?? DEFAULT_SERVER_URL,
  apiKey: () => environment("JETBUCKET_API_KEY"),
  openSocket: nodeSockets(),
};

/** A server, and who we are to it, with what is not for browsers. */
export class NodeClient extends Client {
  /**
   * Config documents of an environment.
   *
   * @example
   * const { data } = await client.config().get("app");
   */
  config(options: EnvironmentOptions = {}): ConfigClient {
    return new ConfigClient(this.connection, options);
  }

  /**
   * Secrets of an environment.
   *
   * @example
   * const secrets = await client.secrets({ environment: "production" }).resolve(["db-password"]);
   */
  secrets(options: EnvironmentOptions = {}): SecretsClient {
    return new SecretsClient(this.connection.transport, options);
  }

  /**
   * The API keys of the server.
   *
   * @example
   * const { key } = await client.apiKeys().create({ name: "ci", scopes: [{ verbs: ["read"] }] });
   */
  apiKeys(): ApiKeysClient {
    return new ApiKeysClient(this.connection.transport);
  }

  /**
   * Makes a token for somebody else, a page for instance: it ends by itself, and allows no more than your own credentials do.
   *
   * Rejects with `forbidden`, `invalid_ttl`, `invalid_request`.
   *
   * @param options `scopes` (default: your own), `ttl` (default: 15 minutes, at most 24 hours), `subject`, `environment`
   * @example
   * const { token } = await client.createToken({
   *   scopes: [{ verbs: ["read", "watch"], bucket: "carts", keys: [`user.${userId}.>`] }],
   *   subject: userId,
   * });
   */
  createToken(options: TokenOptions = {}): Promise<CreatedToken> {
    return createToken(this.connection.transport, options);
  }

  /**
   * Makes a ticket, which opens one watch within a minute: for `EventSource` and others that can send no token.
   *
   * Rejects with `forbidden`.
   *
   * @example
   * const { ticket } = await client.createTicket({ scopes: [{ verbs: ["watch"], bucket: "carts" }] });
   */
  createTicket(options: TicketOptions = {}): Promise<CreatedTicket> {
    return createTicket(this.connection.transport, options);
  }
}

/**
 * A client of a server. Makes no request, and needs no closing: only a watch keeps the process alive.
 *
 * @param options `serverUrl` (default: the environment's `JETBUCKET_URL`, else `http://localhost:9123`), `apiKey` (default:
 * `JETBUCKET_API_KEY`, else none) or `getToken`, `timeoutMs` (default 10,000), `fetch`
 * @throws TypeError when `serverUrl` is no http address
 * @example
 * const client = createClient({ apiKey: process.env.JETBUCKET_API_KEY });
 * const kv = client.kv();
 */
export function createClient(options: ClientOptions = {}): NodeClient {
  return new NodeClient(node, options);
}

/** An empty variable is how shells say "not set". */
function environment(name: string): string | undefined {
  const value = process.env[name];
  return value === "" ? undefined : value;
}
