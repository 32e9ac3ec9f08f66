import { describe, expect, test, vi } from "vitest";
import { limits } from "../../../src/protocol/limits.ts";
import { JetbucketError } from "../../../src/sdk/core/errors.ts";
import type { SocketHandlers, SocketRequest } from "../../../src/sdk/core/socket.ts";
import { WatchSocket, type ConnectionEvent } from "../../../src/sdk/core/watch-socket.ts";

interface FakeSocket {
  request: SocketRequest;
  handlers: SocketHandlers;
  sent: Record<string, unknown>[];
  closed: boolean;
}

/** A shared socket whose sockets, timers and chance are in the test's hands. */
function start(
  token: (refused?: string) => Promise<string | undefined> = () => Promise.resolve("t"),
) {
  const sockets: FakeSocket[] = [];
  const timers = new Map<() => void, number>();
  let chance = 0;
  const shared = new WatchSocket({
    url: "ws://x/watch",
    token,
    openSocket: (request, handlers) => {
      const socket: FakeSocket = { request, handlers, sent: [], closed: false };
      sockets.push(socket);
      return {
        send: (text) => socket.sent.push(JSON.parse(text) as Record<string, unknown>),
        close: () => (socket.closed = true),
      };
    },
    setTimer: (callback, ms) => {
      timers.set(callback, ms);
      return () => timers.delete(callback);
    },
    random: () => (chance += 0.1),
  });
  const watch = (bucket: string, options: object = {}) => {
    const events: ConnectionEvent[] = [];
    const leave = shared.watch({ bucket, ...options }, (event) => events.push(event));
    /** What was heard, in short. */
    const heard = () =>
      events.map((event) => (event.type === "frame" ? event.frame.type : event.type));
    return { events, heard, leave };
  };
  /** The n-th socket, as soon as there is one. */
  const socket = async (n = 1): Promise<FakeSocket> => {
    await vi.waitFor(() => expect(sockets).toHaveLength(n));
    return sockets[n - 1]!;
  };
  const open = async (n = 1): Promise<FakeSocket> => {
    const opened = await socket(n);
    opened.handlers.onOpen();
    return opened;
  };
  const fireTimer = () => {
    const [[callback, ms] = []] = timers;
    expect(timers.size).toBe(1);
    timers.delete(callback!);
    callback!();
    return ms;
  };
  return { shared, sockets, socket, open, timers, fireTimer, watch };
}

const message = (socket: FakeSocket, frame: unknown) =>
  socket.handlers.onMessage(JSON.stringify(frame));
const ready = (id: string) => ({ id, type: "kv_ready", position: "e-1", count: 0 });

describe("all watches of a client", () => {
  test("go over one socket, each under its own number", async () => {
    const { watch, open, sockets } = start();
    const a = watch("a", { keys: ["user.*"], include: "history", values: false, since: "e-1" });
    const b = watch("b");
    expect(a.events).toEqual([]);
    const socket = await open();
    expect(socket.request).toEqual({ url: "ws://x/watch", token: "t" });
    const c = watch("c");
    await vi.waitFor(() => expect(socket.sent).toHaveLength(3));
    expect(socket.sent).toEqual([
      { type: "watch", id: "1", bucket: "a", keys: ["user.*"], include: "history", values: false, since: "e-1" }, // prettier-ignore
      { type: "watch", id: "2", bucket: "b" },
      { type: "watch", id: "3", bucket: "c" },
    ]);
    message(socket, ready("2"));
    message(socket, { id: "3", type: "kv_stale", reason: "r" });
    expect(a.heard()).toEqual(["opened"]);
    expect(b.heard()).toEqual(["opened", "kv_ready"]);
    expect(c.heard()).toEqual(["opened", "kv_stale"]);
    expect(sockets).toHaveLength(1);
  });

  test("hear nothing before they are begun, and nothing once they have left", async () => {
    const { watch, open } = start();
    watch("a");
    const socket = await open();
    const late = watch("b");
    expect(late.events).toEqual([]);
    late.leave();
    late.leave();
    const other = watch("c");
    await vi.waitFor(() => expect(other.heard()).toEqual(["opened"]));
    message(socket, ready("2"));
    socket.handlers.onClose(1006, "");
    expect(late.events).toEqual([]);
    expect(socket.sent.map(({ type, id }) => `${String(type)} ${String(id)}`)).toEqual([
      "watch 1",
      "unwatch 2",
      "watch 3",
    ]);
  });

  test("overhear messages that are none", async () => {
    const { watch, open } = start();
    const { heard } = watch("a");
    const socket = await open();
    for (const text of ["no JSON", "null", "7", "[]", "{}", '{"id":7}', '{"id":"9","type":"x"}']) {
      socket.handlers.onMessage(text);
    }
    expect(heard()).toEqual(["opened"]);
  });
});

