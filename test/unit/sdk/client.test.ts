import fc from "fast-check";
import { afterEach, describe, expect, expectTypeOf, test, vi } from "vitest";
import { createClient, type Bucket, type Entry } from "../../../src/sdk/node.ts";
import { KvError } from "../../../src/protocol/errors.ts";
import { startFakeGateway, wireEntry, type FakeGatewayOptions } from "./fake-gateway.ts";

async function start(answer?: FakeGatewayOptions["answer"]) {
  const gateway = await startFakeGateway(answer === undefined ? {} : { answer });
  const kv = createClient({ serverUrl: gateway.url, apiKey: "key-1" }).kv();
  return { ...gateway, kv, bucket: kv.bucket("settings") };
}

const prefix = "/api/v1/kv/buckets";
const written = { revision: 7, created_at: "2026-01-01T00:00:00.000Z" };

afterEach(() => vi.unstubAllEnvs());

describe("buckets", () => {
  const wireInfo = {
    name: "settings",
    ttl_seconds: 3600,
    max_value_size: 10,
    history: 5,
    replicas: 1,
    storage: "file",
    compression: false,
    values: 3,
    keys: 2,
    bytes: 100,
    created_at: "2026-01-01T00:00:00.000Z",
  };
  const info = {
    name: "settings",
    ttlSeconds: 3600,
    maxValueSize: 10,
    history: 5,
    replicas: 1,
    storage: "file",
    compression: false,
    values: 3,
    keys: 2,
    bytes: 100,
    createdAt: "2026-01-01T00:00:00.000Z",
  };

  test("are created by settings in the wire's spelling", async () => {
    const { kv, requests } = await start(() => ({ status: 201, body: wireInfo }));
    const created = await kv.createBucket({
      name: "settings",
      description: "d",
      ttlSeconds: 3600,
      maxValueSize: 10,
      maxBytes: 1000,
      history: 5,
      replicas: 1,
      storage: "file",
      compression: true,
    });
    expect(created).toEqual(info);
    expect(requests[0]).toMatchObject({ method: "POST", url: prefix });
    expect(requests[0]!.headers["content-type"]).toBe("application/json");
    expect(JSON.parse(requests[0]!.body.toString())).toEqual({
      name: "settings",
      description: "d",
      ttl_seconds: 3600,
      max_value_size: 10,
      max_bytes: 1000,
      history: 5,
      replicas: 1,
      storage: "file",
      compression: true,
    });
  });

  test("are listed, read, changed and deleted", async () => {
    const { kv, requests } = await start(({ method, url }) =>
      method === "DELETE"
        ? { status: 204 }
        : { body: url === prefix ? { buckets: [wireInfo], count: 1 } : wireInfo },
    );
    expect(await kv.listBuckets()).toEqual([info]);
    expect(await kv.getBucketInfo("settings")).toEqual(info);
    expect(await kv.updateBucket("settings", { history: 5, ttlSeconds: 0 })).toEqual(info);
    await kv.deleteBucket("settings");
    expect(requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      `GET ${prefix}`,
      `GET ${prefix}/settings`,
      `PATCH ${prefix}/settings`,
      `DELETE ${prefix}/settings`,
    ]);
    expect(JSON.parse(requests[2]!.body.toString())).toEqual({ history: 5, ttl_seconds: 0 });
  });
});

