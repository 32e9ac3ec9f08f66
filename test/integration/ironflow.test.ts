/** What clients of Ironflow rely on, at the native routes and under /compat/ironflow. */
import { beforeAll, describe, expect, test } from "vitest";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { Connection } from "../support/raw-http.ts";
import { openWatch, refusedWatch, watchUrl } from "../support/watch-client.ts";

let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  gateway = await startGateway();
  return () => gateway.close();
});

const COMPAT = "/compat/ironflow";

/** The routes of keys: as they are, and with values in base64. */
const bases = (): [string, string] => [gateway.api, `${gateway.url}${COMPAT}/api/v1/kv`];

async function newBucket(config: object = {}): Promise<string> {
  const name = `flow${count++}`;
  const { status } = await callJson("POST", `${gateway.api}/buckets`, { name, ...config });
  expect(status).toBe(201);
  return name;
}

/** Behaves as the clients for Go and Python do: keys wholly encoded, values read as base64. */
class Base64Client {
  readonly #connection = new Connection(gateway.url);
  readonly #bucket: string;
  readonly #contentType: string;

  constructor(bucket: string, language: "go" | "python") {
    this.#bucket = `${COMPAT}/api/v1/kv/buckets/${bucket}`;
    this.#contentType = language === "go" ? "application/octet-stream" : "application/json";
  }

  async put(key: string, value: unknown, headers: Record<string, string> = {}): Promise<number> {
    const body = this.#contentType === "application/json" ? JSON.stringify(value) : String(value);
    const answer = await this.#send("PUT", this.#path(key), body, {
      "Content-Type": this.#contentType,
      ...headers,
    });
    return (answer.body as { revision: number }).revision;
  }

  async get(key: string) {
    const { body } = await this.#send("GET", this.#path(key));
    const { value, ...entry } = body as { value: string; revision: number; operation: string };
    expect(value).toMatch(/^[A-Za-z0-9+/]*={0,2}$/);
    return { ...entry, value: Buffer.from(value, "base64").toString() };
  }

  async delete(key: string, query = ""): Promise<void> {
    await this.#send("DELETE", `${this.#path(key)}${query}`);
  }

  async keys(filter: string): Promise<unknown> {
    return (await this.#send("GET", `${this.#bucket}/keys?filter=${filter}`)).body;
  }

  #path(key: string): string {
    return `${this.#bucket}/keys/${encodeURIComponent(key)}`;
  }

  async #send(method: string, path: string, body = "", headers: Record<string, string> = {}) {
    const answer = await this.#connection.send(method, path, body, headers);
    if (answer.status >= 400) throw Object.assign(new Error(String(answer.body.error)), answer);
    return answer;
  }
}

