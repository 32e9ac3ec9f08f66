import type { Connection } from "./access.ts";
import { errorOf } from "./errors.ts";
import { KvClient } from "./kv.ts";
import { baseUrlOf, DEFAULT_TIMEOUT_MS, type ClientOptions } from "./options.ts";
import type { SocketFactory } from "./socket.ts";
import { Transport, type TokenSource } from "./transport.ts";
import { WatchSocket } from "./watch-socket.ts";

/** What differs between the places where the SDK runs. */
export interface Platform {
  openSocket: SocketFactory;
  /** Where the server is when nobody says. */
  serverUrl(): string;
  /** The key to use when nobody gives one. */
  apiKey(): string | undefined;
}

/** A server, and who we are to it. */
export class Client {
  /** @internal */
  protected readonly connection: Connection;
  readonly #kv: KvClient;

  constructor(platform: Platform, options: ClientOptions) {
    const baseUrl = baseUrlOf(options.serverUrl ?? platform.serverUrl());
    const token = tokenSource(platform, options);
    const sockets = {
      url: baseUrl.replace(/^http/, "ws"),
      token,
      renews: options.getToken !== undefined,
      openSocket: platform.openSocket,
    };
    this.connection = {
      transport: new Transport({
        baseUrl,
        token,
        timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        // Looked up per call, and not as a method: browsers insist on the global object as `this`.
        fetch: options.fetch ?? ((input, init) => fetch(input, init)),
      }),
      watches: new WatchSocket({ ...sockets, url: `${sockets.url}/api/v1/kv/watch` }),
      sockets,
    };
    this.#kv = new KvClient(this.connection);
  }

  /**
   * The key-value buckets of the server.
   *
   * @example
   * const buckets = await client.kv().listBuckets();
   */
  kv(): KvClient {
    return this.#kv;
  }
}

function tokenSource(platform: Platform, { apiKey, getToken }: ClientOptions): TokenSource {
  if (getToken === undefined) {
    const key = apiKey ?? platform.apiKey();
    return () => Promise.resolve(key);
  }
  if (apiKey !== undefined) throw new TypeError("give either apiKey or getToken, not both");
  return async (refused) => {
    try {
      return await getToken(refused);
    } catch (thrown) {
      throw errorOf(thrown, "unauthenticated", "getToken failed");
    }
  };
}
