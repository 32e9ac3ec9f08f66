import type { Context, Hono } from "hono";
import { KvError } from "../protocol/errors.ts";

/** The rest of a path: slashes and line breaks, which a dot would not match, can be part of a key. */
const KEY = ":key{[\\s\\S]+}";

type Handler = (c: Context) => Response | Promise<Response>;
type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
type Handlers = Partial<Record<Method, Handler>>;

/**
 * A path with a handler per method. Any other method answers 405 with `Allow`; HEAD works wherever GET does.
 *
 * One handler per path, whatever the method: with a single match the framework calls it directly.
 */
export function resource(app: Hono, path: string, handlers: Handlers): void {
  const table = new Map(Object.entries(handlers));
  if (handlers.GET !== undefined) table.set("HEAD", handlers.GET);
  const allow = Object.keys(handlers).flatMap((method) =>
    method === "GET" ? ["GET", "HEAD"] : [method],
  );
  app.all(path, (c) => {
    const handler = table.get(c.req.method);
    if (handler !== undefined) return handler(c);
    throw new KvError(
      "method_not_allowed",
      `${c.req.method} does not work here: use ${allow.join(", ")}`,
      { details: { allow } },
    );
  });
}

/** A resource about one key, which stands behind the path or in `?key=`. */
export function keyResource(app: Hono, path: string, handlers: Handlers): void {
  inPath(app, path, handlers);
  resource(app, path, handlers);
}

/** A resource about the key that stands behind the path. */
export function inPath(app: Hono, path: string, handlers: Handlers): void {
  resource(app, `${path}/${KEY}`, handlers);
  // A pattern that matches nothing, too, would keep the framework from using its fast router. An empty key has a route of its
  // own, and is refused as such.
  resource(app, `${path}/`, handlers);
}
