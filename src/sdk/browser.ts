/**
 * The SDK for browsers: one file without dependencies.
 *
 * @example
 * import { jetbucket } from "jetbucket/browser";
 * jetbucket.configure({ serverUrl: "https://kv.example.com" });
 * const { value } = await jetbucket.kv().bucket("settings").get("theme");
 */
import { SUBPROTOCOL } from "../protocol/close-codes.ts";
import { Client, type Platform } from "./core/client.ts";
import type { KvClient } from "./core/kv.ts";
import type { ClientOptions } from "./core/options.ts";

export * from "./core/index.ts";

const browser: Platform = {
  serverUrl() {
    const origin = (globalThis as { location?: Location }).location?.origin;
    if (origin === undefined || origin === "null") {
      throw new TypeError("this page has no origin to find a server at: give a serverUrl");
    }
    return origin;
  },
  apiKey: () => undefined,
  openSocket({ url, token }, handlers) {
    // Browsers let a page set no header on a WebSocket, so the token travels as a subprotocol.
    const protocols = token === undefined ? [SUBPROTOCOL] : [SUBPROTOCOL, `bearer.${token}`];
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => handlers.onOpen();
    socket.onmessage = ({ data }: MessageEvent<unknown>) => handlers.onMessage(String(data));
    socket.onclose = ({ code, reason }) => handlers.onClose(code, reason);
    return { send: (text) => socket.send(text), close: () => socket.close() };
  },
};

/**
 * A client of a server, for pages that talk to several or want no global one.
 *
 * @param options `serverUrl` (default: the page's own origin), `apiKey` or `getToken` (default: none), `timeoutMs`
 * (default 10,000)
 * @throws TypeError when `serverUrl` is no http address, or the page has no origin
 * @example
 * const client = createClient({ getToken: () => fetchTokenFromMyBackEnd() });
 * await client.kv().bucket("settings").put("theme", { mode: "dark" });
 */
export function createClient(options: ClientOptions = {}): Client {
  return new Client(browser, options);
}

let shared: Client | undefined;

/** The client that a page shares. */
export const jetbucket = {
  /**
   * Says where the server is and who we are to it; call it once, before `kv()`. A second call replaces the first for
   * everything that asks for `kv()` after it.
   *
   * @param options as for {@link createClient}
   * @throws TypeError when `serverUrl` is no http address
   * @example
   * jetbucket.configure({ serverUrl: "https://kv.example.com" });
   */
  configure(options: ClientOptions): void {
    shared = createClient(options);
  },

  /**
   * The key-value buckets of the server; of the page's own origin when `configure` was not called.
   *
   * @example
   * const entry = await jetbucket.kv().bucket("settings").get("theme");
   */
  kv(): KvClient {
    shared ??= createClient();
    return shared.kv();
  },
};
