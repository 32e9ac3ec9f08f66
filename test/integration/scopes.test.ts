/** What somebody with some rights can see and do, and tries to. */
import { beforeAll, describe, expect, test } from "vitest";
import type { Scope } from "../../src/protocol/scopes.ts";
import { Connection } from "../support/raw-http.ts";
import { startScopedGateway, type Asker, type ScopedGateway } from "../support/scoped.ts";

const KV = "/api/v1/kv/buckets";
const HERE = ["user.42.cart", "user.42.name", "user.7.cart", "users", "üser.1", "a/b.c", "a.*"];
const own: Scope = {
  verbs: ["read", "write", "watch", "delete"],
  bucket: "carts",
  keys: ["user.42.>"],
};

let gateway: ScopedGateway;
let owner: Asker;

beforeAll(async () => {
  gateway = await startScopedGateway();
  owner = await gateway.as(own);
  for (const name of ["carts", "carts-2", "vault"])
    await gateway.root.ask("POST", KV, { name, history: 5 });
  for (const key of HERE) await put(key, 1);
  return () => gateway.close();
});

async function put(key: string, value: unknown, bucket = "carts"): Promise<number> {
  const path = `${KV}/${bucket}/entry?key=${encodeURIComponent(key)}`;
  const { status, body } = await gateway.root.ask("PUT", path, value);
  expect(status).toBe(200);
  return (body as { revision: number }).revision;
}

describe("a key is the same one however it is written", () => {
  test.each([
    ["user.7.cart", 403],
    ["user%2E7%2Ecart", 403],
    ["user.42.%2E%2E.7.cart", 404],
    ["user.42/../user.7.cart", 403],
    ["user.42./../../user.7.cart", 404],
    ["user%2e42%2ecart", 200],
    ["user.42%2Fcart", 403],
    ["user%252E42.cart", 403],
    ["user=2E42.cart", 403],
    ["user.42=2Ecart", 403],
    ["user.*.cart", 403],
    ["user.42.*", 404],
    ["user.42.%3E", 404],
    [">", 403],
    ["user.42", 403],
    ["user.42.", 403],
    ["USER.42.cart", 403],
    ["user.42.cart?key=user.7.cart", 200],
    ["user.7.cart?key=user.42.cart", 403],
    ["user.7.cart%00user.42.cart", 400],
    ["..%2F..%2Fvault%2Fkeys%2Fuser.42.x", 403],
  ])("GET …/keys/%s is %d", async (path, status) => {
    const connection = new Connection(gateway.url);
    const answer = await connection.send("GET", `${KV}/carts/keys/${path}`, "", owner.headers);
    expect(answer.status, JSON.stringify(answer.body)).toBe(status);
    // With 200 it is what was asked for, and not what is named beside.
    if (status === 200) expect(answer.body.key).toBe("user.42.cart");
  });

  test.each([
    ["carts%2Fkeys", 400],
    ["vault", 403],
    ["carts-2", 403],
    ["cart%73", 200],
    ["CARTS", 403],
    ["SYS_auth", 400],
    ["carts.user", 400],
  ])("bucket %s is %d", async (bucket, status) => {
    const connection = new Connection(gateway.url);
    const path = `${KV}/${bucket}/keys/user.42.cart`;
    expect((await connection.send("GET", path, "", owner.headers)).status).toBe(status);
  });
});

describe("a listing", () => {
  const list = async (who: Asker, query = ""): Promise<{ keys: string[] }> => {
    const { status, body } = await who.ask("GET", `${KV}/carts/keys${query}`);
    expect(status, JSON.stringify(body)).toBe(200);
    return body as { keys: string[] };
  };

  test("has what its asker reaches, and counts that", async () => {
    const mine = ["user.42.cart", "user.42.name"];
    expect(await list(owner)).toEqual({ keys: mine, count: 2 });
    expect(await list(owner, "?filter=user.*.cart")).toEqual({ keys: ["user.42.cart"], count: 1 });
    expect(await list(owner, "?filter=%3E&limit=2")).toEqual({ keys: mine, count: 2 });
    expect(await list(owner, "?prefix=user.7")).toEqual({ keys: [], count: 0 });
    expect(await list(owner, "?prefix=u&limit=1")).toMatchObject({ keys: ["user.42.cart"] });
    const { keys } = await list(owner, "?values=true");
    expect(keys).toEqual(mine);
    const now = await gateway.root.ask("GET", `${KV}/carts/keys/user.42.cart`);
    const past = await list(owner, `?as_of=${now.body.revision}`);
    expect(past.keys).toEqual(["user.42.cart"]);
  });

  test("goes on at whatever cursor as if only the reach were there", async () => {
    const at = (key: string): string => `?cursor=${Buffer.from(key).toString("base64url")}`;
    for (const key of ["user.42.a", "user.1", "a"]) {
      expect((await list(owner, at(key))).keys).toEqual(["user.42.cart", "user.42.name"]);
    }
    for (const key of ["user.7.cart", "user.7.nothing", "users", "zzz"])
      expect(await list(owner, at(key))).toEqual({ keys: [], count: 0 });
  });

  test("of Forge's clients has cursors that name nothing else", async () => {
    const found: string[] = [];
    let after: string | undefined;
    do {
      const request = { limit: 1, ...(after === undefined ? {} : { after }) };
      const { body } = await owner.ask("POST", "/compat/forge/carts/api/v1/query", request);
      for (const { key } of body.data as { key: string }[]) found.push(key);
      after = body.cursor as string | undefined;
      if (after !== undefined) expect(found).toContain(Buffer.from(after, "base64url").toString());
    } while (after !== undefined);
    expect(found).toEqual(["user.42.cart", "user.42.name"]);
  });

  test("for a filter that nothing in reach can match is refused", async () => {
    for (const filter of ["user.7.*", "users", "*", "user.42"]) {
      const { status, body } = await owner.ask("GET", `${KV}/carts/keys?filter=${filter}`);
      expect([status, body.code]).toEqual([403, "forbidden"]);
    }
  });
});