describe("a write", () => {
  test("carries its value and its condition", async () => {
    const { bucket, requests } = await start(() => ({
      body: { ...written, expires_at: "2027-01-01T00:00:00.000Z" },
    }));
    const result = await bucket.put("theme", { mode: "dark" });
    expect(result).toEqual({
      revision: 7,
      createdAt: written.created_at,
      expiresAt: "2027-01-01T00:00:00.000Z",
    });
    await bucket.create("theme", "text");
    await bucket.update("theme", new Uint8Array([255]), 0);
    const seen = requests.map(({ method, url, headers, body }) => [
      `${method} ${url}`,
      headers["content-type"],
      headers["if-none-match"],
      headers["if-match"],
      body.toString("latin1"),
    ]);
    const put = `PUT ${prefix}/settings/keys/theme`;
    expect(seen).toEqual([
      [put, "application/json", undefined, undefined, '{"mode":"dark"}'],
      [put, "text/plain", "*", undefined, "text"],
      [put, "application/octet-stream", undefined, "0", "\u00ff"],
    ]);
  });

  test("of undefined, or under a condition that is no revision, is refused before any request", async () => {
    const { bucket, requests } = await start();
    await expect(bucket.put("k", undefined)).rejects.toThrow(TypeError);
    for (const revision of [undefined, null, NaN, -1, 1.5, "7"]) {
      await expect(bucket.update("k", 1, revision as number)).rejects.toThrow(TypeError);
    }
    await expect(bucket.delete("k", { ifRevision: NaN })).rejects.toThrow(TypeError);
    await expect(bucket.put("", 1)).rejects.toMatchObject({ code: "invalid_key" });
    expect(requests).toHaveLength(0);
  });

  test("that conflicts says where the key is", async () => {
    const conflict = new KvError("revision_mismatch", "no", { details: { current_revision: 9 } });
    const { bucket } = await start(() => ({ status: 412, body: conflict.toBody() }));
    await expect(bucket.update("k", 1, 3)).rejects.toMatchObject({
      code: "revision_mismatch",
      status: 412,
      currentRevision: 9,
    });
  });

  test("can delete: softly, under a condition, with its history", async () => {
    const { bucket, requests } = await start(() => ({ status: 204 }));
    await bucket.delete("k");
    await bucket.delete("k", { ifRevision: 0 });
    await bucket.purge("k");
    expect(requests.map(({ url, headers }) => [url, headers["if-match"]])).toEqual([
      [`${prefix}/settings/keys/k`, undefined],
      [`${prefix}/settings/keys/k`, "0"],
      [`${prefix}/settings/keys/k?purge=true`, undefined],
    ]);
  });
});

describe("a read", () => {
  test("gives the value in its own form", async () => {
    const { bucket } = await start(({ url }) => {
      const base = { revision: 3, created_at: written.created_at, operation: "put" };
      if (url.endsWith("/json")) return { body: { ...base, key: "json", encoding: "json", value: { a: 1 } } }; // prettier-ignore
      if (url.endsWith("/text"))
        return {
          body: { ...base, key: "text", encoding: "text", value: "1", content_type: "text/html" },
        };
      return {
        body: {
          ...base,
          key: "bytes",
          encoding: "base64",
          value: "/wA=",
          expires_at: "2027-01-01T00:00:00.000Z",
        },
      };
    });
    const common = { revision: 3, createdAt: written.created_at, operation: "put" };
    expect(await bucket.get("json")).toEqual({
      ...common,
      key: "json",
      encoding: "json",
      value: { a: 1 },
    });
    expect(await bucket.get("text")).toEqual({
      ...common,
      key: "text",
      encoding: "text",
      value: "1",
      contentType: "text/html",
    });
    expect(await bucket.get("bytes")).toEqual({
      ...common,
      key: "bytes",
      encoding: "base64",
      value: new Uint8Array([255, 0]),
      expiresAt: "2027-01-01T00:00:00.000Z",
    });
  });

  test("of an older revision names it", async () => {
    const { bucket, requests } = await start(() => ({ body: wireEntry("k", 1, 2) }));
    await bucket.get("k", { revision: 2 });
    await bucket.get("a/../k", { revision: 2 });
    expect(requests.map(({ url }) => url)).toEqual([
      `${prefix}/settings/keys/k?revision=2`,
      `${prefix}/settings/entry?key=a%2F..%2Fk&revision=2`,
    ]);
  });

  test("of a key that is not there rejects, or finds undefined", async () => {
    const { bucket } = await start(({ url }) => {
      const code = url.includes("revision") ? "revision_not_found" : "key_not_found";
      return { status: 404, body: new KvError(code, "no").toBody() };
    });
    await expect(bucket.get("k")).rejects.toMatchObject({ code: "key_not_found" });
    expect(await bucket.find("k")).toBeUndefined();
    expect(await bucket.find("k", { revision: 3 })).toBeUndefined();
  });

  test("of a bucket that is not there rejects in either case", async () => {
    const body = new KvError("bucket_not_found", "no").toBody();
    const { bucket } = await start(() => ({ status: 404, body }));
    await expect(bucket.find("k")).rejects.toMatchObject({ code: "bucket_not_found" });
  });

  test("lists keys, all or by a filter", async () => {
    const { bucket, requests } = await start(() => ({ body: { keys: ["a", "b"], count: 2 } }));
    expect(await bucket.listKeys()).toEqual(["a", "b"]);
    await bucket.listKeys("user.*");
    await bucket.listKeys("a&b.>");
    expect(requests.map(({ url }) => url)).toEqual([
      `${prefix}/settings/keys`,
      `${prefix}/settings/keys?filter=user.*`,
      `${prefix}/settings/keys?filter=a%26b.%3E`,
    ]);
  });

  test("of a history gives values and removals", async () => {
    const { bucket, requests } = await start(() => ({
      body: {
        entries: [
          wireEntry("k", 1, 1),
          { key: "k", revision: 2, created_at: "t", operation: "delete", reason: "purge" },
        ],
        count: 2,
      },
    }));
    const [first, second] = await bucket.history("k");
    expect(first).toMatchObject({ value: 1, operation: "put" });
    expect(second).toEqual({
      key: "k",
      revision: 2,
      createdAt: "t",
      operation: "delete",
      reason: "purge",
    });
    expect(requests[0]!.url).toBe(`${prefix}/settings/history/k`);
  });
});

