import { randomBytes } from "node:crypto";
import type { Context } from "hono";

const run = randomBytes(4).toString("hex");
let count = 0;

const acceptable = /^[A-Za-z0-9._-]{1,64}$/;

/** A new id: unique among gateways, and cheap. */
export function newRequestId(): string {
  return `${run}-${(count++).toString(36)}`;
}

/** The id of a request: what the caller gave as `X-Request-Id` if it is harmless, else one of ours. */
export function requestId(c: Context): string {
  const known: unknown = c.get("requestId");
  if (typeof known === "string") return known;
  const given = c.req.header("X-Request-Id");
  const id = given !== undefined && acceptable.test(given) ? given : newRequestId();
  c.set("requestId", id);
  return id;
}
