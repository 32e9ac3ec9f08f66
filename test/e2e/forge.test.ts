/** Forge's pages, sample by sample, through the real `@forge/kvs` and the built package. */
import { installForge, startsWith, storage } from "jetbucket/forge";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { samples as keySamples } from "./seeds/forge-kvs.ts";
import { samples as secretSamples } from "./seeds/forge-secret-storage.ts";

let gateway: TestGateway;
let uninstall: () => void;

beforeAll(async () => {
  gateway = await startGateway(undefined, ["--master-key", "01".repeat(32)]);
  uninstall = installForge({ serverUrl: gateway.url, bucket: "seeds" });
});
afterAll(async () => {
  uninstall();
  await gateway.close();
});

describe.each([
  ["key-value pairs", keySamples],
  ["secrets", secretSamples],
])("the page about %s", (_, samples) => {
  // In their order: each finds what those before it have left.
  test.each(samples)("%s", async (_title, run, gives) => {
    // The cursor of a page that ended before "example".
    expect(await run(Buffer.from("a").toString("base64url"))).toEqual(gives);
  });
});

describe("the older storage", () => {
  test("sets, gets, queries and deletes keys, apart from secrets", async () => {
    await Promise.all(["old-1", "old-2", "old-3"].map((key, i) => storage.set(key, { i })));
    await storage.setSecret("old-2", "hidden");
    expect(await storage.get("old-2")).toEqual({ i: 1 });
    const all = storage.query().where("key", startsWith("old-"));
    const first = await all.limit(2).getMany<{ i: number }>();
    expect(first.results.map(({ key, value }) => [key, value.i])).toEqual([
      ["old-1", 0],
      ["old-2", 1],
    ]);
    const rest = await all.cursor(first.nextCursor!).getMany();
    expect(rest).toEqual({ results: [{ key: "old-3", value: { i: 2 } }] });
    expect(await all.getOne()).toEqual({ key: "old-1", value: { i: 0 } });
    await storage.delete("old-2");
    expect(await storage.get("old-2")).toBeUndefined();
    expect(await storage.getSecret("old-2")).toBe("hidden");
  });

  test("rejects with Forge's code", async () => {
    await expect(storage.set("k".repeat(501), 1)).rejects.toMatchObject({
      name: "ForgeStorageError",
      code: "KEY_TOO_LONG",
      status: 400,
    });
  });
});

describe("installForge", () => {
  const runtime = globalThis as { __forge_fetch__?: (...args: unknown[]) => unknown };

  test("is taken back, and leaves other targets to whatever was there before", async () => {
    const before = runtime.__forge_fetch__;
    const undo = installForge({ serverUrl: gateway.url, bucket: "other" });
    await storage.set("where", "other");
    undo();
    expect(runtime.__forge_fetch__).toBe(before);
    expect(await storage.get("where")).toBeUndefined();
    await expect(
      runtime.__forge_fetch__!({ type: "app", remote: "jira" }, "/x", {}),
    ).rejects.toThrow(TypeError);
  });

  test("sends the key, and nothing that is meant for Atlassian", async () => {
    const sent: Headers[] = [];
    const spy: typeof fetch = (_input, init) => {
      sent.push(new Headers(init?.headers));
      return Promise.resolve(new Response(null, { status: 204 }));
    };
    const undo = installForge({ bucket: "b", apiKey: "k1", fetch: spy });
    await runtime.__forge_fetch__!({ type: "kvs" }, "/api/v1/set", {
      method: "POST",
      body: "{}",
      headers: { Authorization: "Bearer atlassian", Host: "atlassian", "x-b3-traceid": "t" },
    });
    undo();
    expect(Object.fromEntries(sent[0]!)).toEqual({
      authorization: "Bearer k1",
      "content-type": "application/json",
    });
  });

  test("refuses an address that is none, and a bucket without a name", () => {
    expect(() => installForge({ serverUrl: "kv", bucket: "b" })).toThrow(TypeError);
    expect(() => installForge({ bucket: "" })).toThrow(TypeError);
  });
});
