import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { KvError } from "../../../src/protocol/errors.ts";
import type { SocketHandlers } from "../../../src/sdk/core/socket.ts";
import { createClient, type Change, type JetbucketError } from "../../../src/sdk/node.ts";
import { nodeSockets } from "../../../src/sdk/node-socket.ts";
import {
  readyFrame,
  startFakeGateway,
  updateFrame,
  wireEntry,
  type FakeGatewayOptions,
} from "./fake-gateway.ts";

async function start(options: FakeGatewayOptions) {
  const gateway = await startFakeGateway(options);
  const client = createClient({ serverUrl: gateway.url, apiKey: "key-1" });
  const kv = client.kv();
  return { ...gateway, kv, bucket: kv.bucket("b") };
}

test("a watch asks by header and subprotocol, for the keys and the part it wants", async () => {
  const { bucket, upgrades, frames } = await start({ onWatch: ({ send }) => send(readyFrame(0)) });
  await new Promise<void>((resolve) => {
    const watcher = bucket.watch(
      { onUpdate: () => undefined, onReady: () => resolve() },
      { key: ["user.*", "a/../b c"], include: "history", values: false },
    );
    onTestFinished(() => watcher.stop());
  });
  expect(upgrades).toMatchObject([
    {
      url: "/api/v1/kv/watch",
      headers: { authorization: "Bearer key-1", "sec-websocket-protocol": "jetbucket.v1" },
    },
  ]);
  expect(frames).toEqual([
    { type: "watch", id: "1", bucket: "b", keys: ["user.*", "a/../b c"], include: "history", values: false }, // prettier-ignore
  ]);
});

test("a watch without values tells sizes", async () => {
  const { bucket } = await start({
    onWatch: ({ send }) => {
      const put = { ...updateFrame("a", 1), value: undefined, encoding: undefined, size: 7 };
      send(put, { ...put, operation: "delete", reason: "purge", revision: 2 });
    },
  });
  const seen: unknown[] = [];
  for await (const change of bucket.changes({ values: false })) {
    if (change.operation === "put") seen.push(change.size);
    else seen.push(change.reason);
    if (seen.length === 1) expect(change).not.toHaveProperty("value");
    else break;
  }
  expect(seen).toEqual([7, "purge"]);
});

test("watches of one client share a socket, however they end", async () => {
  const { bucket, kv, upgrades, frames } = await start({
    onWatch: ({ request, send }) => {
      if (request.bucket === "none")
        send({ type: "error", code: "bucket_not_found", message: "none", retryable: false }); // prettier-ignore
      else send(updateFrame("a", 1), readyFrame(1));
    },
  });
  const refused = kv.bucket("none").watch({ onUpdate: () => undefined });
  const stopped = bucket.watch({ onUpdate: () => undefined }, { key: "a" });
  const live = bucket.live();
  onTestFinished(() => live.close());
  expect(await refused.closed).toMatchObject({ code: 4404, error: { code: "bucket_not_found" } });
  await live.ready;
  expect(live.get("a")).toBe(1);
  stopped.stop();
  expect((await stopped.closed).code).toBe(1000);
  await vi.waitFor(() => expect(frames.at(-1)).toEqual({ type: "unwatch", id: "2" }));
  expect(live.state).toBe("live");
  expect(upgrades).toHaveLength(1);
});

test("clients share nothing", async () => {
  const { url, upgrades } = await startFakeGateway({ onWatch: ({ send }) => send(readyFrame(0)) });
  for (const client of [createClient({ serverUrl: url }), createClient({ serverUrl: url })]) {
    const live = client.kv().bucket("b").live();
    await live.ready;
    live.close();
  }
  expect(upgrades).toHaveLength(2);
});

