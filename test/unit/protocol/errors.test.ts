import { describe, expect, test } from "vitest";
import { isErrorCode, KvError, type ErrorCode } from "../../../src/protocol/errors.ts";

describe("an error", () => {
  test.each<[ErrorCode, number, boolean]>([
    ["invalid_request", 400, false],
    ["invalid_json", 400, false],
    ["unauthenticated", 401, false],
    ["forbidden", 403, false],
    ["not_found", 404, false],
    ["bucket_not_found", 404, false],
    ["key_not_found", 404, false],
    ["method_not_allowed", 405, false],
    ["bucket_exists", 409, false],
    ["key_exists", 412, false],
    ["revision_mismatch", 412, false],
    ["value_too_large", 413, false],
    ["unsupported_media_type", 415, false],
    ["rate_limited", 429, true],
    ["internal", 500, false],
    ["unsupported", 501, false],
    ["store_unavailable", 503, true],
    ["shutting_down", 503, true],
    ["secrets_disabled", 503, false],
    ["bucket_full", 507, false],
  ])("%s has the status %i; retrying may help: %s", (code, status, retryable) => {
    const error = new KvError(code, "no");
    expect(error.status).toBe(status);
    expect(error.retryable).toBe(retryable);
  });

  test("travels with its message, code, request id and details, and without its cause", () => {
    const error = new KvError("revision_mismatch", "it moved on", {
      details: { current_revision: 7 },
      cause: new Error("secret"),
    });
    expect(error.toBody("r-1")).toEqual({
      error: "it moved on",
      code: "revision_mismatch",
      retryable: false,
      request_id: "r-1",
      details: { current_revision: 7 },
    });
    expect(error.cause).toBeInstanceOf(Error);
  });

  test("leaves out what it does not have", () => {
    expect(new KvError("internal", "no").toBody()).toEqual({
      error: "no",
      code: "internal",
      retryable: false,
    });
  });
});

test("only own codes count as codes", () => {
  expect(isErrorCode("key_not_found")).toBe(true);
  for (const other of ["toString", "__proto__", "constructor", "", 404, null, undefined]) {
    expect(isErrorCode(other)).toBe(false);
  }
});
