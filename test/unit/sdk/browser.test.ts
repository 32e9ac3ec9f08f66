import { join } from "node:path";
import { build } from "esbuild";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { WebSocket } from "ws";
import { KvError } from "../../../src/protocol/errors.ts";
import type * as Sdk from "../../../src/sdk/browser.ts";
import { readyFrame, startFakeGateway, wireEntry } from "./fake-gateway.ts";

let sdk: typeof Sdk;

/** A browser's WebSocket has events, not exceptions, for connections that fail. */
class BrowserWebSocket extends WebSocket {
  constructor(...args: ConstructorParameters<typeof WebSocket>) {
    super(...args);
    this.on("error", () => undefined);
  }
}

beforeEach(async () => {
  vi.stubGlobal("WebSocket", BrowserWebSocket);
  vi.resetModules();
  sdk = await import("../../../src/sdk/browser.ts");
});
afterEach(() => vi.unstubAllGlobals());

const updates = { onUpdate: () => undefined };

describe("the shared client", () => {
  test("talks to the page's own origin when nobody says otherwise", async () => {
    const { url, requests } = await startFakeGateway({
      answer: () => ({ body: wireEntry("theme", "dark", 1) }),
    });
    vi.stubGlobal("location", { origin: url });
    const entry = await sdk.jetbucket.kv().bucket("settings").get("theme");
    expect(entry.value).toBe("dark");
    expect(requests[0]!.url).toBe("/api/v1/kv/buckets/settings/keys/theme");
  });

  test("talks to where it is told to, as who it is told to be", async () => {
    const { url, requests } = await startFakeGateway({ answer: () => ({ body: { buckets: [] } }) });
    sdk.jetbucket.configure({ serverUrl: url, getToken: () => Promise.resolve("t") });
    await sdk.jetbucket.kv().listBuckets();
    expect(requests[0]!.headers.authorization).toBe("Bearer t");
  });

  test.each([undefined, { origin: "null" }])("says what is missing at %j", (location) => {
    vi.stubGlobal("location", location);
    expect(() => sdk.jetbucket.kv()).toThrow(/give a serverUrl/);
  });
});

describe("a watch", () => {
  test("brings its token as a subprotocol", async () => {
    const { url, upgrades } = await startFakeGateway({
      onWatch: ({ send }) => send(readyFrame(0)),
    });
    for (const options of [{ serverUrl: url, apiKey: "abc" }, { serverUrl: url }]) {
      const watcher = sdk.createClient(options).kv().bucket("b").watch(updates);
      await vi.waitFor(() => expect(watcher.state).toBe("live"));
      watcher.stop();
    }
    expect(upgrades.map(({ headers }) => headers["sec-websocket-protocol"])).toEqual([
      "jetbucket.v1,bearer.abc",
      "jetbucket.v1",
    ]);
    expect(upgrades[0]!.headers.authorization).toBeUndefined();
  });

  test("learns by a plain request why its upgrades are refused, and ends", async () => {
    const { url, upgrades } = await startFakeGateway({
      refuse: () => ({ status: 404 }),
      answer: () => ({
        status: 404,
        body: new KvError("bucket_not_found", "no such bucket").toBody(),
      }),
    });
    const watcher = sdk.createClient({ serverUrl: url }).kv().bucket("b").watch(updates);
    onTestFinished(() => watcher.stop());
    expect(await watcher.closed).toMatchObject({ error: { code: "bucket_not_found" } });
    expect(upgrades.length).toBeGreaterThanOrEqual(3);
  });
});

test("the bundle has no imports", async () => {
  const { metafile } = await build({
    entryPoints: [join(import.meta.dirname, "../../../src/sdk/browser.ts")],
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2022",
    metafile: true,
  });
  expect(Object.values(metafile.outputs).flatMap(({ imports }) => imports)).toEqual([]);
  const inputs = Object.keys(metafile.inputs);
  expect(inputs.filter((file) => !/src\/(sdk|protocol)\//.test(file))).toEqual([]);
});
