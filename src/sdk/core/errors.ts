import type { ErrorBody, ErrorCode } from "../../protocol/errors.ts";

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
  cause?: unknown;
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
  readonly code: JetbucketErrorCode;
  /** HTTP status of the answer; undefined when there was none. */
  readonly status: number | undefined;
  /** Machine-readable facts about the failure, as the server sent them. */
  readonly details: Record<string, unknown> | undefined;
  /** The server's id of the request, to find it in its log. */
  readonly requestId: string | undefined;
  /** Whether the same call may succeed later without a change to it. */
  readonly retryable: boolean;
  /** Seconds after which the server thinks that a retry makes sense. */
  readonly retryAfter: number | undefined;

  constructor(code: JetbucketErrorCode, message: string, options: JetbucketErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "JetbucketError";
    this.code = code;
    this.status = options.status;
    this.details = options.details;
    this.requestId = options.requestId;
    this.retryable = options.retryable ?? false;
    this.retryAfter = options.retryAfter;
  }

  /** The key's revision on the server, where a condition on it failed; 0 when the key does not exist. */
  get currentRevision(): number | undefined {
    const revision = this.details?.current_revision;
    return typeof revision === "number" ? revision : undefined;
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
  const code = body?.code ?? codeOfStatus[status] ?? "bad_response";
  return new JetbucketError(code, body?.error ?? `the server answered ${status}`, {
    status,
    details: body?.details,
    requestId: body?.request_id,
    retryable: body?.retryable ?? (status === 429 || (status >= 502 && status <= 504)),
    retryAfter: seconds >= 0 ? seconds : undefined,
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
export function errorOf(thrown: unknown, code: JetbucketErrorCode, what: string): JetbucketError {
  if (thrown instanceof JetbucketError) return thrown;
  return new JetbucketError(code, `${what}: ${reasonOf(thrown)}`, {
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
