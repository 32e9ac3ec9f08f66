import { describe, expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { createClient, type LiveBucket, type LiveOptions } from "../../../src/sdk/node.ts";
import { readyFrame, startFakeGateway, updateFrame, type SeenWatch } from "./fake-gateway.ts";

const put = updateFrame;
const ready = readyFrame;
const del = (key: string, revision: number) => ({
  ...updateFrame(key, revision),
  value: undefined,
  operation: "delete",
  reason: "delete",
});
const transaction = (revision: number, ...events: object[]) => ({ type: "kv_transaction", bucket: "b", revision, events }); // prettier-ignore

/** A live view whose server is in the test's hands. */
async function start(options: LiveOptions = {}, schema?: z.ZodType) {
  const watches: SeenWatch[] = [];
  const { url } = await startFakeGateway({ onWatch: (watch) => watches.push(watch) });
  const kv = createClient({ serverUrl: url }).kv();
  const live: LiveBucket = (schema ? kv.bucket("b", { schema }) : kv.bucket("b")).live(options);
  onTestFinished(() => live.close());
  const changes: string[] = [];
  live.onChange((keys) => changes.push([...keys].join(" ")));
  const onNews = vi.fn();
  live.subscribe(onNews);
  /** The n-th watch that was asked for. */
  const watch = async (n = 1): Promise<SeenWatch> => {
    await vi.waitFor(() => expect(watches.length).toBeGreaterThanOrEqual(n), 5000);
    return watches[n - 1]!;
  };
  /** A view with a and b. */
  const goLive = async () => {
    const first = await watch();
    first.send(put("b", 1), put("a", 2), ready(2));
    await live.ready;
    return first;
  };
  return { live, watch, goLive, changes, onNews };
}

describe("a live view", () => {
  test("is a sorted map of values", async () => {
    const { live, goLive } = await start();
    await goLive();
    expect(live.size).toBe(2);
    expect(live.get("a")).toBe(2);
    expect(live.get("c")).toBeUndefined();
    expect([live.has("a"), live.has("c")]).toEqual([true, false]);
    expect(live.entry("b")).toMatchObject({ key: "b", value: 1, revision: 1, encoding: "json" });
    expect([...live]).toEqual([["a", 2], ["b", 1]]); // prettier-ignore
    expect([...live.entries()]).toEqual([...live]);
    expect([...live.keys()]).toEqual(["a", "b"]);
    expect([...live.values()]).toEqual([2, 1]);
    const seen: unknown[] = [];
    live.forEach((value, key, view) => seen.push(value, key, view === live));
    expect(seen).toEqual([2, "a", true, 1, "b", true]);
  });

  test("asks for its keys", async () => {
    const { watch, live } = await start({ key: ["user.*", "x"] });
    expect((await watch()).request).toEqual({ id: "1", bucket: "b", keys: ["user.*", "x"] });
    expect(live.state).toBe("catching-up");
  });

  test("shows nothing before everything is there, and then all at once", async () => {
    const { live, watch, changes, onNews } = await start();
    const states: string[] = [];
    live.subscribe(() => states.push(`${live.state} ${live.size}`));
    (await watch()).send(put("b", 1), put("a", 2));
    (await watch()).send({ type: "kv_bookmark", position: "x-1" }, ready(2));
    expect(live.isReady).toBe(false);
    await live.ready;
    expect(live.isReady).toBe(true);
    expect(changes).toEqual(["b a"]);
    expect(states).toEqual(["catching-up 0", "live 2"]);
    expect(onNews).toHaveBeenCalledTimes(2);
  });

  test("of an empty bucket is ready, too", async () => {
    const { live, watch, changes } = await start();
    (await watch()).send(ready(0));
    await live.ready;
    expect([...live]).toEqual([]);
    expect(changes).toEqual([]);
  });

  test("follows changes, and a transaction in one step", async () => {
    const { live, goLive, changes } = await start();
    const { send } = await goLive();
    const seen: unknown[] = [];
    live.onChange(() => seen.push([...live.values()]));
    send(put("c", 3), del("a", 4), transaction(7, put("a", 5), del("b", 6), put("d", 7)));
    await vi.waitFor(() => expect(changes.slice(1)).toEqual(["c", "a", "a b d"]));
    expect(seen).toEqual([[2, 1, 3], [1, 3], [5, 3, 7]]); // prettier-ignore
    // A removal of what was never there changes nothing.
    send(del("z", 8), put("e", 9));
    await vi.waitFor(() => expect(changes.slice(4)).toEqual(["e"]));
  });

  test("keeps the old state through an outage, and switches at once to the new one", async () => {
    const { live, goLive, watch, changes } = await start();
    const { socket } = await goLive();
    const states: string[] = [];
    live.subscribe(() => states.push(`${live.state} ${[...live.keys()].join("")}`));
    socket.terminate();
    const second = await watch(2);
    expect(second.request.since).toBe(ready(2).position);
    second.send({ type: "kv_reset", reason: "too_old" }, put("a", 2), put("c", 5), ready(6));
    await vi.waitFor(() => expect(live.state).toBe("live"));
    expect(changes.slice(1)).toEqual(["c b"]);
    // The reset itself is nothing to look at: the view is behind before and after it.
    expect(states).toEqual(["waiting ab", "connecting ab", "catching-up ab", "live ac"]);
  });

  test("shows nothing of what is late until it is known to be all", async () => {
    const { live, goLive, changes } = await start();
    const { send } = await goLive();
    send({ type: "kv_stale", reason: "no NATS" }, put("c", 3), { ...del("a", 9), inferred: true });
    await vi.waitFor(() => expect(live.state).toBe("catching-up"));
    expect(live.isReady).toBe(true);
    expect(live.size).toBe(2);
    send(ready(9));
    await vi.waitFor(() => expect(live.state).toBe("live"));
    expect(changes.slice(1)).toEqual(["c a"]);
  });

  test("leaves out what does not fit the schema, and says so", async () => {
    const onError = vi.fn();
    const { live, goLive, changes } = await start({ onError }, z.number());
    const { send } = await goLive();
    send(put("a", 3, "text"), transaction(6, put("b", 4, "text"), put("c", 5)));
    await vi.waitFor(() => expect(changes.slice(1)).toEqual(["a", "b c"]));
    expect([...live]).toEqual([["c", 5]]);
    expect(onError).toHaveBeenCalledTimes(2);
    expect(onError.mock.calls[0]![0]).toMatchObject({ code: "invalid_value", details: { key: "a" } }); // prettier-ignore
    // The view itself is well.
    expect(live.error).toBeUndefined();
    send(put("a", 7, 7));
    await vi.waitFor(() => expect(live.get("a")).toBe(7));
  });
});

describe("a snapshot of a live view", () => {
  test("stays the same until something changes, and its entries until one of them does", async () => {
    const { live, goLive } = await start();
    const before = live.getSnapshot();
    expect(before).toMatchObject({ ready: false, state: "connecting", error: undefined });
    expect(before.entries.size).toBe(0);
    const { send } = await goLive();
    const { getSnapshot } = live;
    const first = getSnapshot();
    expect(getSnapshot()).toBe(first);
    expect(first).toMatchObject({ ready: true, state: "live" });
    expect([...first.entries.keys()]).toEqual(["a", "b"]);
    send({ type: "kv_stale", reason: "r" });
    await vi.waitFor(() => expect(live.state).toBe("catching-up"));
    expect(getSnapshot()).not.toBe(first);
    expect(getSnapshot().entries).toBe(first.entries);
    send(ready(2), put("a", 3));
    await vi.waitFor(() => expect(live.get("a")).toBe(3));
    expect(first.entries.get("a")!.value).toBe(2);
    expect(getSnapshot().entries.get("a")!.value).toBe(3);
    expect(before.entries.size).toBe(0);
  });

  test("is new already when listeners are called", async () => {
    const { live, goLive } = await start();
    const { send } = await goLive();
    let before = live.getSnapshot();
    const isNew: boolean[] = [];
    const look = () => {
      isNew.push(live.getSnapshot() !== before);
    };
    live.onChange(look);
    live.subscribe(() => {
      look();
      before = live.getSnapshot();
    });
    send(put("a", 3));
    await vi.waitFor(() => expect(isNew).toEqual([true, true]));
  });
});

describe("listeners", () => {
  test("hear nothing after they left; the same one may listen twice", async () => {
    const { live, goLive, changes } = await start();
    const listener = vi.fn();
    const leave = live.subscribe(listener);
    live.subscribe(listener);
    const { send } = await goLive();
    listener.mockClear();
    leave();
    leave();
    send(put("a", 3));
    await vi.waitFor(() => expect(changes.at(-1)).toBe("a"));
    expect(listener).toHaveBeenCalledTimes(1);
  });

  test("that throw disturb neither the view nor each other", async () => {
    const { live, goLive } = await start();
    const later = vi.spyOn(globalThis, "queueMicrotask").mockImplementation(() => undefined);
    try {
      live.onChange(() => {
        throw new Error("bug");
      });
      const other = vi.fn();
      live.onChange(other);
      await goLive();
      expect(other).toHaveBeenCalledTimes(1);
      expect(live.state).toBe("live");
      expect(later.mock.lastCall![0]).toThrow("bug");
    } finally {
      later.mockRestore();
    }
  });
});

describe("the end of a live view", () => {
  test("by close() keeps what it shows", async () => {
    const { live, goLive, onNews } = await start();
    const { socket } = await goLive();
    onNews.mockClear();
    live.close();
    live.close();
    expect(live.state).toBe("closed");
    expect(live.error).toBeUndefined();
    expect([...live.keys()]).toEqual(["a", "b"]);
    expect(onNews).toHaveBeenCalledTimes(1);
    expect((await live.closed).code).toBe(1000);
    await vi.waitFor(() => expect(socket.readyState).toBe(socket.CLOSED));
  });

  test("by its signal before it was ready rejects `ready`, which nobody has to look at", async () => {
    const controller = new AbortController();
    const { live, watch } = await start({ signal: controller.signal });
    await watch();
    controller.abort();
    await expect(live.ready).rejects.toMatchObject({ code: "aborted" });
    const unseen = await start({ signal: controller.signal });
    expect((await unseen.live.closed).code).toBe(1000);
  });

  test("by the server says why", async () => {
    const onError = vi.fn();
    const { live, watch } = await start({ onError });
    (await watch()).send({ type: "error", code: "bucket_not_found", message: "no", retryable: false }); // prettier-ignore
    await expect(live.ready).rejects.toMatchObject({ code: "bucket_not_found" });
    expect(live.getSnapshot()).toMatchObject({ state: "closed", ready: false, error: { code: "bucket_not_found" } }); // prettier-ignore
    expect(onError).toHaveBeenCalledTimes(1);
  });
});

test("an outage is shown as long as it lasts", async () => {
  const { live, watch } = await start();
  const busy = { type: "error", code: "store_unavailable", message: "no", retryable: true };
  for (const n of [1, 2, 3]) (await watch(n)).send(busy);
  await vi.waitFor(() => expect(live.error).toMatchObject({ code: "store_unavailable" }));
  (await watch(4)).send(ready(0));
  await live.ready;
  expect(live.error).toBeUndefined();
});
