import type { MiddlewareHandler } from "hono";
import { KvError } from "../../protocol/errors.ts";
import type { OriginPolicy } from "../origins.ts";

const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS =
  "Authorization, Content-Type, If-Match, If-None-Match, Min-Revision, X-Request-Id";
const RESPONSE_HEADERS = [
  "Durability",
  "ETag",
  "Retry-After",
  "X-Request-Id",
  ...[
    "Created-At",
    "First-Created-At",
    "Expires-At",
    "Content-Type",
    "Description",
    "Value-Type",
    "Size",
  ].map((name) => `Jetbucket-${name}`),
].join(", ");

const READING = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * Lets pages of allowed origins use the API. Written here rather than taken from the framework because headers that are
 * set once the response exists make every request several times as expensive; requests without `Origin` pass untouched.
 */
export function cors(policy: OriginPolicy): MiddlewareHandler {
  return async (c, next) => {
    const host = c.req.header("Host");
    // A page whose name was made to lead here (DNS rebinding) is of the same origin for its browser, but not for us.
    if (host !== undefined && !policy.allowsHost(host)) {
      throw new KvError(
        "forbidden",
        `this gateway does not answer as ${host}: add its origin to JETBUCKET_ALLOWED_ORIGINS`,
      );
    }
    const origin = c.req.header("Origin");
    if (origin === undefined) {
      await next();
      return undefined;
    }
    if (!policy.allows(origin)) {
      // Some requests a browser sends without asking first; only their answer is kept from the page.
      if (!READING.has(c.req.method)) {
        throw new KvError(
          "forbidden",
          `pages of ${origin} may not write: add the origin to JETBUCKET_ALLOWED_ORIGINS`,
        );
      }
      await next();
      return undefined;
    }
    c.header("Access-Control-Allow-Origin", origin);
    c.header("Vary", "Origin");
    c.header("Access-Control-Expose-Headers", RESPONSE_HEADERS);
    if (c.req.method === "OPTIONS" && c.req.header("Access-Control-Request-Method") !== undefined) {
      c.header("Access-Control-Allow-Methods", METHODS);
      c.header("Access-Control-Allow-Headers", REQUEST_HEADERS);
      c.header("Access-Control-Max-Age", "600");
      return c.body(null, 204);
    }
    await next();
    return undefined;
  };
}
