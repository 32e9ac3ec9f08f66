/** Who may ask: pages of allowed origins, and nobody who believes to be somewhere else. */
import type { IncomingHttpHeaders } from "node:http";
import { KvError } from "../protocol/errors.ts";
import type { OriginPolicy } from "./origins.ts";

const PREFLIGHT_HEADERS = {
  "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
  "Access-Control-Allow-Headers":
    "Authorization, Content-Type, Description, If-Match, If-None-Match, Last-Event-ID, Min-Revision, TTL, X-Ironflow-Environment, X-Request-Id",
  "Access-Control-Max-Age": "600",
};
const RESPONSE_HEADERS = [
  "Durability",
  "ETag",
  "RateLimit",
  "RateLimit-Policy",
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
 * Lets a request in.
 *
 * @returns headers that its answer must have, whatever it is, so that a page may read it; undefined when there are none
 * @throws KvError `forbidden`
 */
export function admit(
  policy: OriginPolicy,
  method: string,
  { host, origin }: { host?: string | undefined; origin?: string | undefined },
): Readonly<Record<string, string>> | undefined {
  // A page whose name was made to lead here (DNS rebinding) is of the same origin for its browser, but not for us.
  if (host !== undefined && !policy.allowsHost(host)) {
    throw new KvError(
      "forbidden",
      `this gateway does not answer as ${host}: add its origin to JETBUCKET_ALLOWED_ORIGINS`,
    );
  }
  if (origin === undefined) return undefined;
  if (policy.allows(origin, host)) {
    return {
      "Access-Control-Allow-Origin": origin,
      Vary: "Origin",
      "Access-Control-Expose-Headers": RESPONSE_HEADERS,
    };
  }
  // Some requests a browser sends without asking first; only their answer is kept from the page.
  if (READING.has(method)) return undefined;
  throw new KvError(
    "forbidden",
    `pages of ${origin} may not write: add the origin to JETBUCKET_ALLOWED_ORIGINS`,
  );
}

/** Whether a browser asks whether a page may send a request. */
export function isPreflight(method: string, headers: IncomingHttpHeaders): boolean {
  return method === "OPTIONS" && headers["access-control-request-method"] !== undefined;
}

/** The answer to a browser that asks whether a page may send a request. */
export function preflight(crossOrigin: Readonly<Record<string, string>>): Response {
  return new Response(null, { status: 204, headers: { ...crossOrigin, ...PREFLIGHT_HEADERS } });
}