test("watches survive their server's death: one socket again, each goes on where it was", async () => {
  const { bucket, upgrades, frames } = await start({
    onWatch: ({ request, socket, send }, attempt) => {
      if (attempt === 1) {
        send(updateFrame("a", 1), updateFrame("b", 2), readyFrame(2));
        if (request.id === "3") socket.terminate();
      } else send(updateFrame("c", 4), readyFrame(4));
    },
  });
  const logs = [0, 1, 2].map((n) => {
    const seen: string[] = [];
    const watcher = bucket.watch(
      {
        onUpdate: ({ operation, key }) => seen.push(`${operation} ${key}`),
        onReady: () => seen.push("ready"),
      },
      { key: `${n}.*` },
    );
    onTestFinished(() => watcher.stop());
    return seen;
  });
  const all = ["put a", "put b", "ready", "put c", "ready"];
  await vi.waitFor(() => expect(logs).toEqual([all, all, all]));
  expect(upgrades).toHaveLength(2);
  expect(frames.slice(3).map(({ id, since }) => [id, since])).toEqual(
    ["1", "2", "3"].map((id) => [id, readyFrame(2).position]),
  );
});

describe("an upgrade that is refused", () => {
  test.each([400, 401, 403, 404])(
    "with %i ends the watch with the server's error",
    async (status) => {
      const body = new KvError("bucket_not_found", "there is no such bucket").toBody("req-9");
      const { bucket, upgrades } = await start({ refuse: () => ({ status, body }) });
      const errors: JetbucketError[] = [];
      const watcher = bucket.watch({
        onUpdate: () => undefined,
        onError: (error) => errors.push(error),
      });
      const { error } = await watcher.closed;
      expect(error).toMatchObject({ code: "bucket_not_found", status, requestId: "req-9" });
      expect(errors).toEqual([error]);
      expect(upgrades).toHaveLength(1);
    },
  );

  test.each([503, 429])("with %i is tried again", async (status) => {
    const { bucket, upgrades } = await start({
      refuse: (_, attempt) => (attempt < 3 ? { status, body: "busy" } : undefined),
      onWatch: ({ send }) => send(readyFrame(0)),
    });
    const watcher = bucket.watch({ onUpdate: () => undefined });
    onTestFinished(() => watcher.stop());
    await vi.waitFor(() => expect(watcher.state).toBe("live"), { timeout: 5000 });
    expect(upgrades).toHaveLength(3);
  });
});

test("a server that nobody can reach is reported, and tried further", async () => {
  const bucket = createClient({ serverUrl: "http://127.0.0.1:1" }).kv().bucket("b");
  const error = await new Promise<JetbucketError>((resolve) => {
    const watcher = bucket.watch({ onUpdate: () => undefined, onError: resolve });
    onTestFinished(() => watcher.stop());
  });
  expect(error).toMatchObject({ code: "network", retryable: true });
  expect(error.message).toContain("127.0.0.1:1");
});

describe("a connection on which nothing is heard", () => {
  function open(url: string, silenceMs: number) {
    const handlers = {
      onOpen: vi.fn(),
      onMessage: vi.fn(),
      onClose: vi.fn(),
      onRefused: vi.fn(),
    } satisfies SocketHandlers;
    const socket = nodeSockets({ silenceMs })(
      { url: url.replace("http", "ws"), token: undefined },
      handlers,
    );
    onTestFinished(() => socket.close());
    return handlers;
  }

  test("is given up", async () => {
    const { url } = await startFakeGateway();
    const handlers = open(url, 100);
    await vi.waitFor(() => expect(handlers.onClose).toHaveBeenCalledWith(1006, ""));
    expect(handlers.onOpen).toHaveBeenCalledOnce();
  });

  test("is kept while pings arrive", async () => {
    let pings = 0;
    const { url } = await startFakeGateway({
      onSocket: (socket) => {
        const timer = setInterval(() => {
          socket.ping();
          if (++pings === 12) clearInterval(timer);
        }, 50);
      },
    });
    const handlers = open(url, 250);
    await vi.waitFor(() => expect(handlers.onClose).toHaveBeenCalled(), { timeout: 5000 });
    expect(pings).toBe(12);
  });
});

