import { beforeAll, describe, expect, test } from "vitest";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { startTestNats } from "../support/nats.ts";
import { Connection } from "../support/raw-http.ts";

let gateways: [TestGateway, TestGateway];
let count = 0;

beforeAll(async () => {
  const nats = await startTestNats();
  gateways = [await startGateway(nats), await startGateway(nats)];
  return () => Promise.all(gateways.map((gateway) => gateway.close()));
});

const namesOf = (configs: readonly { name: string }[]): string[] => configs.map(({ name }) => name);

/** The routes of an environment that no other test uses. */
function newEnvironment(gateway = gateways[0]) {
  const name = `env${count++}`;
  const at =
    (base: string) =>
    (method: string, document = "", body?: unknown, headers: Record<string, string> = {}) => {
      const url = `${base}/api/v1/config${document === "" ? "" : `/${document}`}`;
      const all = { "X-Ironflow-Environment": name, ...headers };
      return body === undefined
        ? call(method, url, undefined, all)
        : callJson(method, url, body, all);
    };
  return Object.assign(at(gateway.url), { environment: name, on: (url: string) => at(url) });
}

describe("a config document", () => {
  test("is set, read, listed and deleted", async () => {
    const config = newEnvironment();
    const set = await config("POST", "app", { theme: "dark", max: 3 });
    expect(set).toMatchObject({ status: 200, body: { name: "app", revision: 1 } });
    expect(Object.keys(set.body as object)).toEqual(["name", "revision"]);
    const { status, body, headers } = await config("GET", "app");
    expect(status).toBe(200);
    expect(body).toEqual({
      name: "app",
      data: { theme: "dark", max: 3 },
      revision: 1,
      updatedAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    expect(headers.get("etag")).toBe('"1"');
    await config("POST", "a-first", {});
    const list = await config("GET");
    expect(namesOf(list.body.configs)).toEqual(["a-first", "app"]);
    expect(list.body.configs[1]).toEqual({ name: "app", revision: 1, updatedAt: body.updatedAt });
    expect((await config("DELETE", "app")).status).toBe(204);
    expect((await config("DELETE", "app")).status).toBe(204);
    expect(await config("GET", "app")).toMatchObject({
      status: 404,
      body: { code: "config_not_found" },
    });
    expect((await config("GET")).body.configs).toHaveLength(1);
  });

  test("is replaced as a whole by POST", async () => {
    const config = newEnvironment();
    await config("POST", "app", { a: 1, b: 2 });
    await config("POST", "app", { b: 3 });
    expect((await config("GET", "app")).body.data).toEqual({ b: 3 });
  });

  test("is patched field by field: each as a whole, null as a value", async () => {
    const config = newEnvironment();
    await config("POST", "app", { keep: 1, nested: { a: 1, b: 2 }, gone: true });
    const { status, body } = await config("PATCH", "app", {
      nested: { c: 3 },
      gone: null,
      new: [],
    });
    expect([status, body.name]).toEqual([200, "app"]);
    expect((await config("GET", "app")).body).toMatchObject({
      data: { keep: 1, nested: { c: 3 }, gone: null, new: [] },
      revision: body.revision,
    });
  });

  test("is created by a patch when it is missing, and after it was deleted", async () => {
    const config = newEnvironment();
    await config("PATCH", "app", { a: 1 });
    expect((await config("GET", "app")).body.data).toEqual({ a: 1 });
    await config("DELETE", "app");
    await config("PATCH", "app", { b: 2 });
    expect((await config("GET", "app")).body.data).toEqual({ b: 2 });
  });

  test("keeps what JSON.parse would lose, as long as nobody patches it", async () => {
    const { url } = gateways[0];
    const text = '{"id": 12345678901234567890, "a":1.0}';
    await call("POST", `${url}/api/v1/config/exact`, text, { "Content-Type": "application/json" });
    const raw = await (await fetch(`${url}/api/v1/config/exact`)).text();
    expect(raw).toContain(`"data":${text},`);
  });

  test("takes a field called __proto__ as a field like any other", async () => {
    const config = newEnvironment();
    const { url } = gateways[0];
    const body = '{"__proto__": {"admin": true}, "constructor": {"prototype": {"x": 1}}}';
    await config("POST", "app", { own: 1 });
    await call("PATCH", `${url}/api/v1/config/app`, body, {
      "X-Ironflow-Environment": config.environment,
      "Content-Type": "application/json",
    });
    const text = await (
      await fetch(`${url}/api/v1/config/app`, {
        headers: { "X-Ironflow-Environment": config.environment },
      })
    ).text();
    expect(text).toContain('"__proto__":{"admin":true}');
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
  });

  test.each([
    ["[]", "invalid_request"],
    ["null", "invalid_request"],
    ['"text"', "invalid_request"],
    ["{", "invalid_json"],
    ["", "invalid_json"],
  ])("is refused when its body is %j", async (body, code) => {
    for (const method of ["POST", "PATCH"]) {
      const answer = await call(method, `${gateways[0].url}/api/v1/config/refused`, body);
      expect(answer).toMatchObject({ status: 400, body: { code } });
    }
  });

  test("is reached by any name that is percent-encoded", async () => {
    const config = newEnvironment();
    const names = ["a/b", "ü n", "a.b..c", "user:1", "*", ">", "100%", "a?b#c", "keyring"];
    for (const name of names) await config("POST", encodeURIComponent(name), { name });
    for (const name of names) {
      const { body } = await config("GET", encodeURIComponent(name));
      expect(body).toMatchObject({ name, data: { name } });
    }
    const list = await config("GET");
    expect(namesOf(list.body.configs)).toEqual([...names].sort());
  });

  test.each([
    ["with a zero byte", "%00", "control characters"],
    ["that is no UTF-8", "%ff", "percent-encoding"],
    ["of 513 bytes", "a".repeat(513), "512 bytes"],
  ])("is refused under a name %s", async (_, name, message) => {
    // With a connection of its own: fetch would change the path.
    const connection = new Connection(gateways[0].url);
    const { status, body } = await connection.send("POST", `/api/v1/config/${name}`, "{}");
    expect([status, body.code]).toEqual([400, "invalid_request"]);
    expect(body.error).toContain(message);
  });

  test("cannot be patched when another NATS client stored something else than an object", async () => {
    const config = newEnvironment();
    await config("POST", "app", {});
    const { kvm } = await connectForeign(gateways[0].server.url);
    const kv = await kvm.open(`SYS_config_${config.environment}`);
    await kv.put("app", "not an object");
    expect(await config("PATCH", "app", { a: 1 })).toMatchObject({
      status: 400,
      body: { code: "invalid_request" },
    });
    expect((await config("GET", "app")).body.data).toBe("not an object");
    expect((await config("POST", "app", { a: 1 })).status).toBe(200);
  });

  test("answers 405 with what is allowed", async () => {
    const { status, headers } = await call("PUT", `${gateways[0].url}/api/v1/config/app`, "{}");
    expect([status, headers.get("allow")]).toEqual([405, "GET, HEAD, POST, PATCH, DELETE"]);
  });
});

describe("conditions", () => {
  test("If-None-Match: * stores a document only when there is none", async () => {
    const config = newEnvironment();
    const absent = { "If-None-Match": "*" };
    expect((await config("POST", "app", { a: 1 }, absent)).status).toBe(200);
    for (const method of ["POST", "PATCH"]) {
      expect(await config(method, "app", { a: 2 }, absent)).toMatchObject({
        status: 412,
        body: { code: "key_exists", details: { current_revision: 1 } },
      });
    }
    expect((await config("DELETE", "app", undefined, absent)).status).toBe(412);
    expect((await config("GET", "app")).body.data).toEqual({ a: 1 });
  });

  test("If-Match writes only over the revision that it names", async () => {
    const config = newEnvironment();
    const { revision } = (await config("POST", "app", { a: 1 })).body;
    const match = (tag: string | number) => ({ "If-Match": String(tag) });
    for (const method of ["POST", "PATCH", "DELETE"]) {
      const body = method === "DELETE" ? undefined : { b: 1 };
      expect(await config(method, "app", body, match(revision + 1))).toMatchObject({
        status: 412,
        body: { code: "revision_mismatch", details: { current_revision: revision } },
      });
    }
    const patched = await config("PATCH", "app", { b: 2 }, match(`"${revision}"`));
    expect(patched.status).toBe(200);
    const set = await config("POST", "app", { c: 3 }, match(`W/"${patched.body.revision}"`));
    expect(set.status).toBe(200);
    expect((await config("DELETE", "app", undefined, match(set.body.revision))).status).toBe(204);
  });

  test("If-Match on a delete fails where nothing is, also without a bucket", async () => {
    const config = newEnvironment();
    expect((await config("DELETE", "app", undefined, { "If-Match": "3" })).status).toBe(412);
    expect((await config("DELETE", "app", undefined, { "If-Match": "0" })).status).toBe(204);
  });

  test("If-None-Match on a read spares the document when it is known", async () => {
    const config = newEnvironment();
    await config("POST", "app", { a: 1 });
    const known = await config("GET", "app", undefined, { "If-None-Match": '"1"' });
    expect([known.status, known.headers.get("etag"), known.body]).toEqual([304, '"1"', ""]);
  });
});

test("of 100 writers that patch different fields at once, on two gateways, none loses its field", async () => {
  const config = newEnvironment();
  const sides = gateways.map(({ url }) => config.on(url));
  const writers = Array.from({ length: 100 }, (_, i) => i);
  const answers = await Promise.all(
    writers.map((i) => sides[i % 2]!("PATCH", "app", { [`field${i}`]: i })),
  );
  expect(answers.map(({ status }) => status)).toEqual(writers.map(() => 200));
  expect(new Set(answers.map(({ body }) => body.revision)).size).toBe(100);
  const { data } = (await config("GET", "app")).body;
  expect(data).toEqual(Object.fromEntries(writers.map((i) => [`field${i}`, i])));
});

describe("environments", () => {
  test("are apart from each other", async () => {
    const [one, two] = [newEnvironment(), newEnvironment()];
    await one("POST", "app", { of: "one" });
    expect((await two("GET", "app")).status).toBe(404);
    expect((await two("GET")).body).toEqual({ configs: [] });
    await two("POST", "app", { of: "two" });
    expect((await one("GET", "app")).body.data).toEqual({ of: "one" });
  });

  test("are called default when nobody says, or says current", async () => {
    const { url } = gateways[0];
    await callJson("POST", `${url}/api/v1/config/which`, { is: "default" });
    for (const name of ["default", "current", ""]) {
      const headers = { "X-Ironflow-Environment": name };
      expect(
        (await call("GET", `${url}/api/v1/config/which`, undefined, headers)).body,
      ).toMatchObject({ data: { is: "default" } });
    }
  });

  test.each(["a.b", "a b", "*", "../x", "x".repeat(65), "APP_x>"])(
    "cannot be called %j",
    async (name) => {
      const headers = { "X-Ironflow-Environment": name };
      const url = `${gateways[0].url}/api/v1/config`;
      expect(await call("GET", url, undefined, headers)).toMatchObject({
        status: 400,
        body: { code: "invalid_request" },
      });
    },
  );

  test("have no bucket before the first document, so that reading makes none", async () => {
    const config = newEnvironment();
    await config("GET", "app");
    await config("GET");
    await config("DELETE", "app");
    const { jsm } = await connectForeign(gateways[0].server.url);
    const streams = await jsm.streams.names().next();
    expect(streams).not.toContain(`KV_SYS_config_${config.environment}`);
  });

  test("come back by themselves when somebody deletes their bucket", async () => {
    const config = newEnvironment();
    const { jsm } = await connectForeign(gateways[0].server.url);
    for (const method of ["POST", "PATCH"]) {
      await config("POST", "app", { a: 1 });
      await jsm.streams.delete(`KV_SYS_config_${config.environment}`);
      expect((await config("GET", "app")).status).toBe(404);
      await config("POST", "other", {});
      await jsm.streams.delete(`KV_SYS_config_${config.environment}`);
      const sides = gateways.map(({ url }) => config.on(url));
      const answers: Answer[] = await Promise.all(
        sides.map((side) => side(method, "app", { b: 2 })),
      );
      expect(answers.map(({ status }) => status)).toEqual([200, 200]);
      expect((await config("GET", "app")).body.data).toEqual({ b: 2 });
    }
  });

  test("begin with one bucket, however many write their first documents at once", async () => {
    const config = newEnvironment();
    const sides = gateways.map(({ url }) => config.on(url));
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => sides[i % 2]!("POST", `d${i}`, { i })),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect((await config("GET")).body.configs).toHaveLength(20);
  });
});

describe("the key-value routes", () => {
  test("neither list nor reach the buckets of config documents", async () => {
    const config = newEnvironment();
    await config("POST", "app", { hidden: true });
    const { api } = gateways[0];
    const { body } = await call("GET", `${api}/buckets`);
    expect(JSON.stringify(body)).not.toContain("SYS_");
    for (const name of [`SYS_config_${config.environment}`, `sys_config_${config.environment}`]) {
      for (const path of ["", "/keys", "/keys/app", "/history/app", "/watch"]) {
        const { status, body } = await call("GET", `${api}/buckets/${name}${path}`);
        expect([status, body.code]).toEqual(
          path === "/watch" ? [400, "invalid_request"] : [400, "invalid_bucket_name"],
        );
      }
      expect((await call("DELETE", `${api}/buckets/${name}`)).status).toBe(400);
      expect((await callJson("POST", `${api}/buckets`, { name })).status).toBe(400);
    }
    // A bucket of that name behind the prefix of users is another one.
    expect((await call("GET", `${api}/buckets/config_${config.environment}/keys/app`)).status).toBe(
      404,
    );
  });
});
