import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import pino from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openToAll } from "../../../../src/auth/authenticator.ts";
import { originPolicy } from "../../../../src/http/origins.ts";
import { WatchServer } from "../../../../src/http/watch.ts";
import { KvError } from "../../../../src/protocol/errors.ts";
import { wsText } from "../../../../src/watch/frames.ts";
import type { ConfigWatches } from "../../../../src/configs/watches.ts";
import type { Hub, Prepared } from "../../../../src/watch/hub.ts";
import type { End, WatchHandle, WatchOptions, WatchSocket } from "../../../../src/watch/watch.ts";
import { eventually } from "../../../support/eventually.ts";
import { openMultiplex, type MultiplexClient } from "../../../support/watch-client.ts";

/** A watch as a hub would have it. */
class FakeWatch implements WatchHandle {
  readonly count = 0;
  closes = 0;
  drains = 0;
  constructor(
    readonly bucket: string,
    readonly options: WatchOptions,
    readonly socket: WatchSocket,
  ) {}

  close(): void {
    this.closes += 1;
  }

  drained(): void {
    this.drains += 1;
  }

  send(type: string): void {
    this.socket.write(wsText(JSON.stringify({ id: this.options.id, type })));
  }

  end(end: Partial<End>): void {
    this.socket.end(this, { code: 1013, reason: "because", retryable: true, ...end });
  }
}

/** A hub whose buckets become ready when a test says so. */
class FakeHub {
  readonly watches: FakeWatch[] = [];
  readonly waiting: { bucket: string; ready(): void; fail(error: unknown): void }[] = [];
  onAttach: (watch: FakeWatch) => void = () => undefined;

  prepare(bucket: string): Promise<Prepared> {
    return new Promise((resolve, reject) => {
      const attach = (options: WatchOptions, socket: WatchSocket): WatchHandle => {
        const watch = new FakeWatch(bucket, options, socket);
        this.watches.push(watch);
        this.onAttach(watch);
        return watch;
      };
      this.waiting.push({ bucket, ready: () => resolve({ attach }), fail: reject });
    });
  }

  async nextAsked(count: number): Promise<void> {
    await eventually(() => this.waiting.length).toBe(count);
  }
}

let hub: FakeHub;
let watches: WatchServer;
let server: Server;
let client: MultiplexClient;

