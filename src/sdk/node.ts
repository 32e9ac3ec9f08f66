/**
 * The SDK for Node.
 *
 * @example
 * import { createClient } from "jetbucket/node";
 * const kv = createClient({ serverUrl: "https://kv.example.com" }).kv();
 * await kv.bucket("settings").put("theme", { mode: "dark" });
 */
import { Client, type Platform } from "./core/client.ts";
import type { ClientOptions } from "./core/options.ts";
import { nodeSockets } from "./node-socket.ts";

export * from "./core/index.ts";

const DEFAULT_SERVER_URL = "http://localhost:9123";

const node: Platform = {
  serverUrl: () => environment("JETBUCKET_URL") ?? DEFAULT_SERVER_URL,
  apiKey: () => environment("JETBUCKET_API_KEY"),
  openSocket: nodeSockets(),
};

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
export function createClient(options: ClientOptions = {}): Client {
  return new Client(node, options);
}

/** An empty variable is how shells say "not set". */
function environment(name: string): string | undefined {
  const value = process.env[name];
  return value === "" ? undefined : value;
}
