import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import type { Page } from "../../src/dialects/kestra/listing.ts";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";

let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  gateway = await startGateway();
  return () => gateway.close();
});

/** The routes of a namespace that no other test uses. */
function newNamespace(name = `ns${count++}.team`) {
  const at =
    (base: string) =>
    (method: string, path = "", body?: string, headers: Record<string, string> = {}) =>
      call(method, `${gateway.url}${base}/namespaces/${name}/kv${path}`, body, headers);
  return Object.assign(at("/api/v1"), { namespace: name, of: (t: string) => at(`/api/v1/${t}`) });
}

const keysOf = (entries: readonly { key: string }[]): string[] => entries.map(({ key }) => key);

/** Runs one of the lines below as it stands but for the port: with curl, or, where there is none, as curl would. */
async function curl(line: string): Promise<string> {
  const words = Array.from(
    line.replace("http://localhost:8080", gateway.url).matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g),
    ([, single, double, bare]) => single ?? double ?? bare!,
  ).slice(1);
  try {
    return (await promisify(execFile)("curl", ["-sS", ...words])).stdout;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const [, method, , header, url, , data] = words;
  const [name, value] = header!.split(": ");
  const init = { method: method!, headers: { [name!]: value! }, ...(data && { body: data }) };
  return (await fetch(url!, init)).text();
}

describe("the lines of Kestra's page print what it says", () => {
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
  const listed = (key: string): unknown =>
    expect.objectContaining({
      key,
      creationDate: expect.stringMatching(time),
      updateDate: expect.stringMatching(time),
    });

  test.each([
    [
      `curl -X PUT -H "Content-Type: application/json" http://localhost:8080/api/v1/namespaces/company.team/kv/my_key -d '"Hello World"'`,
      undefined,
    ],
    [
      `curl -X GET -H "Content-Type: application/json" http://localhost:8080/api/v1/namespaces/company.team/kv/my_key`,
      expect.objectContaining({ type: "STRING", value: "Hello World" }),
    ],
    [
      `curl -X GET -H "Content-Type: application/json" http://localhost:8080/api/v1/namespaces/company.team/kv`,
      [listed("my_key"), listed("test_key")],
    ],
    [
      `curl -X DELETE -H "Content-Type: application/json" http://localhost:8080/api/v1/namespaces/company.team/kv/my_key`,
      true,
    ],
    [
      `curl -X DELETE -H "Content-Type: application/json" http://localhost:8080/api/v1/namespaces/company.team/kv/my_key`,
      false,
    ],
  ])("%s", async (line, expected) => {
    await newNamespace("company.team")("PUT", "/test_key", "1");
    const printed = await curl(line);
    expect(printed === "" ? undefined : JSON.parse(printed)).toEqual(expected);
  });

  test("as patterns, with any namespace and key", async () => {
    const fill = (line: string): string =>
      line
        .replace("{namespace}", "any.space")
        .replace("{key}", "any_key")
        .replace("<value>", "[1,2]");
    const base = `-H "Content-Type: application/json" http://localhost:8080/api/v1/namespaces/{namespace}/kv`;
    expect(await curl(fill(`curl -X PUT ${base}/{key} -d '<value>'`))).toBe("");
    expect(JSON.parse(await curl(fill(`curl -X GET ${base}/{key}`)))).toMatchObject({
      type: "JSON",
      value: [1, 2],
    });
    expect(keysOf(JSON.parse(await curl(fill(`curl -X GET ${base}`))))).toEqual(["any_key"]);
    expect(await curl(fill(`curl -X DELETE ${base}/{key}`))).toBe("true");
  });
});

