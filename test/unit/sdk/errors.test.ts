import { describe, expect, test } from "vitest";
import { errorOf, errorOfAnswer, JetbucketError } from "../../../src/sdk/core/errors.ts";
import { KvError } from "../../../src/protocol/errors.ts";

function answer(status: number, body: unknown, retryAfter?: string) {
  return errorOfAnswer({
    status,
    body: typeof body === "string" ? body : JSON.stringify(body),
    retryAfter,
  });
}

describe("an error answer", () => {
  test("of jetbucket becomes an error with all that it says", () => {
    const body = new KvError("revision_mismatch", "the key is at revision 7", {
      details: { current_revision: 7 },
    }).toBody("req-1");
    const error = answer(412, body);
    expect(error).toBeInstanceOf(JetbucketError);
    expect(error).toBeInstanceOf(Error);
    expect(error.name).toBe("JetbucketError");
    expect(error).toMatchObject({
      message: "the key is at revision 7",
      code: "revision_mismatch",
      status: 412,
      currentRevision: 7,
      details: { current_revision: 7 },
      requestId: "req-1",
      retryable: false,
    });
  });

  test("keeps a code that a newer server invented", () => {
    expect(answer(418, { error: "short and stout", code: "teapot" }).code).toBe("teapot");
  });

  test.each([
    [401, "unauthenticated", false],
    [403, "forbidden", false],
    [404, "not_found", false],
    [405, "method_not_allowed", false],
    [429, "rate_limited", true],
    [500, "bad_response", false],
    [502, "bad_response", true],
    [503, "bad_response", true],
    [504, "bad_response", true],
  ])("of a proxy with status %i gets code %s, retryable %s", (status, code, retryable) => {
    expect(answer(status, "<html>Bad Gateway</html>")).toMatchObject({ status, code, retryable });
  });

  test("in JSON that is not jetbucket's is judged by its status", () => {
    expect(answer(502, "null").code).toBe("bad_response");
    expect(answer(502, '"oops"').code).toBe("bad_response");
    expect(answer(404, { message: "no route" }).code).toBe("not_found");
  });

  test("says when to come back", () => {
    expect(answer(503, "", "3").retryAfter).toBe(3);
    expect(answer(503, "", "Wed, 21 Oct 2026 07:28:00 GMT").retryAfter).toBeUndefined();
    expect(answer(503, "").retryAfter).toBeUndefined();
  });
});

test("an error without a current revision has none, and 0 is one", () => {
  expect(new JetbucketError("revision_mismatch", "").currentRevision).toBeUndefined();
  const absent = new JetbucketError("revision_mismatch", "", { details: { current_revision: 0 } });
  expect(absent.currentRevision).toBe(0);
});

test("what somebody threw is told by its innermost reason, and kept as the cause", () => {
  const thrown = new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") });
  const error = errorOf(thrown, "network", "cannot reach http://x");
  expect(error).toMatchObject({ code: "network", retryable: true, cause: thrown });
  expect(error.message).toBe("cannot reach http://x: connect ECONNREFUSED");
  expect(errorOf(error, "timeout", "again")).toBe(error);
  expect(errorOf("just text", "unauthenticated", "no").message).toBe("no: just text");
});
