/** Live views in a real Chromium, against a real gateway. */
import { createClient, type Bucket } from "jetbucket/node";
import type { Page } from "playwright-core";
import { describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { startGateway } from "../support/gateway.ts";
import { ADDRESS, listen, openBrowser, servePage } from "./browser-page.ts";
import { startCutOff } from "./cut-off.ts";

const PATIENCE = 30_000;

/** What a page shows of a bucket. */
interface Shown {
  state: string;
  entries: [string, unknown, number][];
}

/** A page with `view`, a live view of the bucket `b`, and what it printed. */
const livePage = `
  import { createClient } from "jetbucket/browser";
  const bucket = createClient({ serverUrl: "${ADDRESS}" }).kv().bucket("b");
  window.view = bucket.live();
  window.halves = 0;
  view.onChange(() => { if (view.get("pair.1") !== view.get("pair.2")) window.halves++; });
  window.shown = () => ({
    state: view.state,
    entries: [...view.getSnapshot().entries].map(([key, { value, revision }]) => [key, value, revision]),
  });
`;

async function shown(page: Page): Promise<Shown> {
  return page.evaluate("shown()");
}

async function stored(bucket: Bucket): Promise<Shown["entries"]> {
  const entries = await bucket.list().toArray();
  return entries.map(({ key, value, revision }) => [key, value, revision]);
}

/** Opens the live page, as soon as it has a view. */
async function openLive(pages: { newPage(): Promise<Page> }, url: string): Promise<Page> {
  const page = await pages.newPage();
  await page.goto(url);
  await page.waitForFunction("window.view?.state === 'live'", undefined, { timeout: PATIENCE });
  return page;
}

/** One of the gateway's figures. */
async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1));
}

/** What is written while nobody may miss it: puts, deletes, a purge, an expiry, transactions. */
async function write(bucket: Bucket, round: number): Promise<void> {
  await bucket.putMany(
    Array.from({ length: 60 }, (_, n) => ({ key: `k.${n}`, value: `${round}.${n}` })),
  );
  await bucket.deleteMany([`k.${round}`, `k.${round + 10}`]);
  await bucket.purge(`k.${round + 20}`);
  await bucket.put("short", round, { ttl: "1s" });
  for (let n = 0; n < 5; n++) {
    const value = `${round}.${n}`;
    await bucket.transaction().put("pair.1", value).put("pair.2", value).commit();
  }
}

describe("a page with a live view", () => {
  test("ends up exactly with the bucket after being offline, again and again", async () => {
    const gateway = await startGateway();
    const kv = createClient({ serverUrl: gateway.url }).kv();
    await kv.createBucket({ name: "b", history: 3 });
    const bucket = kv.bucket("b");
    await write(bucket, 0);
    const cable = await startCutOff(gateway.url);
    const context = await openBrowser(cable.url);
    const page = await openLive(context, await servePage(livePage));
    const printed = listen(page);

    for (let round = 1; round <= 4; round++) {
      const before = (await shown(page)).entries;
      await context.setOffline(true);
      cable.cut();
      await eventually(async () => (await shown(page)).state, PATIENCE).not.toBe("live");
      await write(bucket, round);
      // What it showed it still shows.
      expect((await shown(page)).entries).toEqual(before);
      cable.mend();
      await context.setOffline(false);
      await eventually(async () => (await shown(page)).state, PATIENCE).toBe("live");
      await eventually(async () => (await shown(page)).entries, PATIENCE).toEqual(
        await storedWithout(bucket, "short"),
      );
    }
    expect(await page.evaluate("window.halves")).toBe(0);
    expect(printed.filter(([what]) => what === "uncaught")).toEqual([]);
  });

  test("ends up with a bucket whose past nobody knows any more", async () => {
    const gateway = await startGateway();
    const kv = createClient({ serverUrl: gateway.url }).kv();
    await kv.createBucket({ name: "b" });
    const bucket = kv.bucket("b");
    await write(bucket, 0);
    const { port } = new URL(gateway.url);
    const context = await openBrowser(gateway.url);
    const page = await openLive(context, await servePage(livePage));

    // Another gateway in its place, which has not seen what was written meanwhile; of that, only the latest is stored.
    await gateway.close();
    await eventually(async () => (await shown(page)).state, PATIENCE).not.toBe("live");
    const spare = await startGateway(gateway.server);
    const meanwhile = createClient({ serverUrl: spare.url }).kv().bucket("b");
    await write(meanwhile, 1);
    await meanwhile.compact({ olderThan: 0 });
    const next = await startGateway(gateway.server, ["--port", port]);
    await eventually(async () => (await shown(page)).state, PATIENCE).toBe("live");
    await eventually(async () => (await shown(page)).entries, PATIENCE).toEqual(
      await storedWithout(meanwhile, "short"),
    );
    expect(await page.evaluate("window.halves")).toBe(0);
    expect(await metric(next.url, 'jetbucket_resets_total{reason="too_old"}')).toBe(1);
  });
});

