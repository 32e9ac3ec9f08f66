import { describe, expect, test } from "vitest";
import { originPolicy } from "../../../src/http/origins.ts";

describe("without a list", () => {
  const policy = originPolicy([]);

  test.each([
    "http://localhost",
    "http://localhost:5173",
    "https://localhost:8443",
    "http://127.0.0.1:3000",
    "http://127.1.2.3",
    "http://[::1]:3000",
    "http://LOCALHOST:1",
  ])("pages of this machine may: %s", (origin) => {
    expect(policy.allows(origin, undefined)).toBe(true);
  });

  test.each([
    "https://example.com",
    "http://localhost.example.com",
    "http://localhost:1@example.com",
    "http://localhost:3000/",
    "http://127.0.0.1.example.com",
    "http://example.com/http://localhost",
    "http://example.com#http://localhost",
    "http://localhost\n.example.com",
    "file://",
    "null",
    "",
    "ftp://localhost",
  ])("nobody else may: %j", (origin) => {
    expect(policy.allows(origin, undefined)).toBe(false);
  });
});

describe("with a list", () => {
  const policy = originPolicy(["https://app.example.com", "http://Other.example.com:8080/"]);

  test("exactly the named origins may, in any case", () => {
    expect(policy.allows("https://app.example.com", undefined)).toBe(true);
    expect(policy.allows("https://APP.example.com", undefined)).toBe(true);
    expect(policy.allows("http://other.example.com:8080", undefined)).toBe(true);
  });

  test.each([
    "http://app.example.com",
    "https://app.example.com:444",
    "https://evil-app.example.com",
    "https://app.example.com.evil.org",
    "http://localhost:3000",
    "null",
  ])("nobody else may: %s", (origin) => {
    expect(policy.allows(origin, undefined)).toBe(false);
  });
});

test("a star lets every page in", () => {
  expect(originPolicy(["*"]).allows("https://example.com", undefined)).toBe(true);
  expect(originPolicy(["*"]).allows("null", undefined)).toBe(true);
});

test("where others than this machine ask with credentials, its own pages may and not those of any machine", () => {
  const policy = originPolicy(
    [],
    () => true,
    () => true,
    true,
  );
  expect(policy.allows("https://kv.example.com", "kv.example.com")).toBe(true);
  expect(policy.allows("http://localhost:3000", "kv.example.com")).toBe(false);
  expect(policy.allows("null", "kv.example.com")).toBe(false);
});
