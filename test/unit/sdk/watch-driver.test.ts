import { describe, expect, test, vi } from "vitest";
import type { Include } from "../../../src/protocol/messages.ts";
import { revisionOf, type Revision } from "../../../src/sdk/core/entry.ts";
import { JetbucketError } from "../../../src/sdk/core/errors.ts";
import { WatchDriver, type WatchContext } from "../../../src/sdk/core/watch-driver.ts";
import type { ConnectionListener, WatchRequest } from "../../../src/sdk/core/watch-socket.ts";
import type { Change, WatchCallbacks } from "../../../src/sdk/core/watch.ts";
import { positionOf, wireEntry } from "./fake-gateway.ts";

interface FakeConnection {
  request: WatchRequest;
  tell: ConnectionListener;
  left: boolean;
}

interface Setup {
  include?: Include;
  callbacks?: Partial<WatchCallbacks>;
  context?: Partial<WatchContext<Revision>>;
}

/** A watch whose connections, timers and chance are in the test's hands. */
function start({ include, callbacks = {}, context = {} }: Setup = {}) {
  const connections: FakeConnection[] = [];
  const timers = new Map<() => void, number>();
  const log: string[] = [];
  const changes: Change[] = [];
  const errors: JetbucketError[] = [];
  const watcher = new WatchDriver<Revision>(
    {
      request: { bucket: "b", include },
      socket: {
        watch: (request, listener) => {
          const connection: FakeConnection = { request, tell: () => undefined, left: false };
          connection.tell = (event) => {
            if (!connection.left) listener(event);
          };
          connections.push(connection);
          return () => (connection.left = true);
        },
        jitter: () => 0.5,
      },
      probe: () => Promise.resolve(),
      read: (body) => revisionOf(body),
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
    (callback, ms) => {
      timers.set(callback, ms);
      return () => timers.delete(callback);
    },
  );
  const fireTimer = () => {
    const [[callback, ms] = []] = timers;
    expect(timers.size).toBe(1);
    timers.delete(callback!);
    callback!();
    return ms;
  };
  return { watcher, connections, timers, fireTimer, log, changes, errors };
}

function send(connection: FakeConnection, frame: unknown): void {
  connection.tell({ type: "frame", frame: frame as never });
}

function lose(connection: FakeConnection, code = 1006, reason = ""): void {
  connection.tell({ type: "lost", code, reason });
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
const transaction = (revision: number, ...events: unknown[]) => ({
  type: "kv_transaction",
  bucket: "b",
  revision,
  events,
});

function goLive(watch: ReturnType<typeof start>): FakeConnection {
  const connection = watch.connections.at(-1)!;
  connection.tell({ type: "opened" });
  send(connection, update("a", 1));
  send(connection, ready(1, 1));
  return connection;
}

/** Loses the connection and comes back; the new connection, opened. */
function reconnect(watch: ReturnType<typeof start>): FakeConnection {
  lose(watch.connections.at(-1)!);
  watch.fireTimer();
  const connection = watch.connections.at(-1)!;
  connection.tell({ type: "opened" });
  return connection;
}

describe("a watch", () => {
  test("goes from connecting over its snapshot to live, and tells changes on the way", () => {
    const watch = start();
    expect(watch.watcher.state).toBe("connecting");
    const connection = goLive(watch);
    send(connection, update("b", 2));
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

  test("says when the gateway has lost touch, and when it is current again", () => {
    const watch = start();
    const connection = goLive(watch);
    send(connection, { type: "kv_stale", reason: "no NATS" });
    expect(watch.watcher.state).toBe("catching-up");
    send(connection, update("b", 2));
    send(connection, ready(2));
    expect(watch.watcher.state).toBe("live");
    expect(watch.changes.map(({ key }) => key)).toEqual(["a", "b"]);
  });

  test("goes on after a lost connection where it was", () => {
    const watch = start();
    send(goLive(watch), update("b", 2));
    lose(watch.connections[0]!);
    expect(watch.watcher.state).toBe("waiting");
    expect(watch.fireTimer()).toBe(125);
    const second = watch.connections[1]!;
    expect(second.request).toEqual({ bucket: "b", since: positionOf(2) });
    second.tell({ type: "opened" });
    send(second, update("c", 4));
    send(second, ready(5));
    // Nothing is told to be gone because a catch-up does not name it.
    expect(watch.log.slice(5)).toEqual([
      "waiting",
      "connecting",
      "catching-up",
      "put c@4",
      "live",
      `ready ${positionOf(5)} 0`,
    ]);
  });

  test("that is told to start over repeats nothing, and tells what went", () => {
    const watch = start();
    send(goLive(watch), update("b", 2));
    const second = reconnect(watch);
    send(second, { type: "kv_reset", reason: "too_old" });
    send(second, update("b", 2));
    send(second, update("c", 4));
    send(second, ready(5));
    expect(watch.log.slice(8)).toEqual(["put c@4", "live", "delete a@5", `ready ${positionOf(5)} 0`]); // prettier-ignore
    expect(watch.changes.at(-1)).toEqual({
      bucket: "b",
      key: "a",
      revision: 5,
      createdAt: expect.any(String) as string,
      operation: "delete",
      reason: "delete",
      inferred: true,
    });
  });

  test("that is told to start over while it is live does so", () => {
    const watch = start();
    const connection = goLive(watch);
    send(connection, { type: "kv_reset", reason: "lagged" });
    send(connection, update("b", 2));
    send(connection, ready(3));
    expect(watch.log.slice(4)).toEqual([
      "catching-up",
      "put b@2",
      "live",
      "delete a@3",
      `ready ${positionOf(3)} 0`,
    ]);
  });

  test("of a bucket that is a new one tells all of it, whatever the clocks say", () => {
    const watch = start();
    goLive(watch);
    const second = reconnect(watch);
    send(second, { type: "kv_reset", reason: "epoch_changed" });
    send(second, { ...update("a", 1), value: "new" });
    send(second, ready(1));
    expect(watch.changes.map(({ value }) => value)).toEqual([1, "new"]);
  });

  test.each(["snapshot", "updates", "history"] as const)(
    "of %s asks for it each time, and goes on once it was ready",
    (include) => {
      const watch = start({ include });
      reconnect(watch);
      goLive(watch);
      reconnect(watch);
      expect(watch.connections.map(({ request }) => request)).toEqual([
        { bucket: "b", include },
        { bucket: "b", include },
        { bucket: "b", include, since: positionOf(1) },
      ]);
    },
  );

  test("goes on from the old position when it is lost while it starts over", () => {
    const watch = start({ include: "updates" });
    goLive(watch);
    const second = reconnect(watch);
    send(second, { type: "kv_reset", reason: "too_old" });
    send(second, update("b", 7));
    send(second, { ...update("c", 8), operation: "delete", reason: "delete", value: undefined });
    const third = reconnect(watch);
    expect(third.request.since).toBe(positionOf(1));
    // It happens that this gateway knows more: what was told is not told again.
    send(third, update("b", 5));
    send(third, update("b", 7));
    send(third, { ...update("c", 8), operation: "delete", reason: "delete", value: undefined });
    send(third, update("d", 9));
    send(third, ready(9));
    expect(watch.changes.map(({ key, revision }) => `${key}@${revision}`)).toEqual([
      "a@1",
      "b@7",
      "c@8",
      "d@9",
    ]);
  });

  test("passes on what the gateway found out late, and how much was conflated", () => {
    const watch = start();
    const connection = goLive(watch);
    const gone = { ...update("a", 9), operation: "delete", reason: "expired", inferred: true };
    send(connection, gone);
    send(connection, gone);
    send(connection, { ...update("b", 5), conflated: 3 });
    expect(watch.changes.slice(1)).toMatchObject([
      { key: "a", operation: "delete", reason: "expired", inferred: true },
      { key: "b", conflated: 3 },
    ]);
    expect(reconnect(watch).request.since).toBe(positionOf(5));
  });

  test("reconnects almost at once after a drain", () => {
    const watch = start();
    lose(goLive(watch), 1001, "draining");
    expect(watch.fireTimer()).toBe(50);
  });

  test("is ended by the server alone, for good or for now", async () => {
    const watch = start();
    const busy = new JetbucketError("store_unavailable", "busy", { retryable: true });
    goLive(watch).tell({ type: "ended", error: busy });
    expect(watch.watcher.state).toBe("waiting");
    watch.fireTimer();
    const error = new JetbucketError("bucket_not_found", "gone");
    watch.connections[1]!.tell({ type: "opened" });
    watch.connections[1]!.tell({ type: "ended", error });
    expect(await watch.watcher.closed).toEqual({ code: 4404, reason: "gone", error });
    expect(watch.errors).toEqual([error]);
  });
});

describe("a transaction", () => {
  test("is told part by part, each with its place", () => {
    const watch = start();
    const connection = goLive(watch);
    send(connection, { ...transaction(4, update("a", 2), update("b", 3)), conflated: 2 });
    expect(watch.changes.slice(1)).toMatchObject([
      { key: "a", conflated: 2, transaction: { revision: 4, index: 0, size: 2 } },
      { key: "b", transaction: { revision: 4, index: 1, size: 2 } },
    ]);
    expect(watch.changes[2]).not.toHaveProperty("conflated");
    expect(reconnect(watch).request.since).toBe(positionOf(4));
  });

  test("has nothing in between, however long its values take to be checked", async () => {
    const checks: (() => void)[] = [];
    const watch = start({
      context: {
        read: (body) =>
          body.key === "slow"
            ? new Promise((resolve) => checks.push(() => resolve(revisionOf(body))))
            : revisionOf(body),
      },
    });
    const connection = goLive(watch);
    send(connection, transaction(4, update("b", 2), update("slow", 3), update("c", 4)));
    send(connection, update("d", 5));
    expect(watch.changes).toHaveLength(1);
    checks[0]!();
    await vi.waitFor(() => expect(watch.changes).toHaveLength(5));
    expect(watch.changes.map(({ key }) => key)).toEqual(["a", "b", "slow", "c", "d"]);
  });
});

describe("connections that fail without a reason", () => {
  function failThrice(watch: ReturnType<typeof start>): void {
    for (const n of [1, 2, 3]) {
      lose(watch.connections.at(-1)!);
      if (n < 3) watch.fireTimer();
    }
  }

  test("make the watch ask by a plain request, and end when that is refused", async () => {
    const error = new JetbucketError("forbidden", "not you", { status: 403 });
    const watch = start({ context: { probe: () => Promise.reject(error) } });
    failThrice(watch);
    expect(await watch.watcher.closed).toEqual({ code: 1006, reason: "refused", error });
    expect(watch.errors).toEqual([error]);
    expect(watch.timers.size).toBe(0);
  });

  test("are reported, and tried further, while that finds no fault", async () => {
    const watch = start();
    failThrice(watch);
    await vi.waitFor(() => expect(watch.errors).toHaveLength(1));
    expect(watch.errors[0]).toMatchObject({ code: "network", retryable: true });
    expect(watch.watcher.state).toBe("waiting");
  });
});

describe("the end", () => {
  test("by stop() closes the socket, resolves closed, and is told once", async () => {
    const watch = start();
    const connection = goLive(watch);
    watch.watcher.stop();
    watch.watcher.stop();
    expect(watch.watcher.state).toBe("closed");
    expect(connection.left).toBe(true);
    send(connection, update("z", 9));
    lose(connection, 1000);
    expect(await watch.watcher.closed).toEqual({ code: 1000, reason: "stopped" });
    expect(watch.log.slice(4)).toEqual(["closed", "close 1000"]);
    expect(watch.errors).toEqual([]);
  });

  test("by stop() while waiting takes the timer along", async () => {
    const watch = start();
    lose(watch.connections[0]!);
    watch.watcher.stop();
    expect(watch.timers.size).toBe(0);
  });

  test("comes by the signal, before or during the watch, and lets go of it", async () => {
    const controller = new AbortController();
    const removed = vi.spyOn(controller.signal, "removeEventListener");
    const watch = start({ context: { signal: controller.signal } });
    const connection = goLive(watch);
    controller.abort();
    expect(connection.left).toBe(true);
    expect(removed).toHaveBeenCalled();
    const late = start({ context: { signal: controller.signal } });
    // Nobody is called back before watch() has returned.
    expect(late.log).toEqual([]);
    expect(await late.watcher.closed).toMatchObject({ code: 1000 });
    expect(late.connections).toEqual([]);
  });

  test("by a final close code is told as an error", async () => {
    const watch = start();
    const connection = goLive(watch);
    send(connection, { type: "error", message: "deleted", code: "bucket_not_found" });
    lose(connection, 4404, "deleted");
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
    const connection = watch.connections[0]!;
    connection.tell({ type: "opened" });
    send(connection, transaction(2, update("a", 1), update("b", 2)));
    send(connection, ready(2));
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
    const first = watch.connections[0]!;
    first.tell({ type: "opened" });
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
    goLive(watch);
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
      goLive(watch);
      expect(watch.watcher.state).toBe("live");
      expect(later).toHaveBeenCalledOnce();
      expect(later.mock.calls[0]![0]).toThrow("bug");
    } finally {
      later.mockRestore();
    }
  });
});
