import { describe, expect, test, vi } from "vitest";
import { revisionOf } from "../../../src/sdk/core/entry.ts";
import { JetbucketError } from "../../../src/sdk/core/errors.ts";
import type { SocketHandlers, SocketRequest } from "../../../src/sdk/core/socket.ts";
import { WatchDriver, type WatchContext } from "../../../src/sdk/core/watch-driver.ts";
import type { Change, WatchCallbacks, WatchOptions } from "../../../src/sdk/core/watch.ts";
import { positionOf, wireEntry } from "./fake-gateway.ts";

interface FakeSocket {
  request: SocketRequest;
  handlers: SocketHandlers;
  closed: boolean;
}

interface Setup {
  options?: WatchOptions;
  callbacks?: Partial<WatchCallbacks>;
  context?: Partial<WatchContext<unknown>>;
}

/** A watch whose sockets, timers and chance are in the test's hands. */
function start({ options = {}, callbacks = {}, context = {} }: Setup = {}) {
  const sockets: FakeSocket[] = [];
  const timers = new Map<() => void, number>();
  const log: string[] = [];
  const changes: Change[] = [];
  const errors: JetbucketError[] = [];
  const watcher = new WatchDriver(
    {
      bucket: "b",
      url: (include) => `ws://x/?include=${include}`,
      token: () => Promise.resolve(undefined),
      openSocket: (request, handlers) => {
        const socket: FakeSocket = { request, handlers, closed: false };
        sockets.push(socket);
        return { close: () => (socket.closed = true) };
      },
      probe: () => Promise.resolve(),
      read: (frame) => revisionOf(frame),
      ...context,
    },
    {
      onUpdate: (change) => {
        changes.push(change);
        log.push(`${change.operation} ${change.key}@${change.revision}`);
      },
      onReady: ({ position, count }) => log.push(`ready ${position} ${count}`),
      onError: (error) => errors.push(error),
      onClose: ({ code }) => log.push(`close ${code}`),
      onStateChange: (state) => log.push(state),
      ...callbacks,
    },
    options,
    {
      setTimer: (callback, ms) => {
        timers.set(callback, ms);
        return () => timers.delete(callback);
      },
      random: () => 0.5,
      now: () => new Date("2026-06-01T00:00:00Z"),
    },
  );
  /** The n-th socket, as soon as there is one. */
  const socket = async (n: number): Promise<FakeSocket> => {
    await vi.waitFor(() => expect(sockets).toHaveLength(n));
    return sockets[n - 1]!;
  };
  const fireTimer = () => {
    const [[callback, ms] = []] = timers;
    expect(timers.size).toBe(1);
    timers.delete(callback!);
    callback!();
    return ms;
  };
  return { watcher, sockets, socket, timers, fireTimer, log, changes, errors };
}

function send(socket: FakeSocket, message: unknown): void {
  socket.handlers.onMessage(JSON.stringify(message));
}

const update = (key: string, revision: number) => ({
  type: "kv_update",
  bucket: "b",
  ...wireEntry(key, revision, revision),
});
const ready = (revision: number, count = 0) => ({
  type: "kv_ready",
  position: positionOf(revision),
  count,
});

async function goLive(watch: ReturnType<typeof start>, n = 1): Promise<FakeSocket> {
  const socket = await watch.socket(n);
  socket.handlers.onOpen();
  send(socket, update("a", 1));
  send(socket, ready(1, 1));
  return socket;
}