describe("of a bucket", () => {
  test("whoever reaches a part learns its settings, but not how much is in it", async () => {
    const { body } = await owner.ask("GET", `${KV}/carts`);
    expect(body).toMatchObject({ name: "carts", history: 5 });
    for (const field of ["keys", "values", "bytes"]) expect(body).not.toHaveProperty(field);
    const all = await gateway.as({ verbs: ["read"], bucket: "carts" });
    expect((await all.ask("GET", `${KV}/carts`)).body).toMatchObject({ keys: HERE.length });
  });

  test("nothing is listed but those in which something is allowed", async () => {
    const { body } = await owner.ask("GET", KV);
    expect(body).toMatchObject({ count: 1, buckets: [{ name: "carts" }] });
    const some = await gateway.as({ verbs: ["delete"], bucket: "carts*" });
    const found = (await some.ask("GET", KV)).body.buckets as { name: string }[];
    const names = found.map(({ name }) => name);
    expect(names).toEqual(["carts", "carts-2"]);
  });
});

describe("a write", () => {
  test("alone neither reads what was there nor what is", async () => {
    const writer = await gateway.as({ verbs: ["write"], bucket: "carts" });
    const path = `${KV}/carts/keys/user.42.written`;
    expect((await writer.ask("PUT", path, 1)).status).toBe(200);
    for (const returns of ["previous", "latest"])
      expect((await writer.ask("PUT", `${path}?return=${returns}`, 1)).status).toBe(403);
    expect((await writer.ask("GET", path)).status).toBe(403);
    // Whoever may write it may know where it stands.
    const { status, body } = await writer.ask("PUT", path, 1, { "If-Match": "1" });
    expect([status, typeof body.details.current_revision]).toEqual([412, "number"]);
  });

  test("that only deletes is told that its condition does not hold, and not where the key stands", async () => {
    const remover = await gateway.as({ verbs: ["delete"], bucket: "carts" });
    const told = async (key: string): Promise<string> => {
      const path = `${KV}/carts/keys/${key}`;
      const { status, body } = await remover.ask("DELETE", path, undefined, { "If-Match": "9999" });
      expect([status, body.code]).toEqual([412, "revision_mismatch"]);
      return JSON.stringify(body)
        .replaceAll(key, "it")
        .replace(/,"request_id":"[^"]*"/, "");
    };
    const there = await told("user.7.cart");
    expect(there).not.toMatch(/\b\d+\b/);
    expect(await told("user.7.nothing")).toBe(there);
    const path = `${KV}/carts/transactions`;
    const operations = [{ op: "delete", key: "user.7.cart", revision: 9999 }];
    const { status, body } = await remover.ask("POST", path, { operations });
    expect(status).toBe(412);
    expect(body.details).toEqual({ index: 0, op: "delete", key: "user.7.cart" });
    expect(body.error).not.toMatch(/at revision \d/);
  });
});