describe("a value", () => {
  test.each([
    ['"hello"', "STRING", '"hello"', "text"],
    ["hello world", "STRING", '"hello world"', "text"],
    ['"PT5S"', "STRING", '"PT5S"', "text"],
    ['"2021-09-01"', "STRING", '"2021-09-01"', "text"],
    ["", "STRING", '""', "text"],
    ["2021-02-30", "STRING", '"2021-02-30"', "text"],
    ["{ not: json", "STRING", '"{ not: json"', "text"],
    ["+5", "STRING", '"+5"', "text"],
    ["null", "STRING", "null", "json"],
    ["1", "NUMBER", "1", "json"],
    ["1.0", "NUMBER", "1.0", "json"],
    ["-12345678901234567890", "NUMBER", "-12345678901234567890", "json"],
    ["true", "BOOLEAN", "true", "json"],
    ["false", "BOOLEAN", "false", "json"],
    ["2021-09-01", "DATE", '"2021-09-01"', "text"],
    ["2021-09-01T01:02:03Z", "DATETIME", '"2021-09-01T01:02:03Z"', "text"],
    ["2021-09-01T01:02:03.123+02:00\n", "DATETIME", '"2021-09-01T01:02:03.123+02:00"', "text"],
    ["PT5S", "DURATION", '"PT5S"', "text"],
    ["P1DT12H", "DURATION", '"P1DT12H"', "text"],
    ['{"hello": "world"}', "JSON", '{"hello": "world"}', "json"],
    ['["hello",1.0]', "JSON", '["hello",1.0]', "json"],
  ])("%j is %s, and native readers get it as %s", async (body, type, json, encoding) => {
    const kv = newNamespace("types");
    expect(await kv("PUT", "/key", body, { "Content-Type": "text/plain" })).toMatchObject({
      status: 200,
      body: "",
    });
    const raw = await (await fetch(`${gateway.url}/api/v1/namespaces/types/kv/key`)).text();
    expect(raw).toMatch(/^\{"type":"[A-Z]+","value":.*,"revision":\d+,"updated":".*Z"\}$/);
    expect(raw).toContain(`{"type":"${type}","value":${json},"revision":`);
    const native = await (await fetch(`${gateway.api}/buckets/types/keys/key`)).text();
    expect(native).toContain(`"value":${json},"encoding":"${encoding}"`);
    expect(native).toContain(`"value_type":"${type}"`);
  });

  test("is taken whatever the content type says, or without one", async () => {
    const kv = newNamespace();
    const url = `${gateway.url}/api/v1/namespaces/${kv.namespace}/kv/bare`;
    // Bytes get no content type from fetch.
    expect((await fetch(url, { method: "PUT", body: Buffer.from("7") })).status).toBe(200);
    await kv("PUT", "/json", "hello", { "Content-Type": "application/json" });
    expect((await kv("GET", "/bare")).body).toMatchObject({ type: "NUMBER", value: 7 });
    expect((await kv("GET", "/json")).body).toMatchObject({ type: "STRING", value: "hello" });
  });

  test.each([
    ["application/json", "1.50", "NUMBER", 1.5],
    ["application/json", '"text"', "STRING", "text"],
    ["application/json", '{"a":1}', "JSON", { a: 1 }],
    ["text/plain", "2021-09-01", "STRING", "2021-09-01"],
    ["application/octet-stream", "\u00ff\u00fe", "STRING", "ÿþ"],
  ])("that was written natively as %s %j reads as %s", async (contentType, body, type, value) => {
    const kv = newNamespace();
    await kv("PUT", "/other", "1");
    const bucket = kv.namespace.replace(".", "--");
    await call("PUT", `${gateway.api}/buckets/${bucket}/keys/key`, body, {
      "Content-Type": contentType,
    });
    expect((await kv("GET", "/key")).body).toMatchObject({ type, value });
  });

  test("that another NATS client wrote reads as what it looks like", async () => {
    const kv = newNamespace();
    await kv("PUT", "/other", "1");
    const { kvm } = await connectForeign(gateway.server.url);
    const foreign = await kvm.open(`APP_${kv.namespace.replace(".", "--")}`);
    await foreign.put("json", "[1]");
    await foreign.put("bytes", new Uint8Array([255, 0]));
    expect((await kv("GET", "/json")).body).toMatchObject({ type: "JSON", value: [1] });
    expect((await kv("GET", "/bytes")).body).toMatchObject({ type: "STRING", value: "/wA=" });
  });

  test("whose label no longer fits reads as what it is", async () => {
    const kv = newNamespace();
    await kv("PUT", "/key", "1");
    const url = `${gateway.api}/buckets/${kv.namespace.replace(".", "--")}/keys/key`;
    await callJson("PUT", `${url}?value_type=NUMBER`, { now: "an object" });
    expect((await kv("GET", "/key")).body).toMatchObject({ type: "JSON" });
  });
});

