import type { IncomingHttpHeaders } from "node:http";
import { Hono } from "hono";
import type { Logger } from "pino";
import type { Access } from "../auth/access.ts";
import { nobody, type Principal } from "../auth/principal.ts";
import type { Configs } from "../configs/configs.ts";
import { kestraRoutes } from "../dialects/kestra/routes.ts";
import { KvError } from "../protocol/errors.ts";
import type { Secrets } from "../secrets/secrets.ts";
import type { Buckets } from "../store/buckets.ts";
import type { Edge } from "./answer.ts";
import { credentialsOf, type Incoming } from "./credentials.ts";
import { admit, preflight } from "./cross-origin.ts";
import { base64EntryJson } from "./entry-json.ts";
import { errorAnswer, errorResponse, publicError } from "./errors.ts";
import { hostOf } from "./host.ts";
import { requestLog } from "./middleware/request-log.ts";
import type { OriginPolicy } from "./origins.ts";
import { requestId, requestIdFrom } from "./request-id.ts";
import { accessRoutes } from "./routes/access.ts";
import { batchRoutes } from "./routes/batches.ts";
import { bucketRoutes } from "./routes/buckets.ts";
import { configRoutes } from "./routes/configs.ts";
import { keyRoutes } from "./routes/keys.ts";
import { metricsRoutes } from "./routes/metrics.ts";
import { pastRoutes } from "./routes/past.ts";
import { revealToAllButPages, secretRoutes } from "./routes/secrets.ts";
import { updateRoutes } from "./routes/updates.ts";
import { systemPaths, systemRoutes, type SystemState } from "./routes/system.ts";
import { watchRoutes } from "./routes/watch.ts";
import { IRONFLOW } from "./watch/request.ts";
import { GatewayMetrics } from "./metrics.ts";
import type { WatchServer } from "./watch.ts";

export interface AppDeps {
  buckets: Buckets;
  configs: Configs;
  /** Undefined where there is no master key. */
  secrets: Secrets | undefined;
  watches: WatchServer;
  log: Logger;
  origins: OriginPolicy;
  access: Access;
  state: SystemState;
}

/** The HTTP side of the gateway: answers a request. Watches are upgraded beside it, see watch.ts. */
export type App = (
  request: Request,
  bindings: { incoming: Incoming },
) => Response | Promise<Response>;

export function createApp(deps: AppDeps): App {
  const { buckets, configs, secrets, watches, log, origins, access, state } = deps;
  const app = new Hono({ strict: true });
  if (log.isLevelEnabled("debug")) app.use(requestLog(log));

  keyRoutes(app, "/api/v1/kv/buckets", buckets);
  batchRoutes(app, "/api/v1/kv/buckets", buckets, (c, error) =>
    publicError(error, log, requestId(c)),
  );
  pastRoutes(app, "/api/v1/kv/buckets", buckets);
  updateRoutes(app, "/api/v1/kv/buckets", buckets);
  bucketRoutes(app, "/api/v1/kv/buckets", buckets);
  watchRoutes(app, "/api/v1/kv", watches);
  configRoutes(app, "/api/v1/config", configs);
  secretRoutes(app, "/api/v1/secrets", secrets, revealToAllButPages);
  accessRoutes(app, "/api/v1", access);
  metricsRoutes(app, new GatewayMetrics(() => watches.stats()));
  systemRoutes(app, buckets, state);

  // The clients of Ironflow for Go and Python know the same routes, and values in base64 only.
  keyRoutes(app, `${IRONFLOW}/api/v1/kv/buckets`, buckets, base64EntryJson);
  bucketRoutes(app, `${IRONFLOW}/api/v1/kv/buckets`, buckets);
  watchRoutes(app, `${IRONFLOW}/api/v1/kv`, watches);
  configRoutes(app, `${IRONFLOW}/api/v1/config`, configs);
  secretRoutes(app, `${IRONFLOW}/api/v1/secrets`, secrets, revealToAllButPages);

  // Kestra's paths can have any word where ours have theirs: they are looked at when nothing else fits.
  const kestra = kestraRoutes(hostOf(buckets, log));
  app.notFound((c) => kestra.fetch(c.req.raw, c.env));
  kestra.notFound((c) =>
    errorAnswer(c, new KvError("not_found", `there is nothing at ${c.req.path}`), log),
  );
  app.onError((error, c) => errorAnswer(c, error, log));

  const refuse = (error: unknown, request: Request, crossOrigin: Edge["crossOrigin"]): Response =>
    errorResponse(error, log, requestIdFrom(request.headers.get("X-Request-Id")), crossOrigin);

  // Before the framework rather than as its middleware, which would make every request a chain of promises.
  return (request, bindings) => {
    const { incoming } = bindings;
    const { headers } = incoming;
    let crossOrigin: Edge["crossOrigin"];
    try {
      crossOrigin = admit(origins, request.method, headers);
    } catch (error) {
      return refuse(error, request, undefined);
    }
    if (crossOrigin !== undefined && request.method === "OPTIONS" && isPreflight(headers))
      return preflight(crossOrigin);
    const serve = (principal: Principal): Response | Promise<Response> =>
      app.fetch(request, { ...bindings, principal, crossOrigin } satisfies Edge);
    const serveUnknown = (error: unknown): Response | Promise<Response> =>
      isOpenToAll(incoming) ? serve(nobody) : refuse(error, request, crossOrigin);
    try {
      const principal = access.authenticate(credentialsOf(incoming));
      return principal instanceof Promise ? principal.then(serve, serveUnknown) : serve(principal);
    } catch (error) {
      return serveUnknown(error);
    }
  };
}

/** What answers everybody, whatever credentials they have or have not. */
const openToAll: ReadonlySet<string> = new Set(systemPaths);

function isOpenToAll({ url = "" }: Incoming): boolean {
  const query = url.indexOf("?");
  return openToAll.has(query === -1 ? url : url.slice(0, query));
}

function isPreflight(headers: IncomingHttpHeaders): boolean {
  return headers["access-control-request-method"] !== undefined;
}