test("a server that breaks the protocol loses the connection, not the watch", async () => {
  const { bucket } = await start({
    onSocket: (socket, attempt) => {
      // A frame with reserved bits.
      if (attempt === 1)
        (socket as unknown as { _socket: NodeJS.WritableStream })._socket.write(Buffer.from([0xf1, 0])); // prettier-ignore
    },
    onWatch: ({ send }) => send(readyFrame(0)),
  });
  const watcher = bucket.watch({ onUpdate: () => undefined });
  onTestFinished(() => watcher.stop());
  await vi.waitFor(() => expect(watcher.state).toBe("live"), { timeout: 3000 });
});

describe("changes as an iterable", () => {
  test("come in order, and leaving the loop ends the watch", async () => {
    let gone = false;
    const { bucket } = await start({
      onWatch: ({ socket, send }) => {
        socket.on("close", () => (gone = true));
        send(updateFrame("a", 1), updateFrame("b", 2), updateFrame("c", 3), readyFrame(3));
      },
    });
    const seen: string[] = [];
    for await (const { key } of bucket.changes()) {
      seen.push(key);
      if (seen.length === 2) break;
    }
    expect(seen).toEqual(["a", "b"]);
    await vi.waitFor(() => expect(gone).toBe(true));
  });

  test("are all told before the watch's error is thrown", async () => {
    const { bucket } = await start({
      onWatch: ({ send }) => {
        const gone = { type: "error", code: "bucket_not_found", message: "deleted", retryable: false }; // prettier-ignore
        send(updateFrame("a", 1), readyFrame(1), gone);
      },
    });
    const seen: Change[] = [];
    const loop = (async () => {
      for await (const change of bucket.changes()) seen.push(change);
    })();
    await expect(loop).rejects.toMatchObject({ code: "bucket_not_found" });
    expect(seen).toHaveLength(1);
  });

  test("end quietly by their signal", async () => {
    const { bucket } = await start({ onWatch: ({ send }) => send(updateFrame("a", 1)) });
    const controller = new AbortController();
    for await (const change of bucket.changes({ signal: controller.signal })) {
      expect(change.key).toBe("a");
      controller.abort();
    }
  });
});

test("a watch that can tell nobody, or of no key, is refused", async () => {
  const bucket = createClient().kv().bucket("b");
  expect(() => bucket.watch({} as never)).toThrow(TypeError);
  expect(() => bucket.watch({ onUpdate: () => undefined }, { key: [] })).toThrow(TypeError);
});

describe("a process", () => {
  const sdk = join(import.meta.dirname, "../../../src/sdk/node.ts");

  /** Runs code that has `bucket` and `print`, bundled so that Node can run it. */
  async function run(url: string, code: string) {
    const { build } = await import("esbuild");
    const script = `
      import { createClient } from ${JSON.stringify(sdk)};
      const bucket = createClient({ serverUrl: ${JSON.stringify(url)} }).kv().bucket("b");
      ${code}`;
    const { outputFiles } = await build({
      stdin: { contents: script, resolveDir: import.meta.dirname },
      bundle: true,
      write: false,
      platform: "node",
      format: "esm",
      external: ["ws"],
    });
    const child = spawn(process.execPath, ["--input-type=module", "-"], {
      cwd: join(import.meta.dirname, "../../.."),
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stdin.end(outputFiles[0]!.contents);
    return { child, output: () => output, exit: once(child, "exit") };
  }

  test("ends by itself after requests", async () => {
    const { url } = await startFakeGateway({ answer: () => ({ body: wireEntry("k", 1, 1) }) });
    const { exit, output } = await run(url, `console.log((await bucket.get("k")).value);`);
    expect(await exit).toEqual([0, null]);
    expect(output()).toBe("1\n");
  });

  test("lives as long as its watch, also through a gap, and ends after stop()", async () => {
    const { url, upgrades } = await startFakeGateway({
      onSocket: (socket, attempt) => {
        if (attempt === 1) socket.terminate();
        // It never says goodbye back.
        socket.removeAllListeners("close");
      },
      onWatch: ({ send }) => send(readyFrame(0)),
    });
    const { exit } = await run(
      url,
      `const watcher = bucket.watch({ onUpdate() {}, onReady() { setTimeout(() => watcher.stop(), 50).unref(); } });`,
    );
    expect(await exit).toEqual([0, null]);
    expect(upgrades).toHaveLength(2);
  });
});
