import { randomBytes } from "node:crypto";
import type { Context } from "hono";
import { header } from "./input.ts";

const run = randomBytes(4).toString("hex");
let count = 0;

const acceptable = /^[A-Za-z0-9._-]{1,64}$/;

/** A new id: unique among gateways, and cheap. */
export function newRequestId(): string {
  return `${run}-${(count++).toString(36)}`;
}

/** What the caller gave as `X-Request-Id` if it is harmless, else an id of ours. */
export function requestIdFrom(given: string | string[] | undefined): string {
  return typeof given === "string" && acceptable.test(given) ? given : newRequestId();
}

/** The id of a request. It stays the same for as long as the request lasts. */
export function requestId(c: Context): string {
  const known: unknown = c.get("requestId");
  if (typeof known === "string") return known;
  const id = requestIdFrom(header(c, "x-request-id"));
  c.set("requestId", id);
  return id;
}
