/** Who may do what at Kestra's paths and under /compat/ironflow, and how those are told who may not. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CreatedApiKey } from "../../src/protocol/access.ts";
import type { Scope } from "../../src/protocol/scopes.ts";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { openWatch, refusedWatch, watchUrl } from "../support/watch-client.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await startGateway(undefined, ["--root-key", ROOT]);
});
afterAll(() => gateway.close());

const bearer = (key: string): Record<string, string> => ({ Authorization: `Bearer ${key}` });

async function newKey(...scopes: Scope[]): Promise<string> {
  const url = `${gateway.url}/api/v1/api-keys`;
  const { body } = await callJson("POST", url, { name: "test", scopes }, bearer(ROOT));
  return (body as CreatedApiKey).key;
}

/** Kestra's routes for whoever has a key. */
const kestra =
  (key: string) =>
  (method: string, path: string, body?: string): ReturnType<typeof call> =>
    call(method, `${gateway.url}/api/v1${path}`, body, bearer(key));

test("each operation of Kestra's wants its verb on its key, and lists show what may be read", async () => {
  const root = kestra(ROOT);
  for (const path of ["a.b/kv/mine.x", "a.b/kv/other", "a/kv/mine.up", "secret/kv/mine.z"])
    await root("PUT", `/namespaces/${path}`, "1");
  const some = kestra(
    await newKey(
      { verbs: ["read", "write"], bucket: "a--b", keys: ["mine.>"] },
      { verbs: ["delete"], bucket: "a--b", keys: ["mine.x"] },
      { verbs: ["read"], bucket: "a" },
    ),
  );
  const keysOf = (entries: { key: string }[]) => entries.map(({ key }) => key);
  const kv = "/namespaces/a.b/kv";
  expect((await some("GET", `${kv}/mine.x`)).status).toBe(200);
  expect((await some("PUT", `${kv}/mine.y`, "2")).status).toBe(200);
  expect(keysOf((await some("GET", kv)).body)).toEqual(["mine.x", "mine.y"]);
  expect(keysOf((await some("GET", `${kv}/inheritance`)).body)).toEqual(["mine.up"]);
  const all = (await some("GET", "/main/kv")).body;
  expect([keysOf(all.results), all.total]).toEqual([["mine.up", "mine.x", "mine.y"], 3]);
  const refused: [string, string, string?][] = [
    ["GET", `${kv}/other`],
    ["GET", `${kv}/missing`],
    ["PUT", `${kv}/other`, "2"],
    ["DELETE", `${kv}/mine.y`],
    ["DELETE", kv, '{"keys":["mine.x","mine.y"]}'],
    ["PUT", "/namespaces/a/kv/mine.up", "2"],
    ["GET", "/namespaces/secret/kv"],
    ["GET", "/namespaces/nowhere/kv"],
    ["PUT", "/namespaces/nowhere/kv/key", "1"],
    ["GET", "/acme/namespaces/a.b/kv/mine.x"],
  ];
  for (const [method, path, body] of refused) {
    const answer = await some(method, path, body);
    expect([method, path, answer.status, Object.keys(answer.body)]).toEqual([
      method,
      path,
      403,
      ["message"],
    ]);
  }
  expect((await some("DELETE", `${kv}/mine.x`)).body).toBe(true);
  expect((await root("GET", "/namespaces/a.b/kv/mine.y")).status).toBe(200);
});

test("who is not known is told so in Kestra's form at its paths, and in ours elsewhere", async () => {
  for (const path of ["/namespaces/a/kv/key", "/main/namespaces/a/kv?x=1", "/main/kv?page=1"]) {
    const answer = await call("GET", `${gateway.url}/api/v1${path}`);
    expect([answer.status, Object.keys(answer.body)]).toEqual([401, ["message"]]);
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  }
  for (const path of ["/config/kv", "/kv/kv", "/compat/ironflow/api/v1/kv/buckets"]) {
    const url = path.startsWith("/compat") ? gateway.url + path : `${gateway.url}/api/v1${path}`;
    expect(await call("GET", url)).toMatchObject({
      status: 401,
      body: { code: "unauthenticated" },
    });
  }
});

test("a watch of Ironflow's clients without credentials is refused by an HTTP answer", async () => {
  await callJson("POST", `${gateway.api}/buckets`, { name: "flow" }, bearer(ROOT));
  const address = watchUrl(`${gateway.url}/compat/ironflow/api/v1/kv`, "flow");
  expect((await refusedWatch(address, { plain: true })).status).toBe(401);
  const watch = await openWatch(address, { plain: true, headers: bearer(ROOT) });
  await callJson("PUT", `${gateway.api}/buckets/flow/keys/key`, 1, bearer(ROOT));
  await expect.poll(() => watch.pairs).toEqual([["key", "MQ=="]]);
});
