import type { Hono } from "hono";
import { answer, principalOf } from "../answer.ts";
import type { GatewayMetrics } from "../metrics.ts";
import { resource } from "../resource.ts";

/** Figures for Prometheus. Those that name buckets are for whoever may know all of them. */
export function metricsRoutes(app: Hono, metrics: GatewayMetrics): void {
  resource(app, "/metrics", {
    GET: async (c) => {
      const { grants } = principalOf(c);
      return answer(c, await metrics.text(grants.isAdminOfAll || grants.mayAudit), 200, {
        "Content-Type": metrics.contentType,
        "Cache-Control": "no-store",
      });
    },
  });
}
