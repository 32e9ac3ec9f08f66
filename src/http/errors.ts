import type { Context } from "hono";
import type { Logger } from "pino";
import { KvError } from "../protocol/errors.ts";
import { crossOriginHeaders, type Answer } from "./answer.ts";
import { requestId } from "./request-id.ts";

/** How a route turns what was thrown into an error that it may show inside an answer. */
export type PublicError = (c: Context, error: unknown) => KvError;

/** Turns whatever was thrown into the one error that leaves the gateway. What is not ours goes to the log only. */
export function publicError(error: unknown, log: Logger, id: string): KvError {
  if (error instanceof KvError) {
    // A full bucket or an old server is the caller's news, not the operator's.
    if (error.code === "store_unavailable")
      log.warn({ request_id: id, code: error.code, err: error.cause }, error.message);
    return error;
  }
  log.error({ request_id: id, err: error }, "unexpected error");
  return new KvError(
    "internal",
    "something went wrong inside the gateway: its log says more under this request id",
  );
}

/** Headers that belong to an error, beside its body. */
export function errorHeaders(error: KvError): Record<string, string> {
  return {
    "Content-Type": "application/json",
    ...(error.code === "unauthenticated" ? { "WWW-Authenticate": "Bearer" } : {}),
    ...(error.retryAfter === undefined ? {} : { "Retry-After": String(error.retryAfter) }),
  };
}

/** The answer to a request that failed. */
export function errorAnswer(c: Context, thrown: unknown, log: Logger): Response {
  return errorResponse(thrown, log, requestId(c), crossOriginHeaders(c));
}

/** The answer to a request that failed before there was a route for it, see {@link refusal}. */
export function errorResponse(
  ...failure: [thrown: unknown, log: Logger, id: string, more?: Readonly<Record<string, string>>]
): Response {
  const { body, status, headers } = refusal(...failure);
  return new Response(body as string, { status, headers });
}

/**
 * The only place where error bodies are made.
 *
 * @param id of the request
 * @param more headers that the answer must have as well
 */
export function refusal(
  thrown: unknown,
  log: Logger,
  id: string,
  more?: Readonly<Record<string, string>>,
): Answer {
  const error = publicError(thrown, log, id);
  const headers: Record<string, string> = { ...more, ...errorHeaders(error), "X-Request-Id": id };
  const allow = error.details?.allow;
  if (error.code === "method_not_allowed" && Array.isArray(allow)) headers.Allow = allow.join(", ");
  return { body: JSON.stringify(error.toBody(id)), status: error.status, headers };
}
