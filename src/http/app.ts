import { Hono } from "hono";
import type { Logger } from "pino";
import type { Audit } from "../audit/audit.ts";
import type { Access } from "../auth/access.ts";
import type { Configs } from "../configs/configs.ts";
import { forgeRoutes } from "../dialects/forge/routes.ts";
import { kestraRoutes } from "../dialects/kestra/routes.ts";
import { KvError } from "../protocol/errors.ts";
import type { Secrets } from "../secrets/secrets.ts";
import type { Buckets } from "../store/buckets.ts";
import type { AddressOf } from "./address.ts";
import type { Incoming } from "./credentials.ts";
import { isPreflight, preflight } from "./cross-origin.ts";
import { directAnswers, type Direct } from "./direct.ts";
import { base64EntryJson } from "./entry-json.ts";
import { enter, type Gate } from "./entrance.ts";
import { errorAnswer, errorResponse, publicError } from "./errors.ts";
import { hostOf } from "./host.ts";
import { requestLog } from "./middleware/request-log.ts";
import type { OriginPolicy } from "./origins.ts";
import { noteError } from "./note.ts";
import { requestId, requestIdFrom } from "./request-id.ts";
import { accessRoutes } from "./routes/access.ts";
import { auditRoutes } from "./routes/audit.ts";
import { batchRoutes } from "./routes/batches.ts";
import { bucketRoutes } from "./routes/buckets.ts";
import { configRoutes } from "./routes/configs.ts";
import type { EntryAnswers } from "./routes/entry.ts";
import { keyRoutes } from "./routes/keys.ts";
import { metricsRoutes } from "./routes/metrics.ts";
import { pastRoutes } from "./routes/past.ts";
import { refuseStrangersPages, secretRoutes } from "./routes/secrets.ts";
import { updateRoutes } from "./routes/updates.ts";
import { systemRoutes, type SystemState } from "./routes/system.ts";
import { watchRoutes } from "./routes/watch.ts";
import { IRONFLOW } from "./watch/request.ts";
import { GatewayMetrics } from "./metrics.ts";
import type { RateLimits } from "./rate-limits.ts";
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
  /** Undefined where nothing is recorded. */
  audit: Audit | undefined;
  rates: RateLimits;
  addressOf: AddressOf;
  state: SystemState;
}

/** The HTTP side of the gateway. Watches are upgraded beside it, see watch.ts. */
export interface App {
  /** Answers a request. */
  fetch: (request: Request, bindings: { incoming: Incoming }) => Response | Promise<Response>;
  /** Answers those that need no framework, see direct.ts. They are tried first. */
  direct: Direct;
}

/** Path of the bucket collection. */
const BUCKETS = "/api/v1/kv/buckets";

/** All routes, for those that may come in. */
export interface Routes {
  own: Hono;
  /** Those that are looked at when nothing of ours fits. */
  dialects: readonly Hono[];
  /** What answers reads and writes of one key. */
  answers: EntryAnswers;
}

export function createRoutes(deps: Omit<AppDeps, "origins" | "addressOf">): Routes {
  const { buckets, configs, secrets, watches, log, access, rates, audit, state } = deps;
  const app = new Hono({ strict: true });
  if (log.isLevelEnabled("debug")) app.use(requestLog(log));

  const answers = keyRoutes(app, BUCKETS, buckets);
  batchRoutes(app, BUCKETS, buckets, (c, error) => publicError(error, log, requestId(c)));
  pastRoutes(app, BUCKETS, buckets);
  updateRoutes(app, BUCKETS, buckets);
  bucketRoutes(app, BUCKETS, buckets);
  watchRoutes(app, "/api/v1", watches);
  configRoutes(app, "/api/v1/config", configs);
  secretRoutes(app, "/api/v1/secrets", secrets);
  accessRoutes(app, "/api/v1", access);
  auditRoutes(app, "/api/v1/audit", audit);
  metricsRoutes(
    app,
    new GatewayMetrics(() => ({
      ...watches.stats(),
      auditDropped: audit?.dropped ?? 0,
      rateLimited: rates.refused,
    })),
  );
  systemRoutes(app, buckets, state);

  // The clients of Ironflow for Go and Python know the same routes, and values in base64 only.
  keyRoutes(app, IRONFLOW + BUCKETS, buckets, base64EntryJson);
  bucketRoutes(app, IRONFLOW + BUCKETS, buckets);
  watchRoutes(app, `${IRONFLOW}/api/v1`, watches);
  configRoutes(app, `${IRONFLOW}/api/v1/config`, configs);
  secretRoutes(app, `${IRONFLOW}/api/v1/secrets`, secrets);

  const host = hostOf(buckets, log);
  forgeRoutes(app, "/compat/forge", host, secrets, refuseStrangersPages);
  // Kestra's paths can have any word where ours have theirs: they are looked at when nothing else fits.
  const kestra = kestraRoutes(host);
  app.notFound((c) => kestra.fetch(c.req.raw, c.env));
  kestra.notFound((c) =>
    errorAnswer(c, new KvError("not_found", `there is nothing at ${c.req.path}`), log),
  );
  for (const each of [app, kestra]) each.onError((error, c) => errorAnswer(c, error, log));
  return { own: app, dialects: [kestra], answers };
}

export function createApp(deps: AppDeps): App {
  const { buckets, log, origins, access, rates, addressOf } = deps;
  const gate: Gate = { origins, authenticator: access, rates, addressOf };
  const { own: app, answers } = createRoutes(deps);

  return {
    fetch(request, bindings) {
      const { headers } = bindings.incoming;
      return enter<Response | Promise<Response>>(
        gate,
        bindings.incoming,
        request.method,
        (edge) =>
          edge.crossOrigin !== undefined && isPreflight(request.method, headers)
            ? preflight(edge.crossOrigin)
            : app.fetch(request, { ...bindings, ...edge }),
        (error, common) => {
          const id = requestIdFrom(headers["x-request-id"]);
          noteError(bindings.incoming, error, id);
          return errorResponse(error, log, id, request.url, common);
        },
      );
    },
    direct: log.isLevelEnabled("debug")
      ? () => false
      : directAnswers(BUCKETS, answers, gate, () => buckets.maxValueSize, log),
  };
}
