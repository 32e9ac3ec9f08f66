import type { MiddlewareHandler } from "hono";
import type { Logger } from "pino";
import { requestId } from "../request-id.ts";

/** A line per request, without values. Only mounted when the log's level asks for it. */
export function requestLog(log: Logger): MiddlewareHandler {
  return async (c, next) => {
    const started = performance.now();
    const id = requestId(c);
    await next();
    log.debug(
      {
        request_id: id,
        method: c.req.method,
        path: c.req.path,
        status: c.res.status,
        ms: Math.round((performance.now() - started) * 100) / 100,
      },
      "request",
    );
  };
}
