import { Hono } from "hono";
import type { Logger } from "pino";
import { KvError } from "../protocol/errors.ts";
import type { Buckets } from "../store/buckets.ts";
import { errorResponse, publicError } from "./errors.ts";
import { cors } from "./middleware/cors.ts";
import { requestLog } from "./middleware/request-log.ts";
import type { OriginPolicy } from "./origins.ts";
import { requestId } from "./request-id.ts";
import { batchRoutes } from "./routes/batches.ts";
import { bucketRoutes } from "./routes/buckets.ts";
import { keyRoutes } from "./routes/keys.ts";
import { pastRoutes } from "./routes/past.ts";
import { updateRoutes } from "./routes/updates.ts";
import { systemRoutes, type SystemState } from "./routes/system.ts";

export interface AppDeps {
  buckets: Buckets;
  log: Logger;
  origins: OriginPolicy;
  state: SystemState;
}

/** The HTTP side of the gateway. Watches are upgraded beside it, see watch.ts. */
export function createApp({ buckets, log, origins, state }: AppDeps): Hono {
  const app = new Hono({ strict: true });
  app.use(cors(origins));
  if (log.isLevelEnabled("debug")) app.use(requestLog(log));

  keyRoutes(app, "/api/v1/kv/buckets", buckets);
  batchRoutes(app, "/api/v1/kv/buckets", buckets, (c, error) =>
    publicError(error, log, requestId(c)),
  );
  pastRoutes(app, "/api/v1/kv/buckets", buckets);
  updateRoutes(app, "/api/v1/kv/buckets", buckets);
  bucketRoutes(app, "/api/v1/kv/buckets", buckets);
  systemRoutes(app, buckets, state);

  app.notFound((c) =>
    errorResponse(c, new KvError("not_found", `there is nothing at ${c.req.path}`), log),
  );
  app.onError((error, c) => errorResponse(c, error, log));
  return app;
}
