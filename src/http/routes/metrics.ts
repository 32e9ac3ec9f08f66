import type { Hono } from "hono";
import { answer } from "../answer.ts";
import type { GatewayMetrics } from "../metrics.ts";
import { resource } from "../resource.ts";

/** Figures for Prometheus. */
export function metricsRoutes(app: Hono, metrics: GatewayMetrics): void {
  resource(app, "/metrics", {
    GET: async (c) =>
      answer(c, await metrics.text(), 200, {
        "Content-Type": metrics.contentType,
        "Cache-Control": "no-store",
      }),
  });
}
