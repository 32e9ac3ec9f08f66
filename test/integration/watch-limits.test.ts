import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/protocol/limits.ts";
import { eventually } from "../support/eventually.ts";
import { openEvents, requestEvents } from "../support/events-client.ts";
import { callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";
import {
  multiplexUrl,
  openMultiplex,
  openWatch,
  refusedWatch,
  watchUrl,
} from "../support/watch-client.ts";
import { startWatchStack } from "../support/watch-stack.ts";

let nats: TestNats;
let gateway: TestGateway;

beforeAll(async () => {
  nats = await startTestNats();
  gateway = await startGateway(nats);
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
});

afterAll(async () => {
  await gateway.close();
});

describe("sockets of a gateway", () => {
  const tooMany = {
    status: 503,
    headers: { "retry-after": expect.stringMatching(/^\d+$/) as string },
    body: { code: "too_many_sockets", retryable: true },
  };

  test("are refused before the upgrade beyond --max-sockets, of whatever kind, until one is gone", async () => {
    const small = await startGateway(nats, ["--max-sockets", "3"]);
    const events = `${small.api}/buckets/b/watch`;
    const first = await openWatch(watchUrl(small.api, "b"));
    await openMultiplex(small.api);
    await openEvents(events);
    expect(await refusedWatch(watchUrl(small.api, "b"))).toMatchObject(tooMany);
    expect(await refusedWatch(multiplexUrl(small.api))).toMatchObject(tooMany);
    expect(await requestEvents(events)).toMatchObject(tooMany);
    first.socket.terminate();
    await expect
      .poll(
        () =>
          openMultiplex(small.api).then(
            () => true,
            () => false,
          ),
        { timeout: 10_000 },
      )
      .toBe(true);
    expect(await refusedWatch(multiplexUrl(small.api))).toMatchObject(tooMany);
  });

  test("that are refused for another reason take no room", async () => {
    const small = await startGateway(nats, ["--max-sockets", "1"]);
    for (let i = 0; i < 5; i++) {
      await refusedWatch(watchUrl(small.api, "missing"));
      await refusedWatch(watchUrl(small.api, "b", "include=x"));
      await requestEvents(`${small.api}/buckets/missing/watch`);
      // A handshake that is none, behind a bucket that is there.
      const raw = connect(Number(new URL(small.url).port), "localhost");
      raw.write(
        "GET /api/v1/kv/buckets/b/watch HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
      );
      raw.resume();
      await once(raw, "close");
      // One that is gone before the bucket is ready.
      const gone = connect(Number(new URL(small.url).port), "localhost");
      gone.on("error", () => undefined);
      gone.write(
        "GET /api/v1/kv/buckets/b/watch HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
        () => gone.resetAndDestroy(),
      );
      await once(gone, "close");
    }
    await expect
      .poll(
        () =>
          openWatch(watchUrl(small.api, "b")).then(
            () => true,
            () => false,
          ),
        { timeout: 10_000 },
      )
      .toBe(true);
  });
});

describe("watches of a socket", () => {
  test("are bounded in number; an end makes room", async () => {
    const client = await openMultiplex(gateway.api);
    const most = limits.watchesPerSocket;
    for (let i = 0; i <= most; i++) client.watch({ id: `${i}`, bucket: "b" });
    await eventually(() => client.of(`${most}`)).toMatchObject([
      { type: "error", code: "too_many_watches", retryable: true },
    ]);
    for (let i = 0; i < most; i++)
      await eventually(() => client.typesOf(`${i}`)).toContain("kv_ready");
    client.unwatch("7");
    client.watch({ id: "another", bucket: "b" });
    await eventually(() => client.typesOf("another")).toContain("kv_ready");
    expect(client.closed).toBeUndefined();
  });

  test("are bounded in the number of their filters together", async () => {
    const client = await openMultiplex(gateway.api);
    const keys = Array.from({ length: limits.filtersPerWatch }, (_, i) => `k${i}`);
    const most = limits.filtersPerSocket / keys.length;
    for (let i = 0; i < most; i++) client.watch({ id: `${i}`, bucket: "b", keys });
    client.watch({ id: "more", bucket: "b" });
    await eventually(() => client.of("more")).toMatchObject([
      { type: "error", code: "too_many_watches" },
    ]);
    client.unwatch("0");
    client.watch({ id: "more", bucket: "b" });
    await eventually(() => client.typesOf("more")).toContain("kv_ready");
  });
});

describe("filters of a socket", () => {
  test("are bounded in their length together", async () => {
    const client = await openMultiplex(gateway.api);
    const keys = Array.from({ length: 32 }, (_, i) => `${i}`.padStart(limits.filter, "x"));
    const most = limits.filterBytesPerSocket / (limits.filter * keys.length);
    for (let i = 0; i < most; i++) client.watch({ id: `${i}`, bucket: "b", keys });
    client.watch({ id: "more", bucket: "b" });
    await eventually(() => client.of("more")).toMatchObject([
      { type: "error", code: "too_many_watches" },
    ]);
    client.unwatch("0");
    client.watch({ id: "more", bucket: "b" });
    await eventually(() => client.typesOf("more")).toContain("kv_ready");
  });
});

describe("filters of a watch", () => {
  test(`are at most ${limits.filtersPerWatch}, however it is opened`, async () => {
    const keys = (count: number): string[] => Array.from({ length: count }, (_, i) => `k${i}`);
    const query = (count: number): string =>
      keys(count)
        .map((key) => `key=${key}`)
        .join("&");
    const most = limits.filtersPerWatch;
    await openWatch(watchUrl(gateway.api, "b", query(most)));
    const refusal = { status: 400, body: { code: "invalid_filter" } };
    expect(await refusedWatch(watchUrl(gateway.api, "b", query(most + 1)))).toMatchObject(refusal);
    expect(await requestEvents(`${gateway.api}/buckets/b/watch?${query(most + 1)}`)).toMatchObject(
      refusal,
    );
    const client = await openMultiplex(gateway.api);
    client.watch({ id: "1", bucket: "b", keys: keys(most) });
    client.watch({ id: "2", bucket: "b", keys: keys(most + 1) });
    await eventually(() => client.typesOf("1")).toContain("kv_ready");
    await eventually(() => client.of("2")).toMatchObject([{ code: "invalid_filter" }]);
  });

  test(`have at most ${limits.filterTokens} tokens where there are wildcards`, async () => {
    const tokens = (count: number): string => `${"a.".repeat(count - 1)}*`;
    const client = await openMultiplex(gateway.api);
    client.watch({ id: "1", bucket: "b", keys: [tokens(limits.filterTokens)] });
    client.watch({ id: "2", bucket: "b", keys: [tokens(limits.filterTokens + 1)] });
    await eventually(() => client.typesOf("1")).toContain("kv_ready");
    await eventually(() => client.of("2")).toMatchObject([{ code: "invalid_filter" }]);
  });
});

describe("since", () => {
  test("is refused to a client that would not understand a reset", async () => {
    expect(
      await refusedWatch(watchUrl(gateway.api, "b", "since=1-1"), { plain: true }),
    ).toMatchObject({ status: 400, body: { code: "invalid_request" } });
    expect(await refusedWatch(watchUrl(gateway.api, "b", "since=x"))).toMatchObject({
      status: 400,
      body: { code: "invalid_request" },
    });
  });
});

describe("the heartbeat", () => {
  test("cuts off a multiplexed socket that does not answer, with or without watches", async () => {
    const { api } = await startWatchStack(nats, { pingInterval: 50 });
    const dead = await openMultiplex(api, { autoPong: false });
    const busy = await openMultiplex(api, { autoPong: false });
    busy.watch({ id: "1", bucket: "b" });
    const alive = await openMultiplex(api);
    let pings = 0;
    alive.socket.on("ping", () => (pings += 1));
    await eventually(() => dead.closed).toMatchObject({ code: 1006 });
    await eventually(() => busy.closed).toMatchObject({ code: 1006 });
    const before = pings;
    await eventually(() => pings).toBeGreaterThan(before + 3);
    expect(alive.closed).toBeUndefined();
  });

  test("cuts off a multiplexed socket that sends and reads nothing", async () => {
    const { api } = await startWatchStack(nats, { pingInterval: 100 });
    const deaf = await openMultiplex(api);
    deaf.socket.pause();
    onTestFinished(() => deaf.socket.terminate());
    // While it sends, that it is there is plain; once its answers are stuck nothing shows it any more. It does not read, so it sees
    // the end only by what it sends.
    const isOpen = (): boolean => {
      const { socket } = deaf;
      while (socket.readyState === socket.OPEN && socket.bufferedAmount < 4 * 1024 * 1024)
        deaf.unwatch("x".repeat(64));
      return socket.readyState === socket.OPEN;
    };
    await eventually(isOpen, 25_000).toBe(false);
    deaf.socket.resume();
    await eventually(() => deaf.closed?.code).toBe(1006);
  });
});