describe("a write", () => {
  test("keeps the time of the key's creation, and replaces its description and end", async () => {
    const kv = newNamespace();
    const description = Buffer.from("für später").toString("latin1");
    await kv("PUT", "/key", "1", { ttl: "PT5M", description });
    const [first] = (await kv("GET")).body;
    expect(first).toEqual({
      key: "key",
      namespace: kv.namespace,
      description: "für später",
      version: 1,
      revision: 1,
      creationDate: first.updateDate,
      updateDate: first.updateDate,
      expirationDate: new Date(Date.parse(first.updateDate) + 300_000).toISOString(),
    });
    await kv("PUT", "/key", "2");
    const [second] = (await kv("GET")).body;
    expect(second).toEqual({
      key: "key",
      namespace: kv.namespace,
      version: 2,
      revision: 2,
      creationDate: first.creationDate,
      updateDate: expect.any(String),
    });
    expect(second.updateDate > first.updateDate).toBe(true);
    expect((await kv("GET", "/key")).body).toMatchObject({
      revision: 2,
      updated: second.updateDate,
    });
  });

  test("with a ttl is gone when that is over: 404, and in no listing", async () => {
    const kv = newNamespace();
    await kv("PUT", "/stays", "1");
    await kv("PUT", "/goes", "1", { ttl: "PT1S" });
    expect((await kv("GET", "/goes")).status).toBe(200);
    await expect.poll(async () => (await kv("GET", "/goes")).status, { timeout: 5_000 }).toBe(404);
    expect(keysOf((await kv("GET")).body)).toEqual(["stays"]);
    expect((await kv("DELETE", "/goes")).body).toBe(false);
  });

  test.each(["-PT5S", "PT-5S", "PT0S", "5m", "60", "soon", "P3Y"])(
    "is refused with the ttl %j",
    async (ttl) => {
      const kv = newNamespace();
      const { status, body } = await kv("PUT", "/key", "1", { ttl });
      expect([status, Object.keys(body)]).toEqual([422, ["message"]]);
      expect(body.message).toMatch(/^Illegal argument: .*(?:duration|time to live)/);
      expect((await kv("GET", "/key")).status).toBe(404);
    },
  );

  test("of what is not UTF-8 is refused", async () => {
    const url = `${gateway.url}/api/v1/namespaces/raw/kv/key`;
    const { status } = await call("PUT", url, new Uint8Array([0x22, 0xff, 0x22]));
    expect(status).toBe(422);
  });

  test("of more than a value may have is refused", async () => {
    const { status, body } = await newNamespace()("PUT", "/key", "x".repeat(2 * 1024 * 1024));
    expect([status, Object.keys(body)]).toEqual([413, ["message"]]);
  });

  test("of two at once creates the namespace once", async () => {
    const kv = newNamespace();
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => kv("PUT", `/key${i}`, String(i))),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array<number>(10).fill(200));
    expect((await kv("GET")).body).toHaveLength(10);
  });
});