describe("many at once", () => {
  test("a batch does what is allowed, with an error in the place of the rest, whether it is there or not", async () => {
    const mixed = await gateway.as(
      { verbs: ["read", "write"], bucket: "carts", keys: ["user.42.>"] },
      { verbs: ["delete"], bucket: "carts", keys: ["gone.*"] },
    );
    const { status, body } = await mixed.ask("POST", `${KV}/carts/batch`, {
      get: ["user.42.cart", "user.7.cart", "user.7.nothing"],
      set: [
        { key: "user.42.set", value: 1 },
        { key: "users", value: 2 },
      ],
      delete: ["gone.1", "user.42.set", "user.7.cart"],
    });
    expect(status).toBe(200);
    const codes = (items: { error?: { code: string } }[]): (string | undefined)[] =>
      items.map(({ error }) => error?.code);
    expect(codes(body.get)).toEqual([undefined, "forbidden", "forbidden"]);
    expect(codes(body.set)).toEqual([undefined, "forbidden"]);
    expect(codes(body.delete)).toEqual([undefined, "forbidden", "forbidden"]);
    const [, there, missing] = body.get as { error: object }[];
    expect(JSON.stringify(missing).replaceAll("user.7.nothing", "user.7.cart")).toBe(
      JSON.stringify(there),
    );
    expect((await gateway.root.ask("GET", `${KV}/carts/keys/users`)).body.value).toBe(1);
  });

  test.each([
    [{ op: "put", key: "user.7.cart", value: 9 }, "write"],
    [{ op: "create", key: "user.7.new", value: 9 }, "write"],
    [{ op: "update", key: "user.7.cart", value: 9, revision: 1 }, "write"],
    [{ op: "delete", key: "user.7.cart" }, "delete"],
    [{ op: "purge", key: "user.7.nothing" }, "delete"],
    [{ op: "check", key: "user.7.cart", revision: 1 }, "read"],
    [{ op: "check", key: "user.7.nothing", revision: 0 }, "read"],
  ])("a transaction with %j is refused as a whole", async (operation, verb) => {
    const operations = [{ op: "put", key: "user.42.whole", value: 1 }, operation];
    const { status, body } = await owner.ask("POST", `${KV}/carts/transactions`, { operations });
    expect(status).toBe(403);
    expect(body).toMatchObject({
      code: "forbidden",
      error: `operation 1 (${operation.op}): the credentials do not allow "${verb}" on "${operation.key}"`,
      details: { index: 1, op: operation.op, key: operation.key },
    });
    expect((await owner.ask("GET", `${KV}/carts/keys/user.42.whole`)).status).toBe(404);
  });

  test("a transaction within reach is done", async () => {
    const operations = [
      { op: "put", key: "user.42.t", value: 1 },
      { op: "check", key: "user.42.nothing", revision: 0 },
    ];
    const { status } = await owner.ask("POST", `${KV}/carts/transactions`, { operations });
    expect(status).toBe(200);
  });
});

describe("config and secrets", () => {
  const names = (items: { name: string }[]): string[] => items.map(({ name }) => name);

  beforeAll(async () => {
    for (const environment of ["prod", "default"]) {
      const more = { "X-Ironflow-Environment": environment };
      for (const name of ["web.theme", "db.url"]) {
        await gateway.root.ask("POST", `/api/v1/config/${name}`, { environment }, more);
        await gateway.root.ask("POST", "/api/v1/secrets", { name, value: environment }, more);
      }
    }
  });

  test("show what is reached, in the environments that are", async () => {
    const web = await gateway.as({
      verbs: ["config", "secrets"],
      environment: "prod",
      keys: ["web.*"],
    });
    const prod = { "X-Ironflow-Environment": "prod" };
    const configs = await web.ask("GET", "/api/v1/config", undefined, prod);
    expect(names(configs.body.configs)).toEqual(["web.theme"]);
    expect(names((await web.ask("GET", "/api/v1/secrets", undefined, prod)).body)).toEqual([
      "web.theme",
    ]);
    for (const path of ["/api/v1/config", "/api/v1/secrets", "/api/v1/config/web.theme"])
      expect((await web.ask("GET", path)).status).toBe(403);
  });

  test("a secret is not renamed out of reach, nor its value seen by who manages it", async () => {
    const web = await gateway.as({ verbs: ["secrets"], keys: ["web.*"] });
    const rename = await web.ask("PATCH", "/api/v1/secrets/web.theme", { name: "db.mine" });
    expect(rename.status).toBe(403);
    expect((await web.ask("POST", "/api/v1/secrets", { name: "db.x", value: "1" })).status).toBe(
      403,
    );
    expect((await web.ask("GET", "/api/v1/secrets/web.theme/value")).status).toBe(403);
    const reader = await gateway.as({ verbs: ["secrets:reveal"], keys: ["web.*"] });
    const { body } = await reader.ask("GET", "/api/v1/secrets/web.theme/value");
    expect(body.value).toBe("default");
    expect((await reader.ask("GET", "/api/v1/secrets/web.theme")).status).toBe(403);
    expect((await reader.ask("GET", "/api/v1/secrets/db.url/value")).status).toBe(403);
  });

  test("the environment of a token is meant where a request names none, or the current one", async () => {
    const { body } = await gateway.root.ask("POST", "/api/v1/tokens", {
      scopes: [{ verbs: ["secrets:reveal"] }],
      environment: "prod",
    });
    const headers = { Authorization: `Bearer ${body.token}` };
    for (const more of [{}, { "X-Ironflow-Environment": "current" }]) {
      const path = "/api/v1/secrets/web.theme/value";
      const answer = await gateway.root.ask("GET", path, undefined, { ...headers, ...more });
      expect(answer.body.value).toBe("prod");
    }
  });
});

test("buckets are named in metrics for whoever may know all of them", async () => {
  const text = async (who: Asker): Promise<string> => (await who.ask("GET", "/metrics")).body;
  expect(await text(gateway.root)).toContain("# HELP jetbucket_feed_lag_events ");
  expect(await text(owner)).not.toContain("bucket=");
  expect(await text(owner)).not.toContain("# HELP jetbucket_feed_lag_events ");
});
