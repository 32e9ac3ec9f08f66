import { Hono, type Context } from "hono";
import { parseTtl } from "../../protocol/durations.ts";
import { KvError } from "../../protocol/errors.ts";
import {
  assertKvKey,
  bucketOfNamespace,
  MAIN_TENANT,
  noValue,
  type Namespace,
} from "../../protocol/kestra.ts";
import { limits } from "../../protocol/limits.ts";
import { utf8 } from "../../protocol/values.ts";
import type { PutOptions } from "../../store/bucket.ts";
import type { Host } from "../host.ts";
import { entriesOf, inheritedEntries, pageOf } from "./listing.ts";
import { isReserved } from "./paths.ts";
import { typedJson, typedValue } from "./values.ts";

/** What a request is about. */
interface Target extends Namespace {
  bucket: string;
}

/**
 * Kestra's KV store at Kestra's own paths, of both generations: with a tenant in them, and without. A namespace is a bucket of its
 * own, which its first write creates.
 *
 * @returns an app of their own: a tenant could be any word, so all other routes have to be looked at before
 */
export function kestraRoutes(host: Host): Hono {
  const app = new Hono({ strict: true });
  const { buckets } = host;
  const json = (c: Context, value: unknown): Response => host.answer(c, JSON.stringify(value));

  const inTenant =
    (handle: (c: Context, tenant: string) => Promise<Response>) =>
    (c: Context): Response | Promise<Response> => {
      const tenant = c.req.param("tenant") ?? MAIN_TENANT;
      return isReserved(tenant) ? c.notFound() : handle(c, tenant);
    };
  const inNamespace = (handle: (c: Context, target: Target) => Promise<Response>) =>
    inTenant((c, tenant) => {
      const namespace = { tenant, name: c.req.param("namespace") ?? "" };
      return handle(c, { ...namespace, bucket: bucketOfNamespace(namespace) });
    });
  const atKey = (handle: (c: Context, target: Target, key: string) => Promise<Response>) =>
    inNamespace((c, target) => {
      const key = c.req.param("key") ?? "";
      assertKvKey(key);
      return handle(c, target, key);
    });

  const list = inNamespace(async (c, target) => {
    const reach = host.grants(c).requireAny("read", target.bucket);
    return json(c, await entriesOf(buckets, target, reach));
  });

  const listInherited = inNamespace(async (c, target) =>
    json(c, await inheritedEntries(buckets, host.grants(c), target)),
  );

  const listAll = inTenant(async (c, tenant) =>
    json(c, await pageOf(buckets, host.grants(c), tenant, c.req.queries())),
  );

  const get = atKey(async (c, { bucket: name, name: namespace }, key) => {
    host.grants(c).require("read", name, key);
    const entry = await buckets.read(name, (bucket) => bucket.find(key));
    if (entry === undefined) throw new KvError("key_not_found", noValue(key, namespace));
    const { type, json } = typedJson(entry);
    return host.answer(
      c,
      `{"type":"${type}","value":${json},"revision":${entry.revision},"updated":"${entry.createdAt}"}`,
    );
  });

  const set = atKey(async (c, { bucket: name }, key) => {
    host.grants(c).require("write", name, key);
    const options = writeOptions(c);
    const { type, value } = typedValue(await host.body(c, buckets.maxValueSize));
    await buckets.write(name, (bucket) => bucket.put(key, value, { ...options, label: type }));
    return host.answer(c, null);
  });

  const remove = atKey(async (c, { bucket: name }, key) => {
    host.grants(c).require("delete", name, key);
    return json(c, (await buckets.read(name, (bucket) => bucket.delete(key))) ?? false);
  });

  const removeMany = inNamespace(async (c, { bucket: name }) => {
    const keys = keysOf(await host.body(c, limits.itemsBody));
    const grants = host.grants(c);
    for (const key of keys) {
      assertKvKey(key);
      grants.require("delete", name, key);
    }
    const were = await buckets.read(name, (bucket) =>
      Promise.all(keys.map((key) => bucket.delete(key))),
    );
    return json(c, { keys: keys.filter((_, i) => were?.[i] === true) });
  });

  for (const base of [
    "/api/v1/namespaces/:namespace/kv",
    "/api/v1/:tenant/namespaces/:namespace/kv",
  ]) {
    app.get(base, list).delete(removeMany).all(notAllowed("GET, HEAD, DELETE"));
    app.get(`${base}/inheritance`, listInherited);
    app.get(`${base}/:key`, get).put(set).delete(remove).all(notAllowed("GET, HEAD, PUT, DELETE"));
  }
  app.get("/api/v1/:tenant/kv", listAll);

  return app;
}

/** The headers `ttl` and `description`. What a write does not name the key has no longer. */
function writeOptions(c: Context): PutOptions {
  const options: PutOptions = { keepCreated: true };
  const ttl = c.req.header("ttl");
  if (ttl !== undefined) {
    const duration = ttl.trim().toUpperCase();
    if (!duration.startsWith("P")) {
      throw new KvError(
        "invalid_ttl",
        `the header "ttl" is an ISO 8601 duration such as PT5M, not ${JSON.stringify(ttl)}`,
      );
    }
    options.ttl = parseTtl(duration);
  }
  const header = c.req.header("description");
  if (header !== undefined && header !== "") {
    // The bytes of a header are read as Latin-1; clients send UTF-8.
    const description = utf8(Buffer.from(header, "latin1")) ?? header;
    if (description.length > limits.keyDescription) {
      throw new KvError(
        "invalid_request",
        `a description has at most ${limits.keyDescription} characters`,
      );
    }
    options.description = description;
  }
  return options;
}

/** The keys that a body names, each once. */
function keysOf(body: Uint8Array): string[] {
  let keys: unknown;
  try {
    ({ keys } = JSON.parse(utf8(body) ?? "") as { keys?: unknown });
  } catch {
    // Said below.
  }
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === "string")) {
    throw new KvError("invalid_request", `the body is a JSON object such as {"keys":["my_key"]}`);
  }
  if (keys.length > limits.items)
    throw new KvError("invalid_request", `at most ${limits.items} keys can be deleted at once`);
  return [...new Set(keys)];
}

function notAllowed(allow: string): (c: Context) => never {
  return (c) => {
    throw new KvError("method_not_allowed", `${c.req.method} does not work here: use ${allow}`);
  };
}
