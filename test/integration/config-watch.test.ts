import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { createClient, type ConfigChange, type JetbucketError } from "../../src/sdk/node.ts";
import { eventually } from "../support/eventually.ts";
import { openEvents } from "../support/events-client.ts";
import { callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { startTestNats } from "../support/nats.ts";
import { openWatch, refusedWatch, type WatchClient } from "../support/watch-client.ts";
import { startWatchStack } from "../support/watch-stack.ts";

interface Update {
  type: string;
  name: string;
  data: unknown;
  revision: number;
  updatedAt: string;
}

let gateways: [TestGateway, TestGateway];
let foreign: ForeignClient;
let count = 0;

beforeAll(async () => {
  const nats = await startTestNats();
  gateways = [await startGateway(nats), await startGateway(nats)];
  foreign = await connectForeign(nats.url);
});
afterAll(async () => {
  await foreign.close();
  await Promise.all(gateways.map((gateway) => gateway.close()));
});

const newEnvironment = (): string => `env${count++}`;
const header = (environment: string) => ({ "X-Ironflow-Environment": environment });
const urlOf = (name: string, { url } = gateways[0]): string =>
  `${url.replace("http", "ws")}/api/v1/config/${name}/watch`;

async function write(
  method: "POST" | "PATCH" | "DELETE",
  environment: string,
  name: string,
  body?: unknown,
  { url } = gateways[0],
): Promise<number> {
  const at = `${url}/api/v1/config/${name}`;
  const answer = await callJson(method, at, body, header(environment));
  expect(answer.status).toBeLessThan(300);
  return (answer.body as { revision?: number }).revision ?? 0;
}

const updatesOf = ({ frames }: { frames: readonly unknown[] }): Update[] =>
  (frames as Update[]).filter(({ type }) => type === "config_update");
const dataOf = (client: { frames: readonly unknown[] }): unknown[] =>
  updatesOf(client).map(({ data }) => data);
const typesOf = (client: { frames: readonly unknown[] }): string[] =>
  (client.frames as Update[]).map(({ type }) => type);

const watch = (environment: string, name: string, plain = false): Promise<WatchClient> =>
  openWatch(urlOf(name), { plain, headers: header(environment) });

/** Deletes an environment's bucket, as somebody with access to NATS can. */
const deleteBucket = (environment: string): Promise<boolean> =>
  foreign.jsm.streams.delete(`KV_SYS_config_${environment}`);

describe("a watch of a config document", () => {
  test("tells the document as it is and then every change, deletes with null", async () => {
    const environment = newEnvironment();
    const first = await write("POST", environment, "app", { a: 1 });
    const client = await watch(environment, "app", true);
    await eventually(() => updatesOf(client).length).toBe(1);
    await write("PATCH", environment, "app", { b: null }, gateways[1]);
    await write("POST", environment, "other", { not: "told" });
    await write("DELETE", environment, "app");
    await eventually(() => updatesOf(client).length).toBe(3);
    expect(dataOf(client)).toEqual([{ a: 1 }, { a: 1, b: null }, null]);
    expect(client.frames[0]).toEqual({
      type: "config_update",
      name: "app",
      data: { a: 1 },
      revision: first,
      updatedAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    // A client without the subprotocol hears of nothing else.
    expect(new Set(typesOf(client))).toEqual(new Set(["config_update"]));
  });

  test("is of its environment alone, named by header or in the address", async () => {
    const [one, other] = [newEnvironment(), newEnvironment()];
    await write("POST", one, "app", { of: "one" });
    await write("POST", other, "app", { of: "other" });
    const byHeader = await watch(one, "app");
    const byQuery = await openWatch(`${urlOf("app")}?environment=${other}`);
    await eventually(() => dataOf(byHeader)).toEqual([{ of: "one" }]);
    await eventually(() => dataOf(byQuery)).toEqual([{ of: "other" }]);
  });

  test("takes a name with wildcards and slashes as a name", async () => {
    const environment = newEnvironment();
    await write("POST", environment, "app", { wrong: true });
    await write("POST", environment, encodeURIComponent("a/*.>"), { right: true });
    const client = await watch(environment, encodeURIComponent("a/*.>"));
    await eventually(() => typesOf(client)).toContain("kv_ready");
    expect(updatesOf(client)).toMatchObject([{ name: "a/*.>", data: { right: true } }]);
  });

  test("begins before the bucket is there, and goes on when it is deleted and made again", async () => {
    const environment = newEnvironment();
    const client = await watch(environment, "app");
    const plain = await watch(environment, "app", true);
    await eventually(() => typesOf(client)).toEqual(["kv_ready"]);
    await write("POST", environment, "app", { life: 1 }, gateways[1]);
    await eventually(() => dataOf(plain)).toEqual([{ life: 1 }]);
    await deleteBucket(environment);
    await eventually(() => dataOf(plain)).toEqual([{ life: 1 }, null]);
    await eventually(() => typesOf(client).slice(-3)).toEqual([
      "kv_reset",
      "config_update",
      "kv_ready",
    ]);
    await write("POST", environment, "app", { life: 2 }, gateways[1]);
    await eventually(() => dataOf(plain)).toEqual([{ life: 1 }, null, { life: 2 }]);
    await eventually(() => dataOf(client)).toEqual([{ life: 1 }, null, { life: 2 }]);
    expect(client.closed).toBeUndefined();
  });

  test("goes on at a position, also of a bucket that is gone", async () => {
    const environment = newEnvironment();
    await write("POST", environment, "app", { a: 1 });
    const client = await watch(environment, "app");
    await eventually(() => client.ready.length).toBe(1);
    const { position } = client.ready[0]!;
    const again = await openWatch(`${urlOf("app")}?since=${position}`, {
      headers: header(environment),
    });
    await eventually(() => typesOf(again)).toEqual(["kv_ready"]);
    await deleteBucket(environment);
    await eventually(() => dataOf(client).at(-1)).toBeNull();
    const late = await openWatch(`${urlOf("app")}?since=${position}`, {
      headers: header(environment),
    });
    await eventually(() => typesOf(late)).toEqual(["kv_reset", "config_update", "kv_ready"]);
  });

  test("brings everything that a hundred writers patch into one document", async () => {
    const environment = newEnvironment();
    const client = await watch(environment, "app");
    await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        write("PATCH", environment, "app", { [`field${i}`]: i }, gateways[i % 2]),
      ),
    );
    const all = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`field${i}`, i]));
    await eventually(() => dataOf(client).at(-1)).toEqual(all);
    const revisions = updatesOf(client).map(({ revision }) => revision);
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
  });

  test("tells a client that reads nothing for a while only the last of what it missed", async () => {
    const environment = newEnvironment();
    const client = await watch(environment, "app");
    await eventually(() => client.ready.length).toBe(1);
    client.socket.pause();
    const filler = "x".repeat(512 * 1024);
    for (let i = 1; i <= 40; i++) await write("POST", environment, "app", { i, filler });
    client.socket.resume();
    await eventually(() => (dataOf(client).at(-1) as { i: number } | undefined)?.i).toBe(40);
    expect(updatesOf(client).length).toBeLessThan(40);
  });

  test("is told when NATS is away, and goes on when it is back", async () => {
    const environment = newEnvironment();
    const stack = await startWatchStack(gateways[0].server);
    const { link, api } = stack;
    await write("POST", environment, "app", { a: 1 });
    const url = `${api.replace("http", "ws").replace("/kv", "/config")}/app/watch`;
    const client = await openWatch(url, { headers: header(environment) });
    await eventually(() => typesOf(client)).toEqual(["config_update", "kv_ready"]);
    link.cut();
    await eventually(() => typesOf(client)).toContain("kv_stale");
    await write("POST", environment, "app", { a: 2 });
    link.heal();
    await eventually(() => dataOf(client)).toEqual([{ a: 1 }, { a: 2 }]);
    const waiting = await openWatch(url, { headers: header(newEnvironment()) });
    await stack.close();
    await eventually(() => client.closed?.code).toBe(1001);
    await eventually(() => waiting.closed?.code).toBe(1001);
  });

  test("can be a stream of events", async () => {
    const environment = newEnvironment();
    await write("POST", environment, "app", { text: "a\nb" });
    const url = `${gateways[0].url}/api/v1/config/app/watch?environment=${environment}`;
    const client = await openEvents(url);
    await eventually(() => typesOf(client)).toEqual(["config_update", "kv_ready"]);
    expect(dataOf(client)).toEqual([{ text: "a\nb" }]);
    const again = await openEvents(url, { "Last-Event-ID": client.lastId });
    await write("DELETE", environment, "app");
    await eventually(() => dataOf(again)).toEqual([null]);
    await deleteBucket(environment);
    await eventually(() => typesOf(again).slice(-2)).toEqual(["config_update", "kv_ready"]);
  });

  test.each([
    ["app/watch?environment=no.such", 400],
    ["%00/watch", 400],
    ["app/watch?since=nonsense", 400],
    ["a/b/watch", 404],
  ])("is refused at %s with %i", async (path, status) => {
    const url = `${gateways[0].url.replace("http", "ws")}/api/v1/config/${path}`;
    expect((await refusedWatch(url)).status).toBe(status);
  });
});

