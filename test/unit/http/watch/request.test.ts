import { describe, expect, test } from "vitest";
import {
  isOfConfig,
  parseAddress,
  parseWatchFrame,
  type WatchTarget,
} from "../../../../src/http/watch/request.ts";
import { KvError } from "../../../../src/protocol/errors.ts";

const position = "mjwe1cwu-7-1a";

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return "none";
}

function seen({ bucket, options: { patterns, ...options } }: WatchTarget): object {
  return { bucket, keys: patterns.map(({ text }) => text), ...options };
}

function address(query: string): object {
  const target = parseAddress(`/api/v1/kv/buckets/b/watch${query}`);
  if (target === "multiplexed" || isOfConfig(target)) throw new Error("not of a bucket");
  return seen(target);
}

describe("the address of a watch", () => {
  test("names the bucket, and has defaults for the rest", () => {
    for (const query of ["", "?", "?other=1"]) {
      expect(address(query)).toEqual({
        bucket: "b",
        keys: [">"],
        include: "snapshot",
        values: true,
      });
    }
  });

  test("says everything else in its query", () => {
    expect(address(`?key=a.*&key=%C3%A9+x&include=history&values=false&since=${position}`)).toEqual(
      {
        bucket: "b",
        keys: ["a.*", "é x"],
        include: "history",
        values: false,
        since: position,
      },
    );
  });

  test.each([
    ["", true],
    ["true", true],
    ["1", true],
    ["false", false],
    ["0", false],
  ])("takes %j for values", (text, values) => {
    expect(address(`?values=${text}`)).toMatchObject({ values });
  });

  test.each([
    ["", "base64"],
    ["?values=false", false],
  ])("for clients that read base64 says so (%j)", (query, values) => {
    const target = parseAddress(`/compat/ironflow/api/v1/kv/buckets/b/watch${query}`);
    expect(target).toMatchObject({ bucket: "b", options: { values } });
  });

  test("of the socket for many watches names nothing", () => {
    expect(parseAddress("/api/v1/kv/watch")).toBe("multiplexed");
    expect(parseAddress("/api/v1/kv/watch?x=1")).toBe("multiplexed");
  });

  test.each([
    ["/", "not_found"],
    ["/api/v1/kv/buckets/b/watch/", "not_found"],
    ["/api/v1/kv/buckets/a/b/watch", "not_found"],
    ["/api/v1/kv/watch/", "not_found"],
    ["/api/v1/kv/buckets/%/watch", "invalid_bucket_name"],
    ["/api/v1/kv/buckets/SYS_x/watch", "invalid_bucket_name"],
    ["/api/v1/kv/buckets/a%2Fb/watch", "invalid_bucket_name"],
    ["/api/v1/kv/buckets/b/watch?key=", "invalid_filter"],
    ["/api/v1/kv/buckets/b/watch?key=%ff", "invalid_filter"],
    ["/api/v1/kv/buckets/b/watch?key=a%00b", "invalid_filter"],
    [`/api/v1/kv/buckets/b/watch?${"key=a&".repeat(65)}`, "invalid_filter"],
    ["/api/v1/kv/buckets/b/watch?include=all", "invalid_request"],
    ["/api/v1/kv/buckets/b/watch?values=no", "invalid_request"],
    ["/api/v1/kv/buckets/b/watch?since=", "invalid_request"],
    ["/api/v1/kv/buckets/b/watch?since=7", "invalid_request"],
    ["/api/v1/kv/buckets/b/watch?since=a-b-c-d", "invalid_request"],
    ["/api/v1/kv/buckets/b/watch?since=A-1", "invalid_request"],
  ])("is refused when it is %s", (url, code) => {
    expect(codeOf(() => parseAddress(url))).toBe(code);
  });
});

describe("filters", () => {
  test("that were read before are the same ones", () => {
    const read = (query: string): unknown =>
      (parseAddress(`/api/v1/kv/buckets/b/watch${query}`) as WatchTarget).options.patterns;
    expect(read("?key=a.*&key=b")).toBe(read("?key=a.*&key=b&include=updates"));
    expect(read("")).toBe(read(""));
  });

  test("are never taken for others, however they are written", () => {
    const keysOf = (query: string): unknown => (address(query) as { keys: unknown }).keys;
    expect(keysOf("?key=a&key=b")).toEqual(["a", "b"]);
    expect(keysOf("?key=a%0Ab")).toEqual(["a\nb"]);
    expect(keysOf("?key=a%2Cb")).toEqual(["a,b"]);
    expect(keysOf("?key=a%22%2C%22b")).toEqual(['a","b']);
    for (let i = 0; i < 3_000; i++) expect(keysOf(`?key=k${i}`)).toEqual([`k${i}`]);
    expect(keysOf("?key=k1")).toEqual(["k1"]);
  });
});

describe("a frame that asks for a watch", () => {
  const frame = { type: "watch", id: "1", bucket: "b" };

  test("has defaults", () => {
    expect(seen(parseWatchFrame(frame))).toEqual({
      bucket: "b",
      keys: [">"],
      include: "snapshot",
      values: true,
    });
  });

  test("can say everything", () => {
    const all = { keys: ["x", "y.>"], include: "updates", values: false, since: position };
    expect(seen(parseWatchFrame({ ...frame, ...all }))).toEqual({ bucket: "b", ...all });
  });

  test.each([
    ["no bucket", { bucket: undefined }, "invalid_request"],
    ["a bucket that is none", { bucket: 7 }, "invalid_request"],
    ["a bad name", { bucket: "a b" }, "invalid_bucket_name"],
    ["keys that are no list", { keys: "a" }, "invalid_request"],
    ["a key that is no text", { keys: [1] }, "invalid_request"],
    ["an empty key", { keys: [""] }, "invalid_filter"],
    ["too many keys", { keys: Array.from({ length: 65 }, () => "a") }, "invalid_filter"],
    ["another include", { include: "all" }, "invalid_request"],
    ["values that are no flag", { values: "false" }, "invalid_request"],
    ["a position that is none", { since: "x" }, "invalid_request"],
    ["a member that is not known", { filter: "a" }, "invalid_request"],
  ])("is refused for %s", (_what, more, code) => {
    expect(codeOf(() => parseWatchFrame({ ...frame, ...more }))).toBe(code);
  });
});
