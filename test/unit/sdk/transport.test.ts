import { describe, expect, test, vi } from "vitest";
import { createClient, JetbucketError } from "../../../src/sdk/node.ts";
import { KvError } from "../../../src/protocol/errors.ts";
import { startFakeGateway, wireEntry, type Answer } from "./fake-gateway.ts";

const unavailable = (headers: Record<string, string> = {}): Answer => ({
  status: 503,
  headers,
  body: new KvError("store_unavailable", "JetStream does not answer").toBody("r"),
});

async function failureOf(promise: Promise<unknown>): Promise<JetbucketError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(JetbucketError);
    return error as JetbucketError;
  }
  throw new Error("expected a rejection");
}

describe("a read that the server refuses for the moment", () => {
  test("is repeated and succeeds", async () => {
    const { url, requests } = await startFakeGateway({
      answer: (_, attempt) => (attempt < 3 ? unavailable() : { body: wireEntry("k", 1, 1) }),
    });
    const entry = await createClient({ serverUrl: url }).kv().bucket("b").get("k");
    expect(entry.value).toBe(1);
    expect(requests).toHaveLength(3);
  });

  test("is given up after the third attempt", async () => {
    const { url, requests } = await startFakeGateway({ answer: () => unavailable() });
    const error = await failureOf(createClient({ serverUrl: url }).kv().listBuckets());
    expect(error).toMatchObject({ code: "store_unavailable", status: 503, retryable: true });
    expect(requests).toHaveLength(3);
  });

  test("is not repeated when Retry-After lies behind the timeout", async () => {
    const { url, requests } = await startFakeGateway({
      answer: () => unavailable({ "retry-after": "30" }),
    });
    const error = await failureOf(createClient({ serverUrl: url }).kv().listBuckets());
    expect(error).toMatchObject({ code: "store_unavailable", retryAfter: 30 });
    expect(requests).toHaveLength(1);
  });

  test("waits as long as Retry-After says", async () => {
    const times: number[] = [];
    const { url } = await startFakeGateway({
      answer: (_, attempt) => {
        times.push(performance.now());
        return attempt === 1 ? unavailable({ "retry-after": "1" }) : { body: { buckets: [] } };
      },
    });
    await createClient({ serverUrl: url }).kv().listBuckets();
    expect(times[1]! - times[0]!).toBeGreaterThan(980);
  });

  test("can be aborted between two attempts", async () => {
    const controller = new AbortController();
    const { url, requests } = await startFakeGateway({
      answer: () => {
        setTimeout(() => controller.abort(), 50);
        return unavailable({ "retry-after": "5" });
      },
    });
    const { signal } = controller;
    const error = await failureOf(createClient({ serverUrl: url }).kv().listBuckets({ signal }));
    expect(error.code).toBe("aborted");
    expect(requests).toHaveLength(1);
  });
});

test("a write is sent once, even when the server calls it retryable", async () => {
  const { url, requests } = await startFakeGateway({ answer: () => unavailable() });
  const kv = createClient({ serverUrl: url }).kv();
  const bucket = kv.bucket("b");
  for (const write of [
    () => bucket.put("k", 1),
    () => bucket.create("k", 1),
    () => bucket.update("k", 1, 1),
    () => bucket.delete("k"),
    () => bucket.purge("k"),
    () => kv.createBucket({ name: "b" }),
    () => kv.updateBucket("b", {}),
    () => kv.deleteBucket("b"),
  ]) {
    requests.length = 0;
    expect((await failureOf(write())).code).toBe("store_unavailable");
    expect(requests).toHaveLength(1);
  }
});

test("a read that is refused for good is not repeated", async () => {
  const { url, requests } = await startFakeGateway({
    answer: () => ({ status: 404, body: new KvError("key_not_found", "no such key").toBody() }),
  });
  const error = await failureOf(createClient({ serverUrl: url }).kv().bucket("b").get("k"));
  expect(error.code).toBe("key_not_found");
  expect(requests).toHaveLength(1);
});

describe("a token that the server refuses", () => {
  const unauthenticated: Answer = {
    status: 401,
    body: new KvError("unauthenticated", "the token has expired").toBody(),
  };
  const startWith = (good: string) =>
    startFakeGateway({
      answer: ({ headers }) =>
        headers.authorization === `Bearer ${good}`
          ? { body: wireEntry("k", 1, 1) }
          : unauthenticated,
    });

  test("is replaced by another one, once, also for a write, which did not happen", async () => {
    const { url, requests } = await startWith("new");
    const getToken = vi.fn((refused?: string) => (refused === undefined ? "old" : "new"));
    await createClient({ serverUrl: url, getToken }).kv().bucket("b").put("k", 1);
    expect(getToken.mock.calls).toEqual([[undefined], ["old"]]);
    expect(requests).toHaveLength(2);
  });

  test("is not sent again when there is no other, or that is refused as well", async () => {
    const { url, requests } = await startWith("none");
    const clients = [{ apiKey: "old" }, { getToken: () => "old" }].map((how) =>
      createClient({ serverUrl: url, ...how }),
    );
    for (const client of clients) {
      expect(await failureOf(client.kv().listBuckets())).toMatchObject({ status: 401 });
    }
    expect(requests).toHaveLength(2);
    let count = 0;
    const client = createClient({ serverUrl: url, getToken: () => `t${++count}` });
    expect(await failureOf(client.kv().listBuckets())).toMatchObject({ status: 401 });
    expect(requests).toHaveLength(4);
  });
});

