/** The built browser SDK in a real Chromium, against a real gateway. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { transform } from "esbuild";
import { expect, test, vi } from "vitest";
import { callJson, startGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";
import { ADDRESS, listen, openBrowser, servePage } from "./browser-page.ts";

test("what a page loads is one module of less than 10,700 bytes, gzipped", async () => {
  const { url } = await startGateway();
  const response = await fetch(`${url}/sdk/browser.js`);
  expect(response.headers.get("content-type")).toContain("text/javascript");
  const code = await response.text();
  expect(gzipSync(code, { level: 9 }).length).toBeLessThan(10_700);
  expect(code).not.toMatch(/\bimport\b/);
});

test("the model page's browser half runs as it stands, and sees what others write", async () => {
  const gateway = await startGateway();
  await callJson("POST", `${gateway.api}/buckets`, { name: "settings" });
  const theme = `${gateway.api}/buckets/settings/keys/theme`;
  await callJson("PUT", theme, { mode: "dark" });
  const { code } = await transform(
    await readFile(join(import.meta.dirname, "seeds/browser.ts"), "utf8"),
    { loader: "ts" },
  );
  // What the page says to do later is done when the test says so. (The transformation has dropped the comment.)
  const stops = "watcher.stop();";
  expect(code).toContain(stops);
  const page = await (await openBrowser(gateway.url)).newPage();
  const printed = listen(page);
  await page.goto(
    await servePage(
      code.replace(stops, `await new Promise((resolve) => (window.later = resolve)); ${stops}`),
    ),
  );

  await vi.waitFor(() => expect(printed).toEqual([["theme", { mode: "dark" }]]), 10_000);
  await callJson("PUT", `${gateway.api}/buckets/settings/keys/other`, "not asked for");
  await callJson("PUT", theme, { mode: "light" });
  await vi.waitFor(() => expect(printed).toHaveLength(2));
  await page.evaluate("later()");
  await vi.waitFor(() =>
    expect(printed).toEqual([
      ["theme", { mode: "dark" }],
      ["theme", { mode: "light" }],
      ["watch closed"],
    ]),
  );
});

test("a page writes, conflicts, and watches through a gateway's restart", async () => {
  const nats = await startTestNats();
  const gateway = await startGateway(nats);
  const page = await (await openBrowser(gateway.url)).newPage();
  const printed = listen(page);
  await page.goto(
    await servePage(`
      import { createClient } from "jetbucket/browser";
      const kv = createClient({ serverUrl: "${ADDRESS}" }).kv();
      await kv.createBucket({ name: "b" });
      const bucket = kv.bucket("b");
      await bucket.create("a/../b #1", "text");
      console.log((await bucket.get("a/../b #1")).value);
      const { revision } = await bucket.put("k", { n: 1 });
      await bucket.update("k", { n: 2 }, revision);
      await bucket.update("k", { n: 3 }, revision).catch((err) => console.log(err.code));
      await bucket.purge("a/../b #1");
      bucket.watch({
        onUpdate: ({ operation, key, value }) => console.log(operation, key, value),
        onReady: () => console.log("ready"),
      });
    `),
  );
  const before = [["text"], ["revision_mismatch"], ["put", "k", { n: 2 }], ["ready"]];
  await vi.waitFor(() => expect(printed).toEqual(before), 10_000);

  const { port } = new URL(gateway.url);
  await gateway.close();
  const next = await startGateway(nats, ["--port", port]);
  await callJson("PUT", `${next.api}/buckets/b/keys/new`, 1);
  await vi.waitFor(
    () => {
      expect(printed.slice(before.length)).toContainEqual(["ready"]);
      expect(printed.slice(before.length)).toContainEqual(["put", "new", 1]);
    },
    { timeout: 20_000 },
  );
  expect(printed.filter(([what, key]) => what === "put" && key === "k")).toHaveLength(1);
});
