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
import type { ClientOptions } from "./core/options.ts";
import { SecretsClient } from "./core/secrets.ts";
import { nodeSockets } from "./node-socket.ts";

export * from "./core/index.ts";
export type {
  ConfigClient,
  ConfigDocument,
  ConfigInfo,
  ConfigWriteOptions,
  ConfigWritten,
  EnvironmentOptions,
} from "./core/configs.ts";
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
    return new ConfigClient(this.connection.transport, options);
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