describe("a call ends with code", () => {
  test("timeout when there is no answer in time", async () => {
    const { url } = await startFakeGateway({ answer: () => "never" });
    const bucket = createClient({ serverUrl: url, timeoutMs: 30 }).kv().bucket("b");
    expect(await failureOf(bucket.put("k", 1))).toMatchObject({
      code: "timeout",
      retryable: true,
      message: "no answer within 30 ms",
    });
  });

  test("timeout by the call's own limit", async () => {
    const { url } = await startFakeGateway({ answer: () => "never" });
    const bucket = createClient({ serverUrl: url }).kv().bucket("b");
    expect((await failureOf(bucket.get("k", { timeoutMs: 20 }))).message).toContain("20 ms");
  });

  test("timeout also when the token does not come", async () => {
    const getToken = () => new Promise<string>(() => undefined);
    const client = createClient({ serverUrl: "http://127.0.0.1:1", getToken, timeoutMs: 20 });
    expect((await failureOf(client.kv().listBuckets())).code).toBe("timeout");
  });

  test("aborted by the caller's signal, with its reason as the cause", async () => {
    const { url, requests } = await startFakeGateway({ answer: () => "never" });
    const controller = new AbortController();
    const bucket = createClient({ serverUrl: url }).kv().bucket("b");
    const call = failureOf(bucket.get("k", { signal: controller.signal }));
    await vi.waitFor(() => expect(requests).toHaveLength(1));
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await call).toMatchObject({ code: "aborted", cause: reason });
  });

  test("aborted without a request when the signal is aborted already", async () => {
    const { url, requests } = await startFakeGateway();
    const bucket = createClient({ serverUrl: url }).kv().bucket("b");
    const signal = AbortSignal.abort();
    expect((await failureOf(bucket.put("k", 1, { signal }))).code).toBe("aborted");
    expect(requests).toHaveLength(0);
  });

  test("network when nobody listens", async () => {
    // Port 1 is never given out, and needs privileges to listen on.
    const client = createClient({ serverUrl: "http://127.0.0.1:1" });
    const error = await failureOf(client.kv().listBuckets());
    expect(error).toMatchObject({ code: "network", retryable: true });
    expect(error.status).toBeUndefined();
    expect(error.message).toContain("cannot reach http://127.0.0.1:1: ");
    expect(error.message).not.toContain("fetch failed");
  });

  test("bad_response when something else answers", async () => {
    for (const body of ["<html>hello</html>", ""]) {
      const { url } = await startFakeGateway({ answer: () => ({ body }) });
      const error = await failureOf(createClient({ serverUrl: url }).kv().listBuckets());
      expect(error).toMatchObject({ code: "bad_response", status: 200 });
    }
  });

  test("unauthenticated when getToken throws", async () => {
    const thrown = new Error("session is over");
    const client = createClient({
      serverUrl: "http://127.0.0.1:1",
      getToken: () => Promise.reject(thrown),
    });
    expect(await failureOf(client.kv().listBuckets())).toMatchObject({
      code: "unauthenticated",
      cause: thrown,
    });
  });
});

test("a call leaves no listener on its signal", async () => {
  const { url } = await startFakeGateway({ answer: () => ({ body: { buckets: [] } }) });
  const { signal } = new AbortController();
  const added = vi.spyOn(signal, "addEventListener");
  const removed = vi.spyOn(signal, "removeEventListener");
  await createClient({ serverUrl: url }).kv().listBuckets({ signal });
  expect(added).toHaveBeenCalled();
  expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
});

test("timeoutMs 0 waits on, and nonsense is refused", async () => {
  const { url } = await startFakeGateway({ answer: () => ({ body: { buckets: [] } }) });
  const kv = createClient({ serverUrl: url, timeoutMs: 0 }).kv();
  expect(await kv.listBuckets()).toEqual([]);
  expect(await kv.listBuckets({ timeoutMs: Infinity })).toEqual([]);
  await expect(kv.listBuckets({ timeoutMs: -1 })).rejects.toThrow(TypeError);
  await expect(kv.listBuckets({ timeoutMs: NaN })).rejects.toThrow(TypeError);
});