beforeEach(async () => {
  hub = new FakeHub();
  watches = new WatchServer({
    hub: hub as unknown as Hub,
    configs: {} as unknown as ConfigWatches,
    log: pino({ level: "silent" }),
    origins: originPolicy([]),
    authenticator: openToAll,
  });
  server = createServer();
  watches.listen(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  client = await openMultiplex(`http://127.0.0.1:${port}`.concat("/api/v1/kv"));
});

afterEach(() => {
  watches.close();
  server.close();
});

async function opened(id: string, more: object = {}): Promise<FakeWatch> {
  const asked = hub.waiting.length;
  const count = hub.watches.length;
  client.watch({ id, bucket: "b", ...more });
  await hub.nextAsked(asked + 1);
  hub.waiting[asked]!.ready();
  await eventually(() => hub.watches.length).toBe(count + 1);
  return hub.watches.at(-1)!;
}

describe("a watch", () => {
  test("is attached under its id, with all that was asked for", async () => {
    const watch = await opened("1", {
      keys: ["a.*"],
      include: "updates",
      values: false,
      since: "a-1",
    });
    expect(watch.bucket).toBe("b");
    expect(watch.options).toMatchObject({
      include: "updates",
      values: false,
      since: "a-1",
      id: "1",
    });
    expect(watch.options.patterns.map(({ text }) => text)).toEqual(["a.*"]);
    watch.send("kv_ready");
    await eventually(() => client.typesOf("1")).toEqual(["kv_ready"]);
  });

  test("that is given up before its bucket is ready is never attached", async () => {
    client.watch({ id: "1", bucket: "b" });
    client.unwatch("1");
    await eventually(() => client.typesOf("1")).toEqual(["unwatched"]);
    hub.waiting[0]!.ready();
    await opened("2");
    expect(hub.watches.map(({ options }) => options.id)).toEqual(["2"]);
  });

  test("that is given up before its bucket cannot be watched is not told so", async () => {
    client.watch({ id: "1", bucket: "b" });
    client.unwatch("1");
    await hub.nextAsked(1);
    hub.waiting[0]!.fail(new KvError("bucket_not_found", "none"));
    client.unwatch("2");
    await eventually(() => client.frames).toEqual([
      { id: "1", type: "unwatched" },
      { id: "2", type: "unwatched" },
    ]);
  });

  test("that takes over the id of one that was given up is the only one, whichever is ready first", async () => {
    client.watch({ id: "1", bucket: "first" });
    client.unwatch("1");
    client.watch({ id: "1", bucket: "second" });
    await hub.nextAsked(2);
    hub.waiting[1]!.ready();
    await eventually(() => hub.watches.length).toBe(1);
    hub.waiting[0]!.ready();
    client.unwatch("x");
    await eventually(() => client.typesOf("x")).toEqual(["unwatched"]);
    expect(hub.watches.map(({ bucket }) => bucket)).toEqual(["second"]);
    client.unwatch("1");
    await eventually(() => hub.watches[0]!.closes).toBe(1);
  });

  test("whose id is used again while it is made ready ends with the other, and neither is attached", async () => {
    client.watch({ id: "1", bucket: "first" });
    client.watch({ id: "1", bucket: "second" });
    await eventually(() => client.of("1")).toMatchObject([
      { type: "error", code: "invalid_request" },
    ]);
    hub.waiting[0]!.ready();
    await opened("2");
    expect(hub.watches.map(({ options }) => options.id)).toEqual(["2"]);
  });

  test("whose socket goes while it is made ready is never attached", async () => {
    client.watch({ id: "1", bucket: "b" });
    await hub.nextAsked(1);
    client.socket.terminate();
    await once(client.socket, "close");
    await eventually(() => watchesLeft()).toBe(0);
    hub.waiting[0]!.ready();
    await new Promise((resolve) => setImmediate(resolve));
    expect(hub.watches).toEqual([]);
  });

  test("that ends while it is attached says why, and its handle is let go", async () => {
    hub.onAttach = (watch) =>
      watch.end({ code: 4404, error: "bucket_not_found", retryable: false });
    const watch = await opened("1");
    await eventually(() => client.of("1")).toEqual([
      {
        id: "1",
        type: "error",
        code: "bucket_not_found",
        message: "because",
        retryable: false,
      },
    ]);
    await eventually(() => watch.closes).toBe(1);
    hub.onAttach = () => undefined;
    await opened("1");
  });

  test("that cannot be attached is an error of its own", async () => {
    hub.onAttach = () => {
      throw new Error("secret details");
    };
    client.watch({ id: "1", bucket: "b" });
    await hub.nextAsked(1);
    hub.waiting[0]!.ready();
    await eventually(() => client.of("1")).toMatchObject([{ type: "error", code: "internal" }]);
    expect(JSON.stringify(client.frames)).not.toContain("secret");
    expect(client.closed).toBeUndefined();
  });

  test("that ends is told to its client, and the others go on", async () => {
    const first = await opened("1");
    const second = await opened("2");
    first.end({ code: 1013 });
    first.end({ code: 1013 });
    second.send("kv_ready");
    await eventually(() => client.typesOf("2")).toEqual(["kv_ready"]);
    expect(client.of("1")).toMatchObject([
      { type: "error", code: "store_unavailable", retryable: true },
    ]);
    expect([first.closes, second.closes]).toEqual([1, 0]);
  });

  test("that ends because the gateway goes takes the socket along", async () => {
    const first = await opened("1");
    const second = await opened("2");
    first.end({ code: 1001 });
    second.end({ code: 1001 });
    await eventually(() => client.closed).toMatchObject({ code: 1001 });
    expect(client.frames).toEqual([]);
    await eventually(() => [first.closes, second.closes]).toEqual([1, 1]);
  });
});

function watchesLeft(): number {
  const { bucket, multiplexed, events } = watches.sockets;
  return bucket + multiplexed + events;
}

test("what several watches write in one turn arrives whole and in order", async () => {
  const some = [await opened("1"), await opened("2"), await opened("3")];
  for (let i = 0; i < 300; i++) some[i % 3]!.send(`t${i}${"x".repeat(i * 10)}`);
  await eventually(() => client.frames.length).toBe(300);
  expect(client.frames.map(({ type }, i) => (type as string).startsWith(`t${i}x`))).toEqual([
    false,
    ...Array.from({ length: 299 }, () => true),
  ]);
});

test("a socket that has room again tells all its watches", async () => {
  const some = [await opened("1"), await opened("2")];
  client.socket.pause();
  while (some[0]!.socket.backlog < 1024 * 1024) some[0]!.send("x".repeat(100_000));
  client.socket.resume();
  await eventually(() => some.map(({ drains }) => drains > 0)).toEqual([true, true]);
});

test("a socket that is gone lets go of all its watches, once", async () => {
  const some = [await opened("1"), await opened("2")];
  client.unwatch("1");
  await eventually(() => client.typesOf("1")).toEqual(["unwatched"]);
  client.socket.close();
  await eventually(() => some.map(({ closes }) => closes)).toEqual([1, 1]);
  expect(watchesLeft()).toBe(0);
});
