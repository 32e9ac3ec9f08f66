import type { KV, KvWatchEntry } from "@nats-io/kv";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { KeyList, PutResult } from "../../src/protocol/messages.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { openWatch, watchUrl } from "../support/watch-client.ts";

let gateway: TestGateway;
let foreign: ForeignClient;
let count = 0;
let name: string;
let bucket: string;

beforeAll(async () => {
  gateway = await startGateway();
  foreign = await connectForeign(gateway.server.url);
});

afterAll(async () => {
  await foreign.close();
  await gateway.close();
});

beforeEach(() => {
  name = `i${++count}`;
  bucket = `${gateway.api}/buckets/${name}`;
});

const get = (key: string): ReturnType<typeof call> =>
  call("GET", `${bucket}/keys/${encodeURIComponent(key)}`);

describe("what @nats-io/kv writes into a bucket of its own", () => {
  let kv: KV;
  beforeEach(async () => {
    kv = await foreign.kvm.create(`APP_${name}`, { history: 3 });
  });

  test("is read, listed and conditionally updated through the gateway", async () => {
    const revision = await kv.put("user.1", '{"name":"Ann"}');
    await kv.put("user.2", "plain");
    await kv.put("a=b/c-d_e", "1");
    // Looks like an escape of jetbucket's own, and is none.
    await kv.put("page=10", "11");
    await kv.put("deleted", "x");
    await kv.delete("deleted");
    await kv.put("purged", "x");
    await kv.purge("purged");

    expect((await get("user.1")).body).toMatchObject({
      value: { name: "Ann" },
      encoding: "json",
      revision,
      operation: "put",
    });
    expect((await get("page=10")).body).toMatchObject({ key: "page=10", value: 11 });
    expect((await get("user.2")).body).toMatchObject({ value: "plain", encoding: "text" });
    for (const key of ["deleted", "purged"]) expect((await get(key)).status).toBe(404);
    expect(((await call("GET", `${bucket}/keys`)).body as KeyList).keys).toEqual(
      ["a=b/c-d_e", "page=10", "user.1", "user.2"].sort(),
    );
    expect(((await call("GET", `${bucket}/keys?filter=user.*`)).body as KeyList).count).toBe(2);
    expect((await call("GET", `${bucket}/history/purged`)).body).toMatchObject({
      entries: [{ operation: "delete", reason: "purge" }],
    });

    const updated = await callJson("PUT", `${bucket}/keys/user.1`, "B", {
      "If-Match": `${revision}`,
    });
    expect(updated.status).toBe(200);
    await expect(kv.update("user.1", "C", revision)).rejects.toThrow();
    expect(await kv.update("user.1", "C", (updated.body as PutResult).revision)).toBeGreaterThan(0);
  });

  test("is watched through the gateway, and through a filter", async () => {
    await kv.put("before", "1");
    const all = await openWatch(watchUrl(gateway.api, name));
    const some = await openWatch(watchUrl(gateway.api, name, "key=k*"));
    await eventually(() => all.ready.length).toBe(1);
    await kv.put("key", '"a"');
    await kv.put("other", "1");
    await kv.delete("key");
    await kv.purge("other");
    await eventually(() => all.updates).toMatchObject([
      { key: "before", value: 1 },
      { key: "key", value: "a", encoding: "json", operation: "put" },
      { key: "other", value: 1 },
      { key: "key", operation: "delete", reason: "delete" },
      { key: "other", operation: "delete", reason: "purge" },
    ]);
    await eventually(() => some.pairs).toEqual([
      ["key", "a"],
      ["key", undefined],
    ]);
  });
});

describe("what is written through the gateway", () => {
  beforeEach(async () => {
    await callJson("POST", `${gateway.api}/buckets`, { name, history: 3 });
  });

  test("is read and listed by @nats-io/kv", async () => {
    await callJson("PUT", `${bucket}/keys/user.1`, { a: 1 });
    await call("PUT", `${bucket}/keys/text`, "plain");
    await callJson("PUT", `${bucket}/keys/gone`, 1);
    await call("DELETE", `${bucket}/keys/gone`);
    await callJson("PUT", `${bucket}/keys/${encodeURIComponent("user:ü")}`, 1);

    const kv = await foreign.kvm.open(`APP_${name}`);
    expect((await kv.get("user.1"))?.json()).toEqual({ a: 1 });
    expect((await kv.get("text"))?.string()).toBe("plain");
    expect((await kv.get("gone"))?.operation).toBe("DEL");
    const keys: string[] = [];
    for await (const key of await kv.keys()) keys.push(key);
    expect(keys.sort()).toEqual(["text", "user.1", "user=3A=C3=BC"]);
    expect(await kv.status()).toMatchObject({ bucket: `APP_${name}`, history: 3 });
  });

  test("is seen by a watch of @nats-io/kv: puts, deletes and purges", async () => {
    const kv = await foreign.kvm.open(`APP_${name}`);
    const seen: [string, string, string][] = [];
    const watch = await kv.watch();
    const following = (async () => {
      for await (const entry of watch as AsyncIterable<KvWatchEntry>)
        seen.push([entry.key, entry.operation, entry.string()]);
    })();
    await callJson("PUT", `${bucket}/keys/a`, 1);
    await callJson("PUT", `${bucket}/keys/b`, 2);
    await call("DELETE", `${bucket}/keys/a`);
    await call("DELETE", `${bucket}/keys/b?purge=true`);
    await eventually(() => seen).toEqual([
      ["a", "PUT", "1"],
      ["b", "PUT", "2"],
      ["a", "DEL", ""],
      ["b", "PURGE", ""],
    ]);
    watch.stop();
    await following;
  });

  test("is refused to @nats-io/kv where it expects another revision", async () => {
    await callJson("PUT", `${bucket}/keys/k`, 1);
    const kv = await foreign.kvm.open(`APP_${name}`);
    await expect(kv.create("k", "2")).rejects.toThrow();
    const { revision } = (await kv.get("k"))!;
    await callJson("PUT", `${bucket}/keys/k`, 2);
    await expect(kv.update("k", "3", revision)).rejects.toThrow();
    expect((await get("k")).body).toMatchObject({ value: 2 });
  });
});
