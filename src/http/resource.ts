import type { Context, Hono } from "hono";
import { KvError } from "../protocol/errors.ts";

type Handler = (c: Context) => Response | Promise<Response>;

/** A path with a handler per method. Any other method answers 405 with `Allow`; HEAD works wherever GET does. */
export function resource(
  app: Hono,
  path: string,
  handlers: Partial<Record<"GET" | "POST" | "PUT" | "PATCH" | "DELETE", Handler>>,
): void {
  for (const [method, handler] of Object.entries(handlers)) app.on(method, path, handler);
  const allow = Object.keys(handlers).flatMap((method) =>
    method === "GET" ? ["GET", "HEAD"] : [method],
  );
  app.all(path, (c) => {
    throw new KvError(
      "method_not_allowed",
      `${c.req.method} does not work here: use ${allow.join(", ")}`,
      { details: { allow } },
    );
  });
}