describe("a key", () => {
  const sentence =
    "Illegal argument: Key must start with an alphanumeric character (uppercase or lowercase) and can contain alphanumeric characters (uppercase or lowercase), dots (.), underscores (_), and hyphens (-) only.";

  test.each(["bad$key", "-bad", ".bad", "b%20d", "a%2Fb", "ü"])("%s is refused", async (key) => {
    const kv = newNamespace();
    for (const method of ["GET", "PUT", "DELETE"]) {
      const answer = await kv(method, `/${key}`, method === "PUT" ? "1" : undefined);
      expect(answer).toMatchObject({ status: 422, body: { message: sentence } });
    }
  });

  test("that was never written, or whose namespace was not, is not found", async () => {
    const kv = newNamespace();
    const missing = {
      status: 404,
      body: {
        message: `Not Found: No value found for key 'my-key' in namespace '${kv.namespace}'`,
      },
    };
    expect(await kv("GET", "/my-key")).toMatchObject(missing);
    expect((await kv("DELETE", "/my-key")).body).toBe(false);
    expect((await kv("GET")).body).toEqual([]);
    expect((await kv("GET", "/inheritance")).body).toEqual([]);
    const bucket = `${gateway.api}/buckets/${kv.namespace.replace(".", "--")}`;
    expect((await call("GET", bucket)).status).toBe(404);
    await kv("PUT", "/other", "1");
    expect(await kv("GET", "/my-key")).toMatchObject(missing);
  });

  test("is deleted together with others: those that were there are named", async () => {
    const kv = newNamespace();
    const remove = (keys: unknown) =>
      kv("DELETE", "", JSON.stringify({ keys }), { "Content-Type": "application/json" });
    expect((await remove(["a"])).body).toEqual({ keys: [] });
    for (const key of ["a", "b", "c"]) await kv("PUT", `/${key}`, "1");
    expect((await remove(["b", "missing", "a", "a"])).body).toEqual({ keys: ["b", "a"] });
    expect(keysOf((await kv("GET")).body)).toEqual(["c"]);
    expect((await remove(["c", "bad$key"])).status).toBe(422);
    expect((await remove("c")).status).toBe(422);
    expect(keysOf((await kv("GET")).body)).toEqual(["c"]);
  });
});

describe("a namespace", () => {
  test("has the keys of those above it as inherited ones, the nearest of each name", async () => {
    const [top, middle, own] = ["inh", "inh.team", "inh.team.app"].map(newNamespace);
    await top!("PUT", "/only-top", "1");
    await top!("PUT", "/shared", "1");
    await middle!("PUT", "/shared", "2", { description: "nearest" });
    await own!("PUT", "/own", "3");
    const { body } = await own!("GET", "/inheritance");
    expect(body).toMatchObject([
      { key: "shared", namespace: "inh.team", description: "nearest" },
      { key: "only-top", namespace: "inh" },
    ]);
    expect((await top!("GET", "/inheritance")).body).toEqual([]);
  });

  test("is the same with the tenant main in the path, and another one with another", async () => {
    const kv = newNamespace();
    await kv.of("main")("PUT", "/key", '"of main"');
    expect((await kv("GET", "/key")).body).toMatchObject({ value: "of main" });
    const acme = kv.of("acme-1");
    expect((await acme("GET", "/key")).status).toBe(404);
    await acme("PUT", "/key", '"of acme"');
    expect((await acme("GET", "/key")).body).toMatchObject({ value: "of acme" });
    expect((await kv("GET", "/key")).body).toMatchObject({ value: "of main" });
    expect(keysOf((await acme("GET", "/inheritance")).body)).toEqual([]);
    const all = await call("GET", `${gateway.url}/api/v1/acme-1/kv`);
    expect(all.body).toMatchObject({ results: [{ namespace: kv.namespace }], total: 1 });
  });

  test("whose name has no room in a bucket's name is refused", async () => {
    const kv = newNamespace(`a.${"b".repeat(61)}`);
    expect((await kv("PUT", "/key", "1")).status).toBe(200);
    const long = newNamespace(`a.${"b".repeat(62)}`);
    for (const method of ["GET", "PUT"]) {
      const { status, body } = await long(method, "/key", method === "PUT" ? "1" : undefined);
      expect([status, body.message]).toEqual([
        422,
        expect.stringContaining("is too long: as a bucket's name it has 65 characters"),
      ]);
    }
  });

  test.each(["-a", "a%20b", "a%2Fb", "SYS_config_default", "%ff"])(
    "called %s is refused",
    async (name) => {
      expect((await newNamespace(name)("PUT", "/key", "1")).status).toBe(422);
    },
  );
});