describe("an error", () => {
  test("with an id ends that watch only", async () => {
    const { watch, open } = start();
    const a = watch("a");
    const b = watch("b");
    const socket = await open();
    message(socket, { id: "1", type: "error", code: "bucket_not_found", message: "no", retryable: false }); // prettier-ignore
    message(socket, { id: "2", type: "error", code: "store_unavailable", message: "no", retryable: true }); // prettier-ignore
    message(socket, ready("1"));
    expect(a.events.slice(1)).toMatchObject([{ type: "ended", error: { code: "bucket_not_found", retryable: false } }]); // prettier-ignore
    expect(b.events.slice(1)).toMatchObject([{ type: "ended", error: { retryable: true } }]);
    a.leave();
    expect(socket.sent).toHaveLength(2);
    expect(socket.closed).toBe(false);
  });

  test("without one is everybody's: the close follows", async () => {
    const { watch, open } = start();
    const a = watch("a");
    const b = watch("b");
    const socket = await open();
    message(socket, { type: "error", code: "invalid_request", message: "no" });
    socket.handlers.onClose(4400, "no");
    for (const { heard } of [a, b]) expect(heard()).toEqual(["opened", "error", "lost"]);
  });

  test("that there are too many watches makes the next ones go to another socket", async () => {
    const { watch, open, sockets } = start();
    const first = watch("a");
    watch("b");
    const socket = await open();
    message(socket, { id: "2", type: "error", code: "too_many_watches", message: "no", retryable: true }); // prettier-ignore
    watch("b");
    await open(2);
    watch("c");
    expect(sockets[1]!.sent).toMatchObject([{ id: "1", bucket: "b" }]);
    first.leave();
    // The first one has room again, and is still there for a moment.
    watch("d");
    await vi.waitFor(() => expect(socket.sent.at(-1)).toMatchObject({ bucket: "d" }));
  });
});

test("a watch whose filters the server would not read ends, and disturbs no other", async () => {
  const { watch, open } = start();
  const a = watch("a");
  const b = watch("b", { keys: Array(limits.filtersPerWatch).fill("ü".repeat(limits.filter / 2)) });
  const socket = await open();
  expect(a.heard()).toEqual(["opened"]);
  expect(b.events).toMatchObject([{ type: "ended", error: { code: "invalid_filter", retryable: false } }]); // prettier-ignore
  expect(socket.sent).toHaveLength(1);
});

