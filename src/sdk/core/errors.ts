import type { ErrorBody, ErrorCode } from "../../protocol/errors.ts";
import type { StandardIssue } from "./standard-schema.ts";

/** What can go wrong on the client's side of the wire. */
export type ClientErrorCode =
  /** The call took longer than its `timeoutMs`. A write may have been stored all the same. */
  | "timeout"
  /** The server could not be reached, or the connection broke. A write may have been stored all the same. */
  | "network"
  /** The caller's `signal` ended the call. */
  | "aborted"
  /** Something answered, but not as a jetbucket server does: a proxy's error page, for instance. */
  | "bad_response"
  /** A value, read or about to be written, does not fit the bucket's schema; `issues` says where. */
  | "invalid_value"
  /** A callback of a watch threw; `cause` is what it threw. */
  | "callback_failed";

/** Every code that the SDK knows. A newer server may send others, so the type stays open. */
export type JetbucketErrorCode = ErrorCode | ClientErrorCode | (string & {});

/** What a {@link JetbucketError} is made of, beside its code and its message. */
export interface JetbucketErrorOptions {
  status?: number | undefined;
  details?: Record<string, unknown> | undefined;
  requestId?: string | undefined;
  retryable?: boolean | undefined;
  retryAfter?: number | undefined;
  issues?: readonly StandardIssue[] | undefined;
  cause?: unknown;
}

/** The operation at which a transaction failed. */
export interface FailedOperation {
  /** Its place among the operations, from 0. */
  index: number;
  key: string;
  /** What it was to do; undefined when it was refused before anything was tried. */
  op: "put" | "create" | "update" | "delete" | "purge" | "check" | undefined;
}

/**
 * The one error that the SDK rejects with; decide by its `code`, its message may be reworded at any time.
 * (Misuse that types forbid, such as putting `undefined`, is a plain `TypeError`.)
 *
 * @example
 * try {
 *   await bucket.update("theme", { mode: "light" }, entry.revision);
 * } catch (err) {
 *   if (err instanceof JetbucketError && err.code === "revision_mismatch") {
 *     console.log("somebody was faster, the key is at revision", err.currentRevision);
 *   } else throw err;
 * }
 */
export class JetbucketError extends Error {
  /** Stable name of what went wrong, for instance `key_not_found`. */
  declare readonly code: JetbucketErrorCode;
  /** HTTP status of the answer; undefined when there was none. */
  declare readonly status: number | undefined;
  /** Machine-readable facts about the failure, as the server sent them. */
  declare readonly details: Record<string, unknown> | undefined;
  /** The server's id of the request, to find it in its log. */
  declare readonly requestId: string | undefined;
  /** Whether the same call may succeed later without a change to it. */
  declare readonly retryable: boolean;
  /** Seconds after which the server thinks that a retry makes sense. */
  declare readonly retryAfter: number | undefined;
  /** What the schema says is wrong with a value; undefined for every code but `invalid_value`. */
  declare readonly issues: readonly StandardIssue[] | undefined;

  constructor(
    code: JetbucketErrorCode,
    message: string,
    { cause, retryable = false, ...facts }: JetbucketErrorOptions = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    Object.assign(this, facts, { name: "JetbucketError", code, retryable });
  }

  /** The key's revision on the server, where a condition on it failed; 0 when the key does not exist. */
  get currentRevision(): number | undefined {
    const revision = this.details?.current_revision;
    return typeof revision === "number" ? revision : undefined;
  }

  /** The operation at which a transaction failed; undefined for every other failure. */
  get operation(): FailedOperation | undefined {
    const { index, key, op } = (this.details ?? {}) as Partial<FailedOperation>;
    return index === undefined || key === undefined ? undefined : { index, key, op };
  }
}

/** The parts of a failed HTTP answer that make an error. */
export interface FailedAnswer {
  status: number;
  body: string;
  retryAfter: string | null | undefined;
}

/** The error of an HTTP answer that is no success, whoever wrote it: the server, or a proxy before it. */
export function errorOfAnswer(answer: FailedAnswer): JetbucketError {
  const { status } = answer;
  const body = parseErrorBody(answer.body);
  // The header may hold a date as well; that form is not worth its code.
  const seconds = Number.parseInt(answer.retryAfter ?? "", 10);
  const retryAfter = seconds >= 0 ? seconds : undefined;
  return errorOfBody(body ?? {}, status, retryAfter);
}

/** The error that a body describes, or, where it does not, an answer's status. */
export function errorOfBody(
  body: Partial<ErrorBody>,
  status?: number,
  retryAfter?: number,
): JetbucketError {
  const code = body.code ?? codeOfStatus[status ?? 0] ?? "bad_response";
  const isOutage = status === 429 || (status !== undefined && status >= 502 && status <= 504);
  return new JetbucketError(code, body.error ?? `the server answered ${status ?? "nothing"}`, {
    status,
    details: body.details,
    requestId: body.request_id,
    retryable: body.retryable ?? isOutage,
    retryAfter,
  });
}

/** For answers without a code: what a status alone says. */
const codeOfStatus: Record<number, ErrorCode> = {
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  405: "method_not_allowed",
  429: "rate_limited",
};

function parseErrorBody(text: string): Partial<ErrorBody> | undefined {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && "error" in body) {
      return body as Partial<ErrorBody>;
    }
  } catch {
    // Not JSON: the status has to do.
  }
  return undefined;
}

/** Any thrown value as a JetbucketError; those that are one already stay as they are. */
export function errorOf(
  thrown: unknown,
  code: JetbucketErrorCode,
  what: string,
  details?: Record<string, unknown>,
): JetbucketError {
  if (thrown instanceof JetbucketError) return thrown;
  return new JetbucketError(code, `${what}: ${reasonOf(thrown)}`, {
    details,
    cause: thrown,
    retryable: code === "network",
  });
}

/** Fetch hides why a connection failed in the cause of its error. */
function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const inner = thrown.cause;
  return inner instanceof Error && inner.message !== "" ? inner.message : thrown.message;
}
