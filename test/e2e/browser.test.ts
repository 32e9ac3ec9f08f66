/** The built browser SDK in a real Chromium, against a real gateway. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { delimiter, join } from "node:path";
import { transform } from "esbuild";
import { chromium, type Page } from "playwright-core";
import { expect, onTestFinished, test, vi } from "vitest";
import { callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";

/** The address that the model page has in its code; the browser is told where it really is. */
const ADDRESS = "http://localhost:9123";

function findChromium(): string {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const candidates = [
    process.env.CHROMIUM_PATH ?? "",
    "/usr/bin/chromium",
    ...folders.flatMap((folder) =>
      ["chromium", "chromium-browser", "google-chrome"].map((name) => join(folder, name)),
    ),
  ];
  const found = candidates.find((path) => path !== "" && existsSync(path));
  if (found === undefined) {
    throw new Error("no Chromium found: install the package chromium, or set CHROMIUM_PATH");
  }
  return found;
}

/** A browser in which {@link ADDRESS} is the gateway. */
async function openBrowser(gateway: TestGateway): Promise<Page> {
  const { port } = new URL(gateway.url);
  const browser = await chromium.launch({
    executablePath: findChromium(),
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--host-resolver-rules=MAP localhost:9123 127.0.0.1:${port}`,
    ],
  });
  onTestFinished(() => browser.close());
  return browser.newPage();
}

/** Serves a page from an origin of its own that runs a module, which finds the SDK by its package name. */
async function servePage(code: string): Promise<string> {
  const imports = JSON.stringify({ imports: { "jetbucket/browser": `${ADDRESS}/sdk/browser.js` } });
  const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script type="importmap">${imports}</script><script type="module">${code}</script>`;
  const server = createServer((_, response) => {
    response.writeHead(200, { "content-type": "text/html" }).end(html);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** What the page prints, value by value. */
function listen(page: Page): unknown[][] {
  const printed: unknown[][] = [];
  page.on("pageerror", (error) => printed.push(["uncaught", error.message]));
  page.on("console", (message) => {
    // Chromium's own remarks, such as that a request was answered with 412, have no arguments.
    if (message.args().length === 0) return;
    const line: unknown[] = [];
    printed.push(line);
    message
      .args()
      .forEach((arg, i) => void arg.jsonValue().then((value: unknown) => (line[i] = value)));
  });
  return printed;
}

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
  const page = await openBrowser(gateway);
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
  const page = await openBrowser(gateway);
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
