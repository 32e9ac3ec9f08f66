import { describe, expect, test } from "vitest";
import { Grants } from "../../../src/auth/grants.ts";
import { anonymous, nobody, type Principal } from "../../../src/auth/principal.ts";
import { addressReader, networkOf } from "../../../src/http/address.ts";
import { RateLimits, TokenBuckets } from "../../../src/http/rate-limits.ts";
import { KvError } from "../../../src/protocol/errors.ts";

const key: Principal = { kind: "key", id: "k", grants: Grants.all };

describe("token buckets", () => {
  test("allow a burst, then so many a second, and say how much is missing", () => {
    const buckets = new TokenBuckets({ perSecond: 10, burst: 3 });
    expect([0, 0, 0].map((at) => buckets.take("a", at))).toEqual([2, 1, 0]);
    expect(buckets.take("a", 0)).toBe(-1);
    expect(buckets.take("a", 50)).toBe(-0.5);
    expect(buckets.take("a", 100)).toBe(0);
    expect(buckets.take("b", 100)).toBe(2);
  });

  test("fill up to the burst and not beyond", () => {
    const buckets = new TokenBuckets({ perSecond: 10, burst: 3 });
    buckets.take("a", 0);
    expect(buckets.take("a", 1_000_000)).toBe(2);
  });

  test("are bounded: whoever has not asked the longest is forgotten first", () => {
    const buckets = new TokenBuckets({ perSecond: 1, burst: 2 }, 2);
    buckets.take("rested", 0);
    buckets.take("busy", 2_500);
    buckets.take("third", 2_600);
    expect(buckets.take("busy", 2_600)).toBeCloseTo(0.1);
    buckets.take("fourth", 2_600);
    expect(buckets.take("busy", 2_600)).toBeCloseTo(-0.9);
    expect(buckets.take("third", 2_600)).toBe(1);
  });
});

describe("the limits of a gateway", () => {
  test("count each principal, and each address but those of this machine", () => {
    const limits = new RateLimits({ perSecond: 1, burst: 2 });
    const codes = (principal: Principal, address: string): (string | undefined)[] =>
      [1, 2, 3].map(() => limits.take(principal, address).refusal?.code);
    expect(codes(key, "127.0.0.1")).toEqual([undefined, undefined, "rate_limited"]);
    const others = ["a", "b", "c"].map(
      (id) => limits.take({ ...key, id }, "192.0.2.1").refusal?.code,
    );
    expect(others).toEqual([undefined, undefined, "rate_limited"]);
    expect(codes(nobody, "192.0.2.2")).toEqual([undefined, undefined, "rate_limited"]);
    expect(codes(anonymous, "192.0.2.1")).toEqual([undefined, undefined, undefined]);
  });

  test("tell what is left, and when to come again", () => {
    const limits = new RateLimits({ perSecond: 2, burst: 4 });
    expect(limits.take(key, undefined).headers).toEqual({
      "RateLimit-Policy": '"default";q=4;w=2',
      RateLimit: '"default";r=3;t=1',
    });
    for (let i = 0; i < 3; i++) limits.take(key, undefined);
    const { headers, refusal } = limits.take(key, undefined);
    expect(headers?.RateLimit).toBe('"default";r=0;t=3');
    expect(refusal).toMatchObject({ status: 429, retryable: true, retryAfter: 1 });
  });

  test("let few attempts fail, by address, and nothing else than failed ones", () => {
    const limits = new RateLimits(undefined);
    const wrong = new KvError("unauthenticated", "no");
    const away = new KvError("store_unavailable", "away");
    for (let i = 0; i < 30; i++) expect(limits.failed(wrong, "192.0.2.1")).toBe(wrong);
    expect(limits.failed(wrong, "192.0.2.1")).toMatchObject({ code: "rate_limited" });
    expect(limits.failed(away, "192.0.2.1")).toBe(away);
    expect(limits.failed(wrong, "192.0.2.2")).toBe(wrong);
  });
});

test("a bucket that was asked lately outlives newer ones that were not", () => {
  const buckets = new TokenBuckets({ perSecond: 0.001, burst: 2 }, 2);
  for (const id of ["a", "b", "a", "a", "c"]) buckets.take(id, 0);
  expect(buckets.take("a", 0)).toBe(-1);
  expect(buckets.take("b", 0)).toBe(1);
});

test.each([
  ["192.0.2.1", "192.0.2.1"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:DB8:0001:2::9", "2001:db8:1:2::/64"],
  ["2001:db8::9", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
])("%s is counted as %s", (address, network) => {
  expect(networkOf(address)).toBe(network);
});

test.each([
  [0, "203.0.113.9", "10.0.0.1"],
  [1, undefined, "10.0.0.1"],
  [1, "203.0.113.9", "203.0.113.9"],
  [1, "spoofed, 203.0.113.9", "203.0.113.9"],
  [2, "spoofed, 203.0.113.9, 10.0.0.2", "203.0.113.9"],
  [3, "203.0.113.9, 10.0.0.2", "10.0.0.1"],
])("with %d believed proxies and X-Forwarded-For %s it is %s", (proxies, told, expected) => {
  const request = {
    headers: told === undefined ? {} : { "x-forwarded-for": told },
    socket: { remoteAddress: "10.0.0.1" },
  };
  expect(addressReader(proxies)(request as Parameters<ReturnType<typeof addressReader>>[0])).toBe(
    expected,
  );
});

test("whoever has many addresses of one network has one rate", () => {
  const limits = new RateLimits({ perSecond: 1, burst: 2 });
  const from = (last: number) => limits.take(nobody, `2001:db8:1:2::${last}`).refusal?.code;
  expect([1, 2, 3].map(from)).toEqual([undefined, undefined, "rate_limited"]);
  expect(limits.refused).toBe(1);
});
