/** Errors as Forge's clients know them. They decide by the code, which is not one of ours. */
import { KvError, type ErrorCode } from "../../protocol/errors.ts";

/** What only this dialect refuses. The codes are Forge's own where its pages name one. */
const statusOf = {
  KEY_TOO_SHORT: 400,
  KEY_TOO_LONG: 400,
  INVALID_KEY: 400,
  MAX_SIZE: 400,
  MAX_DEPTH: 400,
  LIST_QUERY_LIMIT_EXCEEDED: 400,
  QUERY_WHERE_INVALID: 400,
  QUERY_WHERE_FIELD_INVALID: 400,
  INVALID_FILTER_CONDITION: 400,
  INVALID_FILTER_VALUES: 400,
  EMPTY_BATCH: 400,
  BATCH_LIMIT_EXCEEDED: 400,
  EMPTY_TRANSACTION: 400,
  TRANSACTION_LIMIT_EXCEEDED: 400,
  DUPLICATE_KEY: 400,
  CONDITIONAL_CHECK_FAILED: 409,
  ENTITIES_NOT_SUPPORTED: 501,
} as const;

export type ForgeCode = keyof typeof statusOf;

/** An error with a code of Forge's. */
export class ForgeError extends KvError {
  readonly forgeCode: ForgeCode;

  constructor(forgeCode: ForgeCode, message: string, details?: Record<string, unknown>) {
    super("invalid_request", message, details === undefined ? {} : { details });
    this.forgeCode = forgeCode;
  }

  override get status(): number {
    return statusOf[this.forgeCode];
  }
}

/** Ours that Forge has a name for; all others keep theirs, in capitals. */
const names: Partial<Record<ErrorCode, string>> = {
  key_exists: "KEY_CONFLICT",
  secret_exists: "KEY_CONFLICT",
  secret_not_found: "KEY_NOT_FOUND",
  value_too_large: "MAX_SIZE",
  rate_limited: "RATE_LIMIT_EXCEEDED",
};

const statuses: Partial<Record<ErrorCode, number>> = { key_exists: 409, value_too_large: 400 };

/** The code under which Forge's clients know an error. */
export function forgeCodeOf(error: KvError): string {
  if (error instanceof ForgeError) return error.forgeCode;
  return names[error.code] ?? error.code.toUpperCase();
}

/**
 * An error as Forge's clients read it.
 *
 * @param id of the request: the clients show it as the error's `traceId`
 */
export function forgeErrorForm(
  error: KvError,
  id: string,
): { status: number; body: unknown; headers: Record<string, string> } {
  const { message, details } = error;
  return {
    status: statuses[error.code] ?? error.status,
    body: { code: forgeCodeOf(error), message, ...(details && { context: details }) },
    headers: { "X-Trace-Id": id },
  };
}

export function entitiesNotSupported(): ForgeError {
  return new ForgeError(
    "ENTITIES_NOT_SUPPORTED",
    "custom entities are not served here: keep such objects under keys of their own",
  );
}