describe("a client that reads base64", () => {
  test.each(["go", "python"] as const)("works, as that for %s does", async (language) => {
    const bucket = await newBucket({ history: 3 });
    const kv = new Base64Client(bucket, language);
    const stored = language === "go" ? "dark" : '"dark"';
    const revision = await kv.put("user:123/profile", "dark");
    expect(await kv.get("user:123/profile")).toEqual({
      key: "user:123/profile",
      value: stored,
      encoding: "base64",
      revision,
      created_at: expect.any(String),
      operation: "put",
    });
    const next = await kv.put("user:123/profile", "light", { "If-Match": String(revision) });
    await expect(kv.put("user:123/profile", "x", { "If-Match": `"${revision}"` })).rejects.toThrow(
      `at revision ${next} now`,
    );
    await expect(kv.put("user:123/profile", "x", { "If-None-Match": "*" })).rejects.toMatchObject({
      status: 412,
    });
    await kv.put("user.7", "seven");
    expect(await kv.keys("user.*")).toMatchObject({ keys: ["user.7"], count: 1 });
    await kv.delete("user:123/profile");
    await expect(kv.get("user:123/profile")).rejects.toMatchObject({ status: 404 });
    await kv.delete("user:123/profile", "?purge=true");
    await kv.delete("never-written");
  });

  test("gets whatever is stored as its bytes: JSON, text and bytes", async () => {
    const bucket = await newBucket({ history: 2 });
    const keys = `${gateway.api}/buckets/${bucket}/keys`;
    await callJson("PUT", `${keys}/json`, { a: 1.5 });
    await call("PUT", `${keys}/text`, "für", { "Content-Type": "text/plain" });
    await call("PUT", `${keys}/bytes`, new Uint8Array([255, 0]));
    await call("PUT", `${keys}/empty`, "", { "Content-Type": "application/octet-stream" });
    const compat = `${gateway.url}${COMPAT}/api/v1/kv/buckets/${bucket}`;
    const values: Record<string, string> = {};
    for (const key of ["json", "text", "bytes", "empty"]) {
      values[key] = (await call("GET", `${compat}/keys/${key}`)).body.value;
    }
    expect(values).toEqual({ json: "eyJhIjoxLjV9", text: "ZsO8cg==", bytes: "/wA=", empty: "" });
    const listed = await call("GET", `${compat}/keys?values=true&filter=json`);
    expect(listed.body.entries).toMatchObject([{ value: "eyJhIjoxLjV9", encoding: "base64" }]);
    await call("DELETE", `${keys}/json`);
    const { entries } = (await call("GET", `${compat}/history/json`)).body;
    expect(entries).toMatchObject([{ value: "eyJhIjoxLjV9" }, { operation: "delete" }]);
    expect(entries[1]).not.toHaveProperty("value");
    const put = await callJson("PUT", `${compat}/keys/text?return=previous`, 1);
    expect(put.body.previous).toMatchObject({ value: "ZsO8cg==", encoding: "base64" });
  });

  test("watches: every value is base64, and a delete has none", async () => {
    const bucket = await newBucket();
    const keys = `${gateway.api}/buckets/${bucket}/keys`;
    await callJson("PUT", `${keys}/theme`, { mode: "dark" });
    const [native, base64] = await Promise.all(
      bases().map((api) => openWatch(watchUrl(api, bucket, "key=theme"), { plain: true })),
    );
    const seen = (count: number) =>
      expect.poll(() => [base64!.frames.length, native!.frames.length]).toEqual([count, count]);
    // What is overwritten before a watch has read it is not told.
    await seen(1);
    await callJson("PUT", `${keys}/other`, 1);
    await callJson("PUT", `${keys}/theme`, { mode: "light" });
    await seen(2);
    await call("DELETE", `${keys}/theme?purge=true`);
    await seen(3);
    const text = (mode: string): string => Buffer.from(`{"mode":"${mode}"}`).toString("base64");
    expect(base64!.frames).toMatchObject([
      { type: "kv_update", bucket, key: "theme", value: text("dark"), operation: "put" },
      { type: "kv_update", bucket, key: "theme", value: text("light"), operation: "put" },
      { type: "kv_update", bucket, key: "theme", operation: "delete" },
    ]);
    expect(base64!.frames[2]).not.toHaveProperty("value");
    expect(native!.pairs).toEqual([
      ["theme", { mode: "dark" }],
      ["theme", { mode: "light" }],
      ["theme", undefined],
    ]);
  });

  test("has buckets, config documents and secrets at the same address", async () => {
    const at = (path: string) => `${gateway.url}${COMPAT}/api/v1/${path}`;
    const created = await callJson("POST", at("kv/buckets"), { name: "over-there", history: 2 });
    expect(created).toMatchObject({ status: 201, body: { name: "over-there", history: 2 } });
    expect((await callJson("POST", at("kv/buckets"), { name: "over-there" })).status).toBe(409);
    expect((await callJson("POST", at("kv/buckets"), { name: "a b" })).status).toBe(400);
    expect((await call("GET", at("kv/buckets/over-there"))).body).toMatchObject({ values: 0 });
    expect((await call("DELETE", at("kv/buckets/over-there"))).status).toBe(204);
    expect((await call("GET", at("kv/buckets/over-there"))).status).toBe(404);
    await callJson("PATCH", at("config/app"), { theme: "dark" });
    expect((await call("GET", at("config/app"))).body.data).toEqual({ theme: "dark" });
    const current = { "X-Ironflow-Environment": "current" };
    expect((await call("GET", at("config/app"), undefined, current)).status).toBe(200);
    expect((await call("GET", at("secrets"), undefined, current)).body.code).toBe(
      "secrets_disabled",
    );
  });
});

