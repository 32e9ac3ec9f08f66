import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openEvents } from "../support/events-client.ts";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { openMultiplex, openWatch, watchUrl } from "../support/watch-client.ts";

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
});

afterAll(() => gateway.close());

async function figures(): Promise<Map<string, number>> {
  const { body } = await call("GET", `${gateway.url}/metrics`);
  const lines = String(body).split("\n");
  return new Map(
    lines
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line): [string, number] => {
        const end = line.lastIndexOf(" ");
        return [line.slice(0, end), Number(line.slice(end + 1))];
      }),
  );
}

test("metrics are in Prometheus's text format", async () => {
  const answer = await call("GET", `${gateway.url}/metrics`);
  expect(answer.status).toBe(200);
  expect(answer.headers.get("Content-Type")).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(String(answer.body)).toMatch(
    /^# HELP jetbucket_sockets .+\n# TYPE jetbucket_sockets gauge$/m,
  );
  expect((await call("POST", `${gateway.url}/metrics`)).status).toBe(405);
});

test("metrics follow what is watched and delivered", async () => {
  const before = await figures();
  const deliveredBefore = before.get("jetbucket_deliveries_total")!;
  const single = await openWatch(watchUrl(gateway.api, "b"));
  const many = await openMultiplex(gateway.api);
  many.watch({ id: "1", bucket: "b" });
  many.watch({ id: "2", bucket: "b", keys: ["other"] });
  const stream = await openEvents(`${gateway.api}/buckets/b/watch`);
  await eventually(() => single.ready.length).toBe(1);
  for (const id of ["1", "2"]) await eventually(() => many.typesOf(id)).toContain("kv_ready");
  await eventually(() => stream.types).toContain("kv_ready");
  for (let i = 0; i < 10; i++) await callJson("PUT", `${gateway.api}/buckets/b/keys/k`, i);
  await eventually(() => single.updates.length).toBe(10);
  await eventually(() => many.pairsOf("1").length).toBe(10);
  await eventually(() => stream.pairs.length).toBe(10);

  const now = await figures();
  expect(now.get('jetbucket_sockets{kind="bucket"}')).toBe(1);
  expect(now.get('jetbucket_sockets{kind="multiplexed"}')).toBe(1);
  expect(now.get('jetbucket_sockets{kind="events"}')).toBe(1);
  expect(now.get("jetbucket_watches")).toBe(4);
  expect(now.get("jetbucket_feeds")).toBe(1);
  expect(now.get('jetbucket_feed_lag_events{bucket="b"}')).toBe(0);
  expect(now.get('jetbucket_feed_lag_seconds{bucket="b"}')).toBeLessThan(5);
  expect(now.get("jetbucket_outbox_bytes")).toBe(0);
  expect(now.get("jetbucket_deliveries_total")! - deliveredBefore).toBe(30);

  single.socket.terminate();
  many.socket.terminate();
  stream.cut();
  await expect
    .poll(async () => (await figures()).get("jetbucket_watches"), { timeout: 10_000 })
    .toBe(0);
});

test("metrics count resets by their reason", async () => {
  const name = 'jetbucket_resets_total{reason="epoch_changed"}';
  const before = (await figures()).get(name)!;
  const client = await openMultiplex(gateway.api);
  client.watch({ id: "1", bucket: "b", since: "1-1" });
  await eventually(() => client.typesOf("1")).toContain("kv_reset");
  expect((await figures()).get(name)).toBe(before + 1);
});
