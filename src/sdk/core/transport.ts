import { backoffDelay } from "./backoff.ts";
import { CallScope } from "./call-scope.ts";
import { errorOf, errorOfAnswer, JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";
import type { ValueBody } from "./values.ts";

/** A request to the API. */
export interface ApiRequest {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path and query under the base address. */
  path: string;
  headers?: Record<string, string>;
  body?: ValueBody;
  /** That it changes nothing, whatever its method, so that it may be repeated. Default: for GET. */
  isRead?: boolean;
}

/** A successful answer. */
export interface ApiAnswer {
  /** The JSON in it, undefined for one without content. */
  body: unknown;
  headers: Headers;
}

/** Gives the token to send; another one than one that was refused, if there is another one. */
export type TokenSource = (refused?: string) => Promise<string | undefined>;

export interface TransportOptions {
  /** Without a slash at its end. */
  baseUrl: string;
  /** Asked before every attempt, and once more when the server refuses what it gave. */
  token: TokenSource;
  /** Default of every call. */
  timeoutMs: number;
  fetch: typeof fetch;
}

const RETRIES = 2;
const retryBackoff = { base: 200, cap: 2000 };

/**
 * Sends requests and understands answers.
 *
 * A read that the server refuses as retryable is tried up to twice more within its timeout. A write is never repeated:
 * whether the first attempt was stored is for the caller to find out.
 */
export class Transport {
  readonly #options: TransportOptions;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /**
   * The JSON of an answer, undefined for one without content.
   *
   * @throws JetbucketError
   */
  async send(request: ApiRequest, call: CallOptions = {}): Promise<unknown> {
    return (await this.exchange(request, call)).body;
  }

  /**
   * An answer with its headers.
   *
   * @throws JetbucketError
   */
  async exchange(request: ApiRequest, call: CallOptions = {}): Promise<ApiAnswer> {
    const { isRead = request.method === "GET" } = request;
    const scope = new CallScope({
      signal: call.signal,
      timeoutMs: call.timeoutMs ?? this.#options.timeoutMs,
    });
    try {
      let bearer: string | undefined;
      let isRenewed = false;
      for (let attempt = 1; ; attempt++) {
        try {
          if (!isRenewed) bearer = await this.#token(scope);
          return await this.#attempt(request, scope, bearer);
        } catch (thrown) {
          if (!isRenewed && bearer !== undefined && isUnauthenticated(thrown)) {
            const other = await this.#token(scope, bearer);
            if (other === bearer) throw thrown;
            bearer = other;
            isRenewed = true;
            continue;
          }
          if (attempt > RETRIES || !isRead || !refusedForNow(thrown)) throw thrown;
          const jitter = backoffDelay(attempt, Math.random(), retryBackoff);
          const delay = Math.max(jitter, (thrown.retryAfter ?? 0) * 1000);
          if (delay >= scope.remaining) throw thrown;
          await scope.sleep(delay);
        }
      }
    } finally {
      scope.end();
    }
  }

  async #token(scope: CallScope, refused?: string): Promise<string | undefined> {
    try {
      return await scope.race(this.#options.token(refused));
    } catch (thrown) {
      throw errorOf(thrown, "unauthenticated", "there is no token");
    }
  }

  async #attempt(
    request: ApiRequest,
    scope: CallScope,
    bearer: string | undefined,
  ): Promise<ApiAnswer> {
    const { method, path, body } = request;
    const { baseUrl, fetch } = this.#options;
    let response: Response;
    let text: string;
    try {
      response = await fetch(baseUrl + path, {
        method,
        headers: {
          ...request.headers,
          ...(body === undefined ? {} : { "content-type": body.contentType }),
          ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        },
        body: body?.body ?? null,
        // Entries carry an ETag; a browser's cache must not answer in the server's place.
        cache: "no-store",
        signal: scope.signal,
      });
      text = await response.text();
    } catch (thrown) {
      if (scope.signal.aborted) throw scope.signal.reason as JetbucketError;
      throw errorOf(thrown, "network", `cannot reach ${baseUrl}`);
    }
    const { status, headers } = response;
    if (!response.ok) {
      const retryAfter = headers.get("retry-after");
      throw errorOfAnswer({ status, body: text, retryAfter });
    }
    if (status === 204) return { body: undefined, headers };
    try {
      return { body: JSON.parse(text), headers };
    } catch (cause) {
      throw new JetbucketError("bad_response", `${baseUrl} does not answer as jetbucket does`, {
        status,
        cause,
      });
    }
  }
}

function isUnauthenticated(thrown: unknown): boolean {
  return thrown instanceof JetbucketError && thrown.status === 401;
}

function refusedForNow(thrown: unknown): thrown is JetbucketError {
  return thrown instanceof JetbucketError && thrown.retryable && thrown.status !== undefined;
}
