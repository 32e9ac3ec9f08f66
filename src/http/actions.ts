/** What requests are called in the audit, by their method and path. */
import type { AuditSubject } from "../protocol/audit.ts";

export interface Action extends AuditSubject {
  action: string;
  /** Whether it only reads what is no secret: that is recorded on demand, or when it was refused. */
  isReading: boolean;
}

type Field = "bucket" | "key" | "name";

interface Route {
  pattern: RegExp;
  /** What the pattern's groups are. */
  fields: readonly Field[];
  /** By method. HEAD is GET. */
  actions: Readonly<Record<string, string>>;
  /** Whether reading it is recorded like a write. */
  isGrave?: true;
  /** Whether it is of an environment. */
  isOfEnvironment?: true;
}

const route = (
  pattern: string,
  fields: readonly Field[],
  actions: Route["actions"],
  more: Pick<Route, "isGrave" | "isOfEnvironment"> = {},
): Route => ({
  pattern: new RegExp(`^(?:/compat/ironflow)?/api/v1${pattern}$`, "s"),
  fields,
  actions,
  ...more,
});

const KV = "/kv/buckets";
const BUCKET = `${KV}/([^/]+)`;
const environment = { isOfEnvironment: true } as const;

const routes: readonly Route[] = [
  route(`${BUCKET}/(?:keys|entry)/(.+)`, ["bucket", "key"], {
    GET: "key.read",
    PUT: "key.put",
    PATCH: "key.patch",
    DELETE: "key.delete",
  }),
  route(`${BUCKET}/entry`, ["bucket"], {
    GET: "key.read",
    PUT: "key.put",
    PATCH: "key.patch",
    DELETE: "key.delete",
  }),
  route(`${BUCKET}/history(?:/(.+))?`, ["bucket", "key"], { GET: "key.history" }),
  route(`${BUCKET}/diff(?:/(.+))?`, ["bucket", "key"], { GET: "key.diff" }),
  route(`${BUCKET}/increment(?:/(.+))?`, ["bucket", "key"], { POST: "key.increment" }),
  route(`${BUCKET}/touch(?:/(.+))?`, ["bucket", "key"], { POST: "key.touch" }),
  route(`${BUCKET}/restore(?:/(.+))?`, ["bucket", "key"], { POST: "key.restore" }),
  route(`${BUCKET}/keys/?`, ["bucket"], { GET: "key.list" }),
  route(`${BUCKET}/batch`, ["bucket"], { POST: "key.batch" }),
  route(`${BUCKET}/transactions`, ["bucket"], { POST: "key.transaction" }),
  route(`${BUCKET}/compact`, ["bucket"], { POST: "bucket.compact" }),
  route(`${BUCKET}/watch`, ["bucket"], { GET: "watch.open" }, { isGrave: true }),
  route("/kv/watch", [], { GET: "watch.open" }, { isGrave: true }),
  route(BUCKET, ["bucket"], {
    GET: "bucket.read",
    PATCH: "bucket.update",
    DELETE: "bucket.delete",
  }),
  route(KV, [], { GET: "bucket.list", POST: "bucket.create" }),
  route("/config", [], { GET: "config.list" }, environment),
  route(
    "/config/([^/]+)",
    ["name"],
    { GET: "config.read", POST: "config.set", PATCH: "config.patch", DELETE: "config.delete" },
    environment,
  ),
  route(
    "/config/([^/]+)/watch",
    ["name"],
    { GET: "watch.open" },
    { ...environment, isGrave: true },
  ),
  route("/secrets", [], { GET: "secret.list", POST: "secret.create" }, environment),
  route(
    "/secrets/([^/]+)",
    ["name"],
    { GET: "secret.read", PUT: "secret.set", PATCH: "secret.change", DELETE: "secret.delete" },
    environment,
  ),
  route(
    "/secrets/([^/]+)/value",
    ["name"],
    { GET: "secret.reveal" },
    { ...environment, isGrave: true },
  ),
  route("/api-keys", [], { GET: "access.list", POST: "access.create" }),
  route("/api-keys/([^/]+)", ["name"], { GET: "access.read", DELETE: "access.revoke" }),
  route("/tokens", [], { POST: "access.token" }),
  route("/tickets", [], { POST: "access.ticket" }),
  route("/audit", [], { GET: "audit.read" }),
  // Kestra's.
  route("(?:/[^/]+)?/namespaces/([^/]+)/kv/([^/]+)", ["bucket", "key"], {
    GET: "key.read",
    PUT: "key.put",
    DELETE: "key.delete",
  }),
];

/** Forge's client asks for everything by POST. */
const forge = /^\/compat\/forge\/([^/]+)\/(?:api\/)?v1\/(.+)$/;
const forgeActions: Readonly<Record<string, string>> = {
  get: "key.read",
  set: "key.put",
  delete: "key.delete",
  query: "key.list",
  transaction: "key.transaction",
  "batch/get": "key.read",
  "batch/set": "key.batch",
  "batch/delete": "key.batch",
  "secret/get": "secret.reveal",
  "secret/set": "secret.set",
  "secret/delete": "secret.delete",
};

/** API keys and tokens do not belong into an address, but some will try. */
const credential = /jbk_[\w-]+|eyJ[\w-]+\.[\w-]+\.[\w-]+/g;
/** Longest text of an address that is kept, in characters. */
const LONGEST = 512;

/**
 * What a request is called.
 *
 * @param url path and query
 * @param ofEnvironment the environment that config and secrets are of
 */
export function actionOf(
  method: string,
  url: string,
  ofEnvironment: () => string | undefined,
): Action {
  const end = url.indexOf("?");
  const path = end === -1 ? url : url.slice(0, end);
  const asForge = forge.exec(path);
  const forgeAction = asForge === null ? undefined : forgeActions[asForge[2]!];
  if (asForge !== null && forgeAction !== undefined) {
    const isReading = forgeAction === "key.read" || forgeAction === "key.list";
    return { action: forgeAction, bucket: clipped(asForge[1]!), isReading };
  }
  const isReading = method === "GET" || method === "HEAD" || method === "OPTIONS";
  for (const { pattern, fields, actions, isGrave, isOfEnvironment } of routes) {
    const match = pattern.exec(path);
    if (match === null) continue;
    const action = actions[method === "HEAD" ? "GET" : method];
    if (action === undefined) break;
    const found: Action = {
      action,
      isReading: isReading && isGrave !== true,
    };
    fields.forEach((field, i) => {
      const text = match[i + 1];
      if (text !== undefined) found[field] = clipped(text);
    });
    if (fields.includes("key") || path.endsWith("/entry")) {
      const key = end === -1 ? null : new URLSearchParams(url.slice(end + 1)).get("key");
      if (found.key === undefined && key !== null) found.key = redacted(key);
    }
    const environmentName = isOfEnvironment === true ? ofEnvironment() : undefined;
    if (environmentName !== undefined) found.environment = environmentName;
    return found;
  }
  return {
    action: isReading ? "other.read" : "other.write",
    path: `${method} ${clipped(path)}`,
    isReading,
  };
}

function clipped(part: string): string {
  try {
    return redacted(decodeURIComponent(part));
  } catch {
    return redacted(part);
  }
}

/** A text for a record: not too long, and without the credential that somebody put where a name belongs. */
export function redacted(text: string): string {
  return text.replace(credential, "…").slice(0, LONGEST);
}