test("any key arrives intact over real HTTP", async () => {
  const { bucket, requests } = await start(() => ({ body: written }));
  const unit = fc.constantFrom(".", "/", "%", "2", "F", "#", "?", "&", "+", " ", "\\", "ä", "😀");
  await fc.assert(
    fc.asyncProperty(fc.string({ unit, minLength: 1, maxLength: 12 }), async (key) => {
      requests.length = 0;
      await bucket.put(key, 1);
      const { pathname, searchParams } = new URL(requests[0]!.url, "http://localhost");
      const path = /\/settings\/keys\/(.+)$/.exec(pathname)?.[1];
      expect(path === undefined ? searchParams.get("key") : decodeURIComponent(path)).toBe(key);
    }),
    { numRuns: 200 },
  );
});

describe("a client", () => {
  test("is somebody: by key, by a token that is asked for each time, or nobody", async () => {
    vi.stubEnv("JETBUCKET_API_KEY", "");
    const { url, requests } = await startFakeGateway({ answer: () => ({ body: { buckets: [] } }) });
    let n = 0;
    const getToken = () => `token-${++n}`;
    const byToken = createClient({ serverUrl: url, getToken }).kv();
    await createClient({ serverUrl: url, apiKey: "key-1" }).kv().listBuckets();
    await byToken.listBuckets();
    await byToken.listBuckets();
    await createClient({ serverUrl: url }).kv().listBuckets();
    expect(requests.map(({ headers }) => headers.authorization)).toEqual([
      "Bearer key-1",
      "Bearer token-1",
      "Bearer token-2",
      undefined,
    ]);
    expect(() => createClient({ apiKey: "a", getToken })).toThrow(TypeError);
  });

  test("takes address and key from the environment", async () => {
    const { url, requests } = await startFakeGateway({ answer: () => ({ body: { buckets: [] } }) });
    vi.stubEnv("JETBUCKET_URL", url);
    vi.stubEnv("JETBUCKET_API_KEY", "from-env");
    await createClient().kv().listBuckets();
    await createClient({ apiKey: undefined, serverUrl: undefined }).kv().listBuckets();
    expect(requests.map(({ headers }) => headers.authorization)).toEqual([
      "Bearer from-env",
      "Bearer from-env",
    ]);
  });

  test("talks to localhost:9123 when nobody says otherwise, by the fetch it is given", async () => {
    vi.stubEnv("JETBUCKET_URL", "");
    const fetched: string[] = [];
    const fetch = (input: string | URL | Request) => {
      fetched.push(input as string);
      return Promise.resolve(Response.json({ buckets: [] }));
    };
    await createClient({ fetch }).kv().listBuckets();
    await createClient({ fetch, serverUrl: "https://example.com/kv/" }).kv().listBuckets();
    expect(fetched).toEqual([`http://localhost:9123${prefix}`, `https://example.com/kv${prefix}`]);
  });

  test.each(["localhost:9123", "nonsense", "ftp://x", ""])("refuses %j as an address", (url) => {
    expect(() => createClient({ serverUrl: url })).toThrow(/is no address/);
  });
});

test("values have the type that the bucket was given", () => {
  type Settings = { mode: "dark" | "light" };
  const bucket = createClient().kv().bucket<Settings>("settings");
  expectTypeOf(bucket).toEqualTypeOf<Bucket<Settings>>();
  type Read<T> = Awaited<ReturnType<Bucket<T>["get"]>>;
  expectTypeOf<Read<Settings>>().toEqualTypeOf<Entry<Settings>>();
  expectTypeOf<Read<unknown>["value"]>().toBeUnknown();
  expectTypeOf<Parameters<Bucket<Settings>["put"]>[1]>().toEqualTypeOf<Settings>();
});