/** What is stored once a key that expires is gone. */
async function storedWithout(bucket: Bucket, key: string): Promise<Shown["entries"]> {
  await eventually(() => bucket.find(key)).toBeUndefined();
  return stored(bucket);
}

test("five pages with several watches each have one socket each, and all of them see everything", async () => {
  const gateway = await startGateway();
  const kv = createClient({ serverUrl: gateway.url }).kv();
  for (const name of ["b", "c"]) await kv.createBucket({ name });
  const [b, c] = [kv.bucket("b"), kv.bucket("c")];
  await write(b, 0);
  const context = await openBrowser(gateway.url);
  const url = await servePage(`
    import { createClient } from "jetbucket/browser";
    const kv = createClient({ serverUrl: "${ADDRESS}" }).kv();
    window.view = kv.bucket("b").live();
    window.some = kv.bucket("b").live({ key: ["k.1*", "pair.1"] });
    window.other = kv.bucket("c").live();
    window.told = [];
    window.watcher = kv.bucket("c").watch(
      { onUpdate: ({ operation, key }) => told.push(operation + " " + key) },
      { include: "updates" },
    );
    await Promise.all([view.ready, some.ready, other.ready]);
    window.shown = () => ({
      b: [...view], some: [...some.keys()], c: [...other], told,
      states: [view, some, other, watcher].map(({ state }) => state).join(" "),
    });
  `);
  const pages = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const page = await context.newPage();
      await page.goto(url);
      await page.waitForFunction("window.shown !== undefined && watcher.state === 'live'");
      return page;
    }),
  );
  expect(await metric(gateway.url, 'jetbucket_sockets{kind="multiplexed"}')).toBe(5);
  expect(await metric(gateway.url, "jetbucket_watches")).toBe(20);

  await Promise.all([write(b, 1), c.put("x", 1), c.put("y", 2)]);
  await c.delete("x");
  await eventually(() => b.find("short")).toBeUndefined();
  const truth = (await stored(b)).map(([key, value]) => [key, value]);
  const expected = {
    b: truth,
    some: truth.map(([key]) => key as string).filter((key) => /^(k\.1.*|pair\.1)$/.test(key)),
    c: [["y", 2]],
    told: expect.arrayContaining(["put x", "put y", "delete x"]) as unknown,
    states: "live live live live",
  };
  for (const page of pages) {
    await eventually(() => page.evaluate("shown()"), PATIENCE).toEqual(expected);
  }

  // A watch that ends leaves the others where they are, and the last one takes the socket along.
  const [first] = pages;
  await first!.evaluate("some.close(); watcher.stop()");
  await eventually(() => metric(gateway.url, "jetbucket_watches")).toBe(18);
  await c.put("z", 3);
  await eventually(() => first!.evaluate("other.get('z')")).toBe(3);
  await first!.evaluate("view.close(); other.close()");
  await eventually(() => metric(gateway.url, 'jetbucket_sockets{kind="multiplexed"}')).toBe(4);
  await Promise.all(pages.map((page) => page.close()));
  await eventually(() => metric(gateway.url, "jetbucket_watches")).toBe(0);
});

test("pages come back together after their gateway was replaced, with one socket each", async () => {
  const gateway = await startGateway();
  const kv = createClient({ serverUrl: gateway.url }).kv();
  await kv.createBucket({ name: "b", history: 5 });
  const { port } = new URL(gateway.url);
  const context = await openBrowser(gateway.url);
  const url = await servePage(`${livePage} window.views = [1, 2, 3].map((n) => bucket.live({ key: n + ".*" }));`); // prettier-ignore
  const pages = await Promise.all([1, 2, 3].map(() => openLive(context, url)));
  await gateway.close();
  const next = await startGateway(gateway.server, ["--port", port]);
  onTestFinished(() => next.close());
  await createClient({ serverUrl: next.url }).kv().bucket("b").put("2.x", "new");
  for (const page of pages) {
    await eventually(() => page.evaluate("views[1].get('2.x')"), PATIENCE).toBe("new");
  }
  await eventually(() => metric(next.url, "jetbucket_watches"), PATIENCE).toBe(12);
  expect(await metric(next.url, 'jetbucket_sockets{kind="multiplexed"}')).toBe(3);
});
