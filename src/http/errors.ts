import type { HttpBindings } from "@hono/node-server";
import type { Context } from "hono";
import type { Logger } from "pino";
import { forgeErrorForm } from "../dialects/forge/errors.ts";
import { kestraErrorForm } from "../dialects/kestra/errors.ts";
import { isKestraPath } from "../dialects/kestra/paths.ts";
import { KvError } from "../protocol/errors.ts";
import { commonHeaders, type Answer } from "./answer.ts";
import { noteError } from "./note.ts";
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

/** How an error is told, as those expect it who ask. */
type ErrorForm = (
  error: KvError,
  id: string,
) => { status: number; body: unknown; headers?: Record<string, string> };

const ownForm: ErrorForm = (error, id) => ({ status: error.status, body: error.toBody(id) });

/** Where clients of other systems ask, and how they are told of errors. */
const dialectForms: readonly [asksThere: (path: string) => boolean, form: ErrorForm][] = [
  [(path) => path.startsWith("/compat/forge/"), forgeErrorForm],
  [isKestraPath, kestraErrorForm],
];

function errorFormOf(url: string): ErrorForm {
  const path = url.slice(url.indexOf("/", url.indexOf("//") + 2));
  return dialectForms.find(([asksThere]) => asksThere(path))?.[1] ?? ownForm;
}

/** The answer to a request that failed. */
export function errorAnswer(c: Context, thrown: unknown, log: Logger): Response {
  const id = requestId(c);
  noteError((c.env as HttpBindings).incoming, thrown, id);
  return errorResponse(thrown, log, id, c.req.url, commonHeaders(c));
}

/**
 * The answer to a request that failed before there was a route for it, see {@link refusal}.
 *
 * @param url of the request, which decides how the error is told
 */
export function errorResponse(
  thrown: unknown,
  log: Logger,
  id: string,
  url: string,
  more?: Readonly<Record<string, string>>,
): Response {
  const { body, status, headers } = refusal(thrown, log, id, more, errorFormOf(url));
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
  form = ownForm,
): Answer {
  const error = publicError(thrown, log, id);
  const { status, body, headers: own } = form(error, id);
  const headers: Record<string, string> = {
    ...more,
    ...errorHeaders(error),
    ...own,
    "X-Request-Id": id,
  };
  const allow = error.details?.allow;
  if (error.code === "method_not_allowed" && Array.isArray(allow)) headers.Allow = allow.join(", ");
  return { body: JSON.stringify(body), status, headers };
}
