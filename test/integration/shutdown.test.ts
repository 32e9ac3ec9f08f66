import { request } from "node:http";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { openWatch, watchUrl } from "../support/watch-client.ts";

async function elapsed(action: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await action();
  return performance.now() - started;
}

test("a shutdown sends watchers elsewhere by 1001, and leaves no consumer on the stream", async () => {
  const gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
  const foreign = await connectForeign(gateway.server.url);
  const clients = await Promise.all(
    Array.from({ length: 20 }, () => openWatch(watchUrl(gateway.api, "b"))),
  );
  for (const client of clients) await eventually(() => client.ready.length).toBe(1);
  expect((await foreign.jsm.streams.info("KV_APP_b")).state.consumer_count).toBe(1);
  expect(await elapsed(() => gateway.close())).toBeLessThan(3_000);
  for (const client of clients) {
    await eventually(() => client.closed).toMatchObject({ code: 1001 });
  }
  expect((await foreign.jsm.streams.info("KV_APP_b")).state.consumer_count).toBe(0);
  await expect(fetch(`${gateway.url}/health`)).rejects.toThrow();
});

test("a request that is under way is finished, and its write is kept", async () => {
  const gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
  const { port, hostname } = new URL(gateway.url);
  const put = request({
    port,
    host: hostname,
    method: "PUT",
    path: "/api/v1/kv/buckets/b/keys/k",
    headers: { "Content-Length": 6 },
  });
  const answered = new Promise<number | undefined>((resolve, reject) => {
    put.on("response", (response) => resolve(response.resume().statusCode));
    put.on("error", reject);
  });
  await new Promise((resolve) => put.write("abc", resolve));
  // The gateway has begun with it when it has taken a later request on another connection.
  await call("GET", `${gateway.url}/health`);
  const closing = gateway.close();
  put.end("def");
  expect(await answered).toBe(200);
  expect(await elapsed(() => closing)).toBeLessThan(1_000);
  const foreign = await connectForeign(gateway.server.url);
  const kv = await foreign.kvm.open("APP_b");
  expect((await kv.get("k"))?.string()).toBe("abcdef");
});

test("a shutdown takes bounded time although a request never ends, a socket never reads, and connections idle", async () => {
  const gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
  const { port, hostname } = new URL(gateway.url);
  const put = request({
    port,
    host: hostname,
    method: "PUT",
    path: "/api/v1/kv/buckets/b/keys/k",
    headers: { "Content-Length": 6 },
  });
  put.on("error", () => undefined);
  await new Promise((resolve) => put.write("abc", resolve));
  const client = await openWatch(watchUrl(gateway.api, "b"));
  client.socket.pause();
  expect(await elapsed(() => gateway.close())).toBeLessThan(4_500);
});

test.each([
  ["away", "kill"],
  ["frozen", "pause"],
] as const)("a shutdown takes bounded time although NATS is %s", async (_what, how) => {
  const gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
  const client = await openWatch(watchUrl(gateway.api, "b"));
  await eventually(() => client.ready.length).toBe(1);
  await gateway.server[how]();
  const pending = call("GET", `${gateway.api}/buckets/b/keys/k`).catch(() => undefined);
  expect(await elapsed(() => gateway.close())).toBeLessThan(4_500);
  await eventually(() => client.closed).toMatchObject({ code: 1001 });
  await pending;
});

test("closing twice is closing once", async () => {
  const gateway = await startGateway();
  expect(gateway.close()).toBe(gateway.close());
  await gateway.close();
});
