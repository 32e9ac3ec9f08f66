/** Options of {@link createClient}. */
export interface ClientOptions {
  /**
   * Where the server is, for instance `https://kv.example.com`; a path before `/api` is kept.
   * Default in Node: `JETBUCKET_URL`, else `http://localhost:9123`. Default in browsers: the page's own origin.
   */
  serverUrl?: string | undefined;
  /** Sent as `Authorization: Bearer …`. Default in Node: `JETBUCKET_API_KEY`, else none. */
  apiKey?: string | undefined;
  /**
   * Called before every request and every connection of a watch, instead of a fixed `apiKey`: for tokens that
   * expire. It may return undefined to go without. When the server has refused a token, or it has expired under a watch, it is called
   * with that token, and the request or the watch goes on once it gives another one.
   */
  getToken?: GetToken | undefined;
  /** Milliseconds that a call may take, retries included; 0 waits for ever. Default 10,000. */
  timeoutMs?: number | undefined;
  /** The function that sends HTTP requests. Default: the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

/**
 * Gives a token.
 *
 * @param refused the one that is not good any more
 */
export type GetToken = (refused?: string) => string | undefined | Promise<string | undefined>;

/** Options that every call takes. */
export interface CallOptions {
  /** Ends the call: it rejects with code `aborted`. */
  signal?: AbortSignal | undefined;
  /** Milliseconds that this call may take, retries included; 0 waits for ever. Default: the client's. */
  timeoutMs?: number | undefined;
}

/** Milliseconds that a call may take when nobody says otherwise. */
export const DEFAULT_TIMEOUT_MS = 10_000;

/** Reads the base address out of what a user gave, without a slash at its end. */
export function baseUrlOf(serverUrl: string): string {
  let url: URL | undefined;
  try {
    url = new URL(serverUrl);
  } catch {
    // Said below, together with other unusable addresses.
  }
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new TypeError(
      `serverUrl ${JSON.stringify(serverUrl)} is no address: give one such as "http://localhost:9123"`,
    );
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}