describe("a client at the native routes", () => {
  test("reaches one key, however much of it is encoded", async () => {
    const bucket = await newBucket();
    const connection = new Connection(gateway.url);
    const keys = `/api/v1/kv/buckets/${bucket}/keys`;
    for (const paths of [
      ["a/b", "a%2Fb", "%61%2F%62"],
      ["user:123:profile", "user%3A123%3Aprofile"],
      ["it's(1)!*", "it%27s%281%29%21%2A"],
      ["a+b", "a%2Bb"],
    ]) {
      const { body } = await connection.send("PUT", `${keys}/${paths[0]!}`, "x");
      for (const path of paths) {
        const answer = await connection.send("GET", `${keys}/${path}`);
        expect(answer.body).toMatchObject({ revision: body.revision, value: "x" });
      }
    }
  });

  test.each([
    ["an object", '{"a":1}', "application/json", { value: { a: 1 }, encoding: "json" }],
    ["null", "null", "application/json", { value: null, encoding: "json" }],
    ["a string", "123", "application/octet-stream", { value: "123", encoding: "text" }],
    ["an empty string", "", "application/octet-stream", { value: "", encoding: "text" }],
    ["undefined", "", undefined, { value: "", encoding: "text" }],
    ["bytes", new Uint8Array([255]), undefined, { value: "/w==", encoding: "base64" }],
  ])("may send %s", async (_, body, contentType, expected) => {
    const bucket = await newBucket();
    const connection = new Connection(gateway.url);
    const path = `/api/v1/kv/buckets/${bucket}/keys/key`;
    const headers: Record<string, string> = contentType ? { "Content-Type": contentType } : {};
    const put = await connection.send("PUT", path, body, headers);
    expect([put.status, put.body.revision]).toEqual([200, 1]);
    expect((await connection.send("GET", path)).body).toMatchObject({
      ...expected,
      operation: "put",
    });
  });

  test("may send a revision bare, quoted or weak", async () => {
    const bucket = await newBucket();
    const url = `${gateway.api}/buckets/${bucket}/keys/key`;
    let { revision } = (await callJson("PUT", url, 0)).body;
    for (const tag of [(r: number) => `${r}`, (r: number) => `"${r}"`, (r: number) => `W/"${r}"`]) {
      const { status, body } = await callJson("PUT", url, 1, { "If-Match": tag(revision) });
      expect(status).toBe(200);
      expect((await callJson("PUT", url, 1, { "If-Match": tag(revision) })).status).toBe(412);
      ({ revision } = body);
    }
  });

  test.each(["/api/v1/kv", `${COMPAT}/api/v1/kv`])(
    "is refused a watch by an HTTP answer (%j)",
    async (prefix) => {
      const { status, body } = await refusedWatch(watchUrl(gateway.url + prefix, "nowhere"), {
        plain: true,
      });
      expect([status, body.code]).toEqual([404, "bucket_not_found"]);
      expect(body.error).toEqual(expect.any(String));
    },
  );

  test.each(["/api/v1/kv", `${COMPAT}/api/v1/kv`])(
    "gets an error frame and then the close when its bucket goes (%j)",
    async (prefix) => {
      const bucket = await newBucket();
      await callJson("PUT", `${gateway.api}/buckets/${bucket}/keys/key`, 1);
      const watch = await openWatch(watchUrl(gateway.url + prefix, bucket), { plain: true });
      await expect.poll(() => watch.updates.length).toBe(1);
      await call("DELETE", `${gateway.api}/buckets/${bucket}`);
      await expect.poll(() => watch.closed?.code).toBe(4404);
      expect(watch.frames.map(({ type }) => type)).toEqual(["kv_update", "error"]);
      expect(watch.frames[1]).toMatchObject({ type: "error", message: expect.any(String) });
    },
  );
});
