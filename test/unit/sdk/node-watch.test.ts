import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { WebSocket } from "ws";
import { KvError } from "../../../src/protocol/errors.ts";
import type { SocketHandlers } from "../../../src/sdk/core/socket.ts";
import { createClient, type Change, type JetbucketError } from "../../../src/sdk/node.ts";
import { nodeSockets } from "../../../src/sdk/node-socket.ts";
import {
  positionOf,
  startFakeGateway,
  wireEntry,
  type FakeGatewayOptions,
} from "./fake-gateway.ts";

function send(socket: WebSocket, ...messages: unknown[]): void {
  for (const message of messages) socket.send(JSON.stringify(message));
}

const update = (key: string, revision: number) => ({
  type: "kv_update",
  bucket: "b",
  ...wireEntry(key, revision, revision),
});
const ready = (revision: number) => ({
  type: "kv_ready",
  position: positionOf(revision),
  count: 0,
});

async function start(options: FakeGatewayOptions) {
  const gateway = await startFakeGateway(options);
  const client = createClient({ serverUrl: gateway.url, apiKey: "key-1" });
  return { ...gateway, bucket: client.kv().bucket("b") };
}

test("a watch asks by header and subprotocol, for the keys and the part it wants", async () => {
  const { bucket, upgrades } = await start({ onSocket: (socket) => send(socket, ready(0)) });
  await new Promise<void>((resolve) => {
    const watcher = bucket.watch(
      { onUpdate: () => undefined, onReady: () => resolve() },
      { key: ["user.*", "a/../b c"], include: "history" },
    );
    onTestFinished(() => watcher.stop());
  });
  expect(upgrades[0]).toMatchObject({
    url: "/api/v1/kv/buckets/b/watch?key=user.*&key=a%2F..%2Fb%20c&include=history",
    headers: { authorization: "Bearer key-1", "sec-websocket-protocol": "jetbucket.v1" },
  });
});

test("a watch survives its server's death", async () => {
  const sockets: WebSocket[] = [];
  const { bucket } = await start({
    onSocket: (socket, attempt) => {
      sockets.push(socket);
      if (attempt === 1) send(socket, update("a", 1), update("b", 2), ready(2));
      else send(socket, update("b", 2), update("c", 4), ready(4));
    },
  });
  const seen: string[] = [];
  const watcher = bucket.watch({
    onUpdate: ({ operation, key }) => seen.push(`${operation} ${key}`),
    onReady: () => seen.push("ready"),
  });
  onTestFinished(() => watcher.stop());
  await vi.waitFor(() => expect(seen).toContain("ready"));
  sockets[0]!.terminate();
  await vi.waitFor(() => expect(seen.filter((what) => what === "ready")).toHaveLength(2));
  expect(seen).toEqual(["put a", "put b", "ready", "put c", "delete a", "ready"]);
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
      onSocket: (socket) => send(socket, ready(0)),
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
      else send(socket, ready(0));
    },
  });
  const watcher = bucket.watch({ onUpdate: () => undefined });
  onTestFinished(() => watcher.stop());
  await vi.waitFor(() => expect(watcher.state).toBe("live"), { timeout: 3000 });
});

describe("changes as an iterable", () => {
  test("come in order, and leaving the loop ends the watch", async () => {
    let gone = false;
    const { bucket } = await start({
      onSocket: (socket) => {
        socket.on("close", () => (gone = true));
        send(socket, update("a", 1), update("b", 2), update("c", 3), ready(3));
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
      onSocket: (socket) => {
        send(socket, update("a", 1), ready(1));
        socket.close(4404, "deleted");
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
    const { bucket } = await start({ onSocket: (socket) => send(socket, update("a", 1)) });
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
        else send(socket, ready(0));
        socket.removeAllListeners("close");
      },
    });
    const { exit } = await run(
      url,
      `const watcher = bucket.watch({ onUpdate() {}, onReady() { setTimeout(() => watcher.stop(), 50).unref(); } });`,
    );
    expect(await exit).toEqual([0, null]);
    expect(upgrades).toHaveLength(2);
  });
});
