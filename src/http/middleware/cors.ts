import type { MiddlewareHandler } from "hono";
import type { OriginPolicy } from "../origins.ts";

const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS =
  "Authorization, Content-Type, If-Match, If-None-Match, Min-Revision, X-Request-Id";
const RESPONSE_HEADERS = "Durability, ETag, Retry-After, X-Request-Id";

/**
 * Lets pages of allowed origins use the API. Written here rather than taken from the framework because headers that are
 * set once the response exists make every request several times as expensive; requests without `Origin` pass untouched.
 */
export function cors(policy: OriginPolicy): MiddlewareHandler {
  return async (c, next) => {
    const origin = c.req.header("Origin");
    if (origin === undefined || !policy.allows(origin)) {
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