describe("the listing of all namespaces", () => {
  const list = async (query: string) => {
    const { status, body } = await call("GET", `${gateway.url}/api/v1/paging/kv?${query}`);
    expect(status).toBe(200);
    const { results, total } = body as Page;
    return { names: results.map(({ namespace, key }) => `${namespace}/${key}`), total };
  };

  beforeAll(async () => {
    for (const [name, key, description] of [
      ["a", "k3", "z"],
      ["a.b", "k1", "y"],
      ["a.b", "k2", ""],
      ["c", "other", "x"],
    ] as const) {
      await newNamespace(name).of("paging")("PUT", `/${key}`, "1", { description });
    }
  });

  test.each([
    ["", ["a/k3", "a.b/k1", "a.b/k2", "c/other"], 4],
    ["page=1&size=2&sort=key:asc", ["a.b/k1", "a.b/k2"], 4],
    ["page=2&size=2&sort=key:asc", ["a/k3", "c/other"], 4],
    ["page=9&size=2", [], 4],
    ["sort=key:desc", ["c/other", "a/k3", "a.b/k2", "a.b/k1"], 4],
    ["sort=description:asc", ["c/other", "a.b/k1", "a/k3", "a.b/k2"], 4],
    ["sort=namespace:desc&sort=key:desc", ["c/other", "a.b/k2", "a.b/k1", "a/k3"], 4],
    ["sort=version:desc&size=1", ["a.b/k2"], 4],
    ["filters[namespace][IN]=a,c", ["a/k3", "c/other"], 2],
    ["filters%5Bnamespace%5D%5BNOT_IN%5D=a,c", ["a.b/k1", "a.b/k2"], 2],
    ["filters[namespace][EQUALS]=a.b&filters[key][ENDS_WITH]=2", ["a.b/k2"], 1],
    ["filters[namespace][PREFIX]=a", ["a/k3", "a.b/k1", "a.b/k2"], 3],
    ["filters[q][EQUALS]=OTH", ["c/other"], 1],
    ["filters[namespace][EQUALS]=nowhere", [], 0],
  ])("with %j", async (query, names, total) => {
    expect(await list(query)).toEqual({ names, total });
  });

  test.each([
    "page=0",
    "size=x",
    "size=10001",
    "sort=value",
    "sort=key:up",
    "filters[value][EQUALS]=1",
    "filters[namespace][constructor]=1",
    "filters[namespace]=1",
  ])("refuses %s", async (query) => {
    const { status, body } = await call("GET", `${gateway.url}/api/v1/paging/kv?${query}`);
    expect([status, Object.keys(body)]).toEqual([422, ["message"]]);
  });

  test("shows buckets that were made natively as namespaces", async () => {
    await callJson("POST", `${gateway.api}/buckets`, { name: "made-natively" });
    await callJson("PUT", `${gateway.api}/buckets/made-natively/keys/key`, 1);
    const url = `${gateway.url}/api/v1/main/kv?filters[namespace][EQUALS]=made-natively`;
    expect((await call("GET", url)).body).toMatchObject({ results: [{ key: "key" }], total: 1 });
  });
});

test.each(["kv", "config", "secrets", "api-keys", "namespaces"])(
  "the tenant %s is none: its paths are jetbucket's own",
  async (tenant) => {
    const { status, body } = await newNamespace().of(tenant)("PUT", "/key", "1");
    expect([status, body.code]).toEqual([404, "not_found"]);
    await callJson("POST", `${gateway.url}/api/v1/config/kv`, { is: "a document" });
    expect((await call("GET", `${gateway.url}/api/v1/config/kv`)).body).toMatchObject({
      data: { is: "a document" },
    });
  },
);

test("a method that a path has not answers 405, and what is nowhere is not found as ever", async () => {
  const kv = newNamespace();
  expect(await kv("POST", "/key", "1")).toMatchObject({
    status: 405,
    body: { message: expect.stringContaining("GET, HEAD, PUT, DELETE") },
  });
  const nowhere = await call("GET", `${gateway.url}/api/v1/main/flows`);
  expect([nowhere.status, nowhere.body.code]).toEqual([404, "not_found"]);
  expect((await kv("HEAD", "/key")).status).toBe(404);
});