describe("the SDK's watch of a config document", () => {
  test("tells each state once, through lost connections and a bucket made anew", async () => {
    const environment = newEnvironment();
    const first = await startGateway(gateways[0].server);
    const config = createClient({ serverUrl: first.url }).config({ environment });
    const told: ConfigChange<Record<string, unknown>>[] = [];
    const errors: JetbucketError[] = [];
    const watcher = config.watch("app", {
      onUpdate: (change) => void told.push(change),
      onError: (error) => void errors.push(error),
    });
    onTestFinished(() => watcher.stop());
    await eventually(() => watcher.state).toBe("live");
    const { revision } = await config.set("app", { a: 1 });
    await eventually(() => told).toEqual([
      { name: "app", data: { a: 1 }, revision, updatedAt: expect.any(String) },
    ]);
    const port = new URL(first.url).port;
    await first.close();
    await eventually(() => watcher.state).toBe("waiting");
    await startGateway(gateways[0].server, ["--port", port]);
    await eventually(() => watcher.state).toBe("live");
    await config.patch("app", { b: 2 });
    await eventually(() => told.map(({ data }) => data)).toEqual([{ a: 1 }, { a: 1, b: 2 }]);
    await deleteBucket(environment);
    await eventually(() => told.at(-1)?.data).toBeNull();
    await config.set("app", { c: 3 });
    await eventually(() => told.length).toBe(4);
    expect(told.at(-1)?.data).toEqual({ c: 3 });
    expect(errors).toEqual([]);
    watcher.stop();
    expect(await watcher.closed).toMatchObject({ code: 1000 });
  });

  test("ends when the server refuses it", async () => {
    const watcher = createClient({ serverUrl: gateways[0].url })
      .config({ environment: "not allowed" })
      .watch("app", { onUpdate: () => undefined, onError: () => undefined });
    expect((await watcher.closed).error?.code).toBe("invalid_request");
  });
});