describe("a watch", () => {
  test("goes from connecting over its snapshot to live, and tells changes on the way", async () => {
    const watch = start();
    expect(watch.watcher.state).toBe("connecting");
    const socket = await goLive(watch);
    send(socket, update("b", 2));
    expect(watch.log).toEqual([
      "catching-up",
      "put a@1",
      "live",
      `ready ${positionOf(1)} 1`,
      "put b@2",
    ]);
    expect(watch.changes[1]).toMatchObject({ bucket: "b", key: "b", value: 2, encoding: "json" });
    expect(watch.timers.size).toBe(0);
  });

  test("says when the gateway has lost touch, and when it is current again", async () => {
    const watch = start();
    const socket = await goLive(watch);
    send(socket, { type: "kv_stale", reason: "no NATS" });
    expect(watch.watcher.state).toBe("catching-up");
    send(socket, update("b", 2));
    send(socket, ready(2));
    expect(watch.watcher.state).toBe("live");
    expect(watch.changes.map(({ key }) => key)).toEqual(["a", "b"]);
  });

  test("comes back after a lost connection: nothing twice, nothing hidden", async () => {
    const watch = start();
    const first = await goLive(watch);
    send(first, update("b", 2));
    first.handlers.onClose(1006, "");
    expect(watch.watcher.state).toBe("waiting");
    expect(watch.fireTimer()).toBe(125);
    const second = await watch.socket(2);
    second.handlers.onOpen();
    send(second, update("b", 2));
    send(second, update("c", 4));
    send(second, ready(5));
    expect(watch.log.slice(5)).toEqual([
      "waiting",
      "connecting",
      "catching-up",
      "put c@4",
      "live",
      "delete a@5",
      `ready ${positionOf(5)} 0`,
    ]);
    expect(watch.changes.at(-1)).toEqual({
      bucket: "b",
      key: "a",
      revision: 5,
      createdAt: "2026-06-01T00:00:00.000Z",
      operation: "delete",
      reason: "delete",
      inferred: true,
    });
  });

  test("starts a new snapshot when the server resets it", async () => {
    const watch = start();
    const socket = await goLive(watch);
    send(socket, { type: "kv_reset", reason: "no continuity" });
    send(socket, update("b", 2));
    send(socket, ready(3));
    expect(watch.log.slice(4)).toEqual([
      "catching-up",
      "put b@2",
      "live",
      "delete a@3",
      `ready ${positionOf(3)} 0`,
    ]);
  });

  test.each([
    ["snapshot", ["snapshot", "snapshot", "snapshot"]],
    ["history", ["history", "history", "history"]],
    // Until it was ready there is nothing to catch up with.
    ["updates", ["updates", "updates", "snapshot"]],
  ] as const)("of %s connects as %j", async (include, expected) => {
    const watch = start({ options: { include } });
    (await watch.socket(1)).handlers.onClose(1006, "");
    watch.fireTimer();
    const second = await goLive(watch, 2);
    second.handlers.onClose(1006, "");
    watch.fireTimer();
    await watch.socket(3);
    expect(watch.sockets.map(({ request }) => request.url)).toEqual(
      expected.map((name) => `ws://x/?include=${name}`),
    );
  });

  test("reconnects almost at once after a drain", async () => {
    const watch = start();
    (await goLive(watch)).handlers.onClose(1001, "draining");
    expect(watch.fireTimer()).toBe(50);
  });

  test("gives up a connection that does not open within 10 s, and listens to it no longer", async () => {
    const watch = start();
    const first = await watch.socket(1);
    expect(watch.fireTimer()).toBe(10_000);
    expect(first.closed).toBe(true);
    expect(watch.watcher.state).toBe("waiting");
    first.handlers.onOpen();
    first.handlers.onClose(4404, "");
    expect(watch.watcher.state).toBe("waiting");
  });

  test("asks for a token before every connection, and tries again when there is none", async () => {
    let n = 0;
    const token = () =>
      ++n === 2 ? Promise.reject(new Error("no session")) : Promise.resolve(`t${n}`);
    const watch = start({ context: { token } });
    (await watch.socket(1)).handlers.onClose(1006, "");
    watch.fireTimer();
    await vi.waitFor(() => expect(watch.watcher.state).toBe("waiting"));
    watch.fireTimer();
    await watch.socket(2);
    expect(watch.sockets.map(({ request }) => request.token)).toEqual(["t1", "t3"]);
  });

  test("whose token comes too late opens nothing", async () => {
    let give: (token: string) => void = () => undefined;
    const watch = start({ context: { token: () => new Promise((resolve) => (give = resolve)) } });
    watch.watcher.stop();
    give("late");
    await watch.watcher.closed;
    expect(watch.sockets).toEqual([]);
  });

  test("ends when it cannot even be asked for", async () => {
    const url = () => {
      throw new JetbucketError("invalid_bucket_name", "no name");
    };
    const watch = start({ context: { url } });
    expect(await watch.watcher.closed).toMatchObject({
      code: 1006,
      error: { code: "invalid_bucket_name" },
    });
  });
});

describe("connections that fail without a reason", () => {
  async function failThrice(watch: ReturnType<typeof start>): Promise<void> {
    for (const n of [1, 2, 3]) {
      (await watch.socket(n)).handlers.onClose(1006, "");
      if (n < 3) watch.fireTimer();
    }
  }

  test("make the watch ask by a plain request, and end when that is refused", async () => {
    const error = new JetbucketError("forbidden", "not you", { status: 403 });
    const watch = start({ context: { probe: () => Promise.reject(error) } });
    await failThrice(watch);
    expect(await watch.watcher.closed).toEqual({ code: 1006, reason: "refused", error });
    expect(watch.errors).toEqual([error]);
    expect(watch.timers.size).toBe(0);
  });

  test("are reported, and tried further, while that finds no fault", async () => {
    const watch = start();
    await failThrice(watch);
    await vi.waitFor(() => expect(watch.errors).toHaveLength(1));
    expect(watch.errors[0]).toMatchObject({ code: "network", retryable: true });
    expect(watch.watcher.state).toBe("waiting");
  });
});

