import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { createClient as createBrowserClient } from "../../src/sdk/browser.ts";
import { createClient, type NodeClient } from "../../src/sdk/node.ts";
import { eventually } from "../support/eventually.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { openEvents } from "../support/events-client.ts";
import { startTestNats } from "../support/nats.ts";
import { WebSocket } from "ws";

const ROOT = "the-root-key-of-these-tests-is-long-enough";

let a: TestGateway;
let b: TestGateway;
let root: NodeClient;

beforeAll(async () => {
  const nats = await startTestNats();
  [a, b] = (await Promise.all(
    Array.from({ length: 2 }, () => startGateway(nats, ["--root-key", ROOT])),
  )) as [TestGateway, TestGateway];
  root = createClient({ serverUrl: a.url, apiKey: ROOT });
  await root.kv().createBucket({ name: "carts" });
});

afterAll(async () => {
  await Promise.all([a.close(), b.close()]);
});

test("keys are made, listed and revoked", async () => {
  const scopes = [{ verbs: ["read" as const], bucket: "carts" }];
  const { key, ...info } = await root.apiKeys().create({ name: "ci", scopes, expiresIn: "1h" });
  expect(info).toMatchObject({ name: "ci", scopes, createdBy: "root" });
  const client = createClient({ serverUrl: b.url, apiKey: key });
  await expect(client.kv().bucket("carts").get("nothing")).rejects.toMatchObject({ status: 404 });
  const [listed] = await root.apiKeys().list();
  expect(listed).toMatchObject(info);
  expect(await root.apiKeys().get(info.id)).toMatchObject(info);
  await root.apiKeys().revoke(info.id);
  await expect(client.kv().bucket("carts").get("nothing")).rejects.toMatchObject({
    code: "unauthenticated",
    status: 401,
  });
  await expect(root.apiKeys().revoke(info.id)).rejects.toMatchObject({ code: "not_found" });
});

test("a ticket opens a stream of events", async () => {
  const scopes = [{ verbs: ["read" as const, "watch" as const], bucket: "carts" }];
  const { ticket } = await root.createTicket({ scopes });
  const events = await openEvents(`${b.api}/buckets/carts/watch?ticket=${ticket}`);
  await eventually(() => events.types).toContain("kv_ready");
});

test.each(["Node", "browsers"])(
  "in %s a watch outlives its tokens and misses nothing under load",
  async (where) => {
    const bucket = root.kv().bucket<number>("carts");
    const scopes = [{ verbs: ["read" as const, "watch" as const], bucket: "carts" }];
    let tokens = 0;
    const getToken = async () => {
      tokens += 1;
      return (await root.createToken({ scopes, ttl: "1s" })).token;
    };
    vi.stubGlobal("WebSocket", WebSocket);
    onTestFinished(() => void vi.unstubAllGlobals());
    const client =
      where === "Node"
        ? createClient({ serverUrl: b.url, getToken })
        : createBrowserClient({ serverUrl: b.url, getToken });
    const seen: number[] = [];
    const errors: unknown[] = [];
    const key = `load.${where}`;
    const watcher = client
      .kv()
      .bucket<number>("carts")
      .watch(
        {
          onUpdate: (change) => change.operation === "put" && seen.push(change.value),
          onError: (error) => errors.push(error),
        },
        { key, include: "updates" },
      );
    await eventually(() => watcher.state).toBe("live");
    const until = Date.now() + 2_300;
    let written = 0;
    while (Date.now() < until) {
      await bucket.put(key, ++written);
    }
    await eventually(() => seen.at(-1)).toBe(written);
    expect(seen).toEqual(Array.from({ length: written }, (_, i) => i + 1));
    expect(tokens).toBeGreaterThan(2);
    expect(errors).toEqual([]);
    watcher.stop();
  },
);

test("a watch whose key was revoked ends, and says why", async () => {
  const scopes = [{ verbs: ["read" as const, "watch" as const] }];
  const { key, id } = await root.apiKeys().create({ name: "x", scopes });
  const watcher = createClient({ serverUrl: b.url, apiKey: key })
    .kv()
    .bucket("carts")
    .watch({
      onUpdate: () => undefined,
    });
  await eventually(() => watcher.state).toBe("live");
  await root.apiKeys().revoke(id);
  expect(await watcher.closed).toMatchObject({ code: 4403, error: { code: "forbidden" } });
});
