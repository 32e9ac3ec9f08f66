import type { Context, Hono } from "hono";
import { assertBucketName } from "../../protocol/bucket-names.ts";
import { KvError } from "../../protocol/errors.ts";
import { utf8 } from "../../protocol/values.ts";
import type { Secrets } from "../../secrets/secrets.ts";
import type { Host } from "../host.ts";
import { ForgeBatches } from "./batches.ts";
import { entitiesNotSupported } from "./errors.ts";
import { ForgeKeys, type ForgeRequest } from "./keys.ts";
import { queries } from "./query.ts";
import { forgeLimits } from "./requests.ts";
import { ForgeSecrets, type RevealPolicy } from "./secrets.ts";
import { transactions } from "./transactions.ts";

/** What can be asked for, as the path says it. */
export const forgeOperations = [
  "get",
  "set",
  "delete",
  "query",
  "transaction",
  "secret/get",
  "secret/set",
  "secret/delete",
  "batch/get",
  "batch/set",
  "batch/delete",
] as const;
type ForgeOperation = (typeof forgeOperations)[number];

interface Route {
  /** Bytes that a body may have. */
  limit: number;
  answer(request: ForgeRequest, c: Context): Promise<string | undefined>;
}

/**
 * Atlassian Forge's key-value store, as `@forge/kvs` calls it: `POST {base}/{bucket}/api/v1/get` and so on, also without the
 * `api/` that Forge's REST API leaves out.
 *
 * @param secrets undefined where there is no master key
 */
export function forgeRoutes(
  app: Hono,
  base: string,
  host: Host,
  secrets: Secrets | undefined,
  mayReveal: RevealPolicy,
): void {
  const { buckets } = host;
  const keys = new ForgeKeys(buckets);
  const batches = new ForgeBatches(keys);
  const hidden = new ForgeSecrets(secrets, mayReveal);
  const told = (c: Context) => (thrown: unknown) => host.publicError(c, thrown);
  const one = (answer: Route["answer"]): Route => ({ limit: forgeLimits.body, answer });
  const many = (answer: Route["answer"]): Route => ({ limit: forgeLimits.itemsBody, answer });
  const routes: Record<ForgeOperation, Route> = {
    get: one(keys.get),
    set: one(keys.set),
    delete: one(keys.delete),
    "secret/get": one((request, c) => hidden.get(request, c)),
    "secret/set": one((request, c) => hidden.set(request, c)),
    "secret/delete": one((request) => hidden.delete(request)),
    query: one(queries(buckets)),
    "batch/get": many((request, c) => batches.get(request, told(c))),
    "batch/set": many((request, c) => batches.set(request, told(c))),
    "batch/delete": many((request, c) => batches.delete(request, told(c))),
    transaction: many(transactions(buckets)),
  };

  app.all(`${base}/:bucket/:path{[\\s\\S]+}`, async (c) => {
    const path = /^(?:api\/)?v1\/(.+)$/.exec(c.req.param("path"))?.[1] ?? "";
    if (path.startsWith("entity/")) throw entitiesNotSupported();
    const operation = forgeOperations.find((each) => each === path);
    if (operation === undefined)
      throw new KvError("not_found", `there is nothing at ${c.req.path}`);
    if (c.req.method !== "POST") {
      throw new KvError("method_not_allowed", `${c.req.method} does not work here: use POST`, {
        details: { allow: ["POST"] },
      });
    }
    const bucket = c.req.param("bucket");
    assertBucketName(bucket);
    const route = routes[operation];
    const body = jsonOf(await host.body(c, route.limit));
    const json = await route.answer({ bucket, body, grants: host.grants(c) }, c);
    return json === undefined ? host.answer(c, null, 204) : host.answer(c, json);
  });
}

/** Whatever its media type says: Forge's clients send nothing but JSON. */
function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(utf8(body) ?? "");
  } catch (cause) {
    throw new KvError("invalid_json", "the body is not valid JSON in UTF-8", { cause });
  }
}