describe("a socket that is lost", () => {
  test("is lost for every watch, and the next one is shared again, numbered from 1", async () => {
    const { watch, open, sockets } = start();
    const watches = ["a", "b", "c"].map((bucket) => watch(bucket));
    const first = await open();
    first.handlers.onClose(1001, "draining");
    for (const { events } of watches) {
      expect(events.at(-1)).toEqual({ type: "lost", code: 1001, reason: "draining" });
    }
    // Whatever comes of it later is not heard.
    message(first, ready("1"));
    first.handlers.onClose(1006, "");
    for (const { events } of watches) expect(events).toHaveLength(2);
    watch("b");
    watch("a");
    const second = await open(2);
    watch("c");
    await vi.waitFor(() => expect(second.sent).toHaveLength(3));
    expect(second.sent.map(({ id }) => id)).toEqual(["1", "2", "3"]);
    expect(sockets).toHaveLength(2);
  });

  test("before it opened is given up after 10 s", async () => {
    const { watch, socket, fireTimer } = start();
    const { events } = watch("a");
    const hung = await socket();
    expect(fireTimer()).toBe(10_000);
    expect(hung.closed).toBe(true);
    expect(events).toMatchObject([{ type: "lost", code: 1006 }]);
    hung.handlers.onOpen();
    expect(hung.sent).toEqual([]);
    expect(events).toHaveLength(1);
  });

  test("because it was refused is so for every watch", async () => {
    const { watch, socket } = start();
    const a = watch("a");
    const b = watch("b");
    const error = new JetbucketError("forbidden", "no", { status: 403 });
    (await socket()).handlers.onRefused(error);
    for (const { events } of [a, b]) expect(events).toEqual([{ type: "refused", error }]);
  });

  test("brings its watches back together: they wait for the same time by chance", async () => {
    const { shared } = start();
    const [first, second] = [shared.jitter(), shared.jitter()];
    expect(second).toBe(first);
    await Promise.resolve();
    expect(shared.jitter()).not.toBe(first);
  });
});

describe("a token", () => {
  test("is asked for each time a socket opens", async () => {
    let n = 0;
    const { watch, open } = start(() => Promise.resolve(`t${++n}`));
    watch("a");
    watch("b");
    (await open()).handlers.onClose(1006, "");
    watch("a");
    expect((await open(2)).request.token).toBe("t2");
  });

  test("that cannot be had is told to every watch", async () => {
    const { watch, sockets } = start(() => Promise.reject(new Error("no session")));
    const { events } = watch("a");
    await vi.waitFor(() => expect(events).toMatchObject([{ type: "refused", error: { code: "network" } }])); // prettier-ignore
    expect(sockets).toEqual([]);
  });

  test("that comes too late opens nothing", async () => {
    let give: (token: string) => void = () => undefined;
    const { watch, sockets, timers } = start(() => new Promise((resolve) => (give = resolve)));
    watch("a").leave();
    give("late");
    await Promise.resolve();
    expect(sockets).toEqual([]);
    expect(timers.size).toBe(0);
  });
});

describe("without watches the socket", () => {
  test("closes after a moment", async () => {
    const { watch, open, fireTimer } = start();
    const { leave } = watch("a");
    const socket = await open();
    leave();
    expect(socket.closed).toBe(false);
    expect(fireTimer()).toBe(100);
    expect(socket.closed).toBe(true);
  });

  test("closes after the server ended the last one", async () => {
    const { watch, open, fireTimer } = start();
    watch("a");
    const socket = await open();
    message(socket, { id: "1", type: "error", code: "bucket_not_found", message: "no" });
    fireTimer();
    expect(socket.closed).toBe(true);
  });

  test("stays for one that comes within the moment", async () => {
    const { watch, open, timers, sockets } = start();
    const { leave } = watch("a");
    const socket = await open();
    leave();
    watch("b");
    expect(timers.size).toBe(0);
    await vi.waitFor(() => expect(socket.sent.at(-1)).toMatchObject({ id: "2", bucket: "b" }));
    expect(sockets).toHaveLength(1);
  });

  test("is not waited for while it opens", async () => {
    const { watch, socket, open, timers } = start();
    const { leave } = watch("a");
    const hung = await socket();
    leave();
    expect(hung.closed).toBe(true);
    expect(timers.size).toBe(0);
    watch("a");
    expect((await open(2)).sent).toHaveLength(1);
  });
});

test("a token that has expired is told to whoever gives the next one", async () => {
  const token = vi.fn((refused?: string) => Promise.resolve(refused === undefined ? "a" : "b"));
  const { watch, open, socket } = start(token);
  watch("b");
  (await open()).handlers.onClose(4401, "expired");
  watch("b");
  expect((await socket(2)).request.token).toBe("b");
  (await open(2)).handlers.onClose(1006, "");
  watch("b");
  expect((await socket(3)).request.token).toBe("a");
  expect(token.mock.calls).toEqual([[undefined], ["a"], [undefined]]);
});
