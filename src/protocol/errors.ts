/**
 * The one error that jetbucket throws on purpose. Its code is stable and decides the HTTP status; its message
 * is a sentence that a person can act on and may be reworded at any time.
 */

const statusOf = {
  invalid_request: 400,
  invalid_bucket_name: 400,
  invalid_key: 400,
  invalid_filter: 400,
  invalid_ttl: 400,
  invalid_json: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  bucket_not_found: 404,
  key_not_found: 404,
  revision_not_found: 404,
  config_not_found: 404,
  secret_not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  bucket_exists: 409,
  secret_exists: 409,
  config_differs: 409,
  key_exists: 412,
  revision_mismatch: 412,
  value_too_large: 413,
  address_too_long: 414,
  unsupported_media_type: 415,
  rate_limited: 429,
  too_many_watches: 429,
  headers_too_large: 431,
  internal: 500,
  secret_unreadable: 500,
  unsupported: 501,
  store_unavailable: 503,
  secrets_disabled: 503,
  too_many_sockets: 503,
  shutting_down: 503,
  bucket_full: 507,
} as const;

/** A stable name of what went wrong. */
export type ErrorCode = keyof typeof statusOf;

/** The form in which every error travels over HTTP. */
export interface ErrorBody {
  error: string;
  code: ErrorCode;
  retryable: boolean;
  request_id?: string;
  details?: Record<string, unknown>;
}

export interface KvErrorOptions {
  /** Machine-readable facts about the failure, for instance `current_revision`. */
  details?: Record<string, unknown>;
  /** What led to it. Goes to the log, never to the client. */
  cause?: unknown;
  /** Seconds after which a retry makes sense; sent as `Retry-After`. */
  retryAfter?: number;
}

/**
 * @example
 * throw new KvError("key_not_found", `key "theme" does not exist`);
 */
export class KvError extends Error {
  override readonly name = "KvError";
  readonly code: ErrorCode;
  readonly details: Record<string, unknown> | undefined;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, options: KvErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details;
    this.retryAfter = options.retryAfter;
  }

  /** The HTTP status that belongs to the code. */
  get status(): number {
    return statusOf[this.code];
  }

  /** Whether the same request may succeed later without a change to it. */
  get retryable(): boolean {
    return this.status === 429 || (this.status === 503 && this.code !== "secrets_disabled");
  }

  /** The error as it goes over the wire. */
  toBody(requestId?: string): ErrorBody {
    return {
      error: this.message,
      code: this.code,
      retryable: this.retryable,
      ...(requestId === undefined ? {} : { request_id: requestId }),
      ...(this.details === undefined ? {} : { details: this.details }),
    };
  }
}

/** Whether a code is one that this version knows. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(statusOf, code);
}
