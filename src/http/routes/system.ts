import { readFile } from "node:fs/promises";
import type { Hono } from "hono";
import { KvError } from "../../protocol/errors.ts";
import type { Buckets } from "../../store/buckets.ts";
import { versionNeeded, type Feature } from "../../store/capabilities.ts";
import { answer, answerJson } from "../answer.ts";
import { resource } from "../resource.ts";

/** The browser SDK as the build makes it; the same relative path holds for sources and for the built package. */
const browserSdk = new URL("../../../dist/browser/jetbucket.js", import.meta.url);
const packageFile = new URL("../../../package.json", import.meta.url);

/** What depends on the version of NATS, by its public name. */
const features: Record<string, Feature> = {
  key_ttl: "messageTtl",
  transactions: "atomicBatch",
  batch_get: "batchGet",
  compression: "compression",
};

export interface SystemState {
  /** Whether the gateway takes new work; false from the moment a shutdown begins. */
  isOpen(): boolean;
}

/** What {@link systemRoutes} answers, which is nobody's secret. */
export const systemPaths = ["/", "/health", "/ready", "/api/v1/capabilities", "/sdk/browser.js"];

/** Health, readiness, capabilities, the browser SDK, and a front door that says where everything is. */
export function systemRoutes(app: Hono, buckets: Buckets, state: SystemState): void {
  resource(app, "/health", { GET: (c) => answerJson(c, { status: "ok" }) });

  resource(app, "/ready", {
    GET: async (c) => {
      if (!state.isOpen())
        throw new KvError("shutting_down", "this gateway is shutting down", { retryAfter: 1 });
      await buckets.check();
      return answerJson(c, { status: "ready" });
    },
  });

  resource(app, "/api/v1/capabilities", {
    GET: async (c) => {
      const { capabilities, cluster } = buckets;
      const supported = Object.entries(features).map(([name, feature]) => [
        name,
        { supported: capabilities[feature], needs: versionNeeded(feature) },
      ]);
      return answerJson(c, {
        version: await ownVersion(),
        nats: { version: capabilities.version, ...(cluster === undefined ? {} : { cluster }) },
        features: Object.fromEntries(supported) as object,
      });
    },
  });

  resource(app, "/sdk/browser.js", {
    GET: async (c) => {
      const source = await readFile(browserSdk).catch(() => {
        throw new KvError("not_found", "the browser SDK has not been built: run npm run build");
      });
      return answer(c, source, 200, {
        "Content-Type": "text/javascript; charset=utf-8",
        "Cache-Control": "no-cache",
        "Access-Control-Allow-Origin": "*",
      });
    },
  });

  resource(app, "/", {
    GET: async (c) => {
      return answerJson(c, {
        name: "jetbucket",
        version: await ownVersion(),
        api: "/api/v1",
        buckets: "/api/v1/kv/buckets",
        browser_sdk: "/sdk/browser.js",
        health: "/health",
        ready: "/ready",
        capabilities: "/api/v1/capabilities",
      });
    },
  });
}

async function ownVersion(): Promise<string> {
  return (JSON.parse(await readFile(packageFile, "utf8")) as { version: string }).version;
}