describe("the end", () => {
  test("by stop() closes the socket, resolves closed, and is told once", async () => {
    const watch = start();
    const socket = await goLive(watch);
    watch.watcher.stop();
    watch.watcher.stop();
    expect(watch.watcher.state).toBe("closed");
    expect(socket.closed).toBe(true);
    send(socket, update("z", 9));
    socket.handlers.onClose(1000, "");
    expect(await watch.watcher.closed).toEqual({ code: 1000, reason: "stopped" });
    expect(watch.log.slice(4)).toEqual(["closed", "close 1000"]);
    expect(watch.errors).toEqual([]);
  });

  test("by stop() while waiting takes the timer along", async () => {
    const watch = start();
    (await watch.socket(1)).handlers.onClose(1006, "");
    watch.watcher.stop();
    expect(watch.timers.size).toBe(0);
  });

  test("comes by the signal, before or during the watch, and lets go of it", async () => {
    const controller = new AbortController();
    const removed = vi.spyOn(controller.signal, "removeEventListener");
    const watch = start({ options: { signal: controller.signal } });
    const socket = await goLive(watch);
    controller.abort();
    expect(socket.closed).toBe(true);
    expect(removed).toHaveBeenCalled();
    const late = start({ options: { signal: controller.signal } });
    // Nobody is called back before watch() has returned.
    expect(late.log).toEqual([]);
    expect(await late.watcher.closed).toMatchObject({ code: 1000 });
    expect(late.sockets).toEqual([]);
  });

  test("by a final close code is told as an error", async () => {
    const watch = start();
    const socket = await goLive(watch);
    send(socket, { type: "error", message: "deleted", code: "bucket_not_found" });
    socket.handlers.onClose(4404, "deleted");
    const info = await watch.watcher.closed;
    expect(info).toMatchObject({ code: 4404, error: { code: "bucket_not_found" } });
    expect(watch.errors).toEqual([info.error]);
    expect(watch.timers.size).toBe(0);
  });

  test("by stop() inside a callback is immediate", async () => {
    const seen: string[] = [];
    const watch = start({
      callbacks: {
        onUpdate: ({ key }) => {
          seen.push(key);
          watch.watcher.stop();
        },
        onReady: () => seen.push("ready"),
      },
    });
    const socket = await watch.socket(1);
    socket.handlers.onOpen();
    send(socket, { type: "kv_transaction", events: [update("a", 1), update("b", 2)] });
    send(socket, ready(2));
    expect(seen).toEqual(["a"]);
  });

  test("by stop() while removals are told keeps the rest, and onReady, to itself", async () => {
    const seen: string[] = [];
    const watch = start({
      callbacks: {
        onUpdate: ({ key, operation }) => {
          seen.push(`${operation} ${key}`);
          if (operation === "delete") watch.watcher.stop();
        },
        onReady: () => seen.push("ready"),
      },
    });
    const first = await watch.socket(1);
    first.handlers.onOpen();
    send(first, update("a", 1));
    send(first, update("b", 2));
    send(first, ready(2));
    send(first, { type: "kv_reset", reason: "r" });
    send(first, ready(9));
    expect(seen).toEqual(["put a", "put b", "ready", "delete a"]);
  });
});

describe("a callback that throws", () => {
  test("does not end the watch, and is reported with what it threw", async () => {
    const thrown = new Error("bug");
    const watch = start({
      callbacks: {
        onUpdate: () => {
          throw thrown;
        },
      },
    });
    await goLive(watch);
    expect(watch.watcher.state).toBe("live");
    expect(watch.errors).toMatchObject([{ code: "callback_failed", cause: thrown }]);
  });

  test.each([
    ["without onError", undefined],
    [
      "from onError itself",
      () => {
        throw new Error("bug");
      },
    ],
  ])("%s is thrown again as an uncaught exception", async (_, onError) => {
    const later = vi.spyOn(globalThis, "queueMicrotask").mockImplementation(() => undefined);
    try {
      const watch = start({
        callbacks: {
          onError,
          onUpdate: () => {
            throw new Error("bug");
          },
        },
      });
      await goLive(watch);
      expect(watch.watcher.state).toBe("live");
      expect(later).toHaveBeenCalledOnce();
      expect(later.mock.calls[0]![0]).toThrow("bug");
    } finally {
      later.mockRestore();
    }
  });
});
