/** Pages in a real Chromium that use the built browser SDK. */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { delimiter, join } from "node:path";
import { chromium, type BrowserContext, type Page } from "playwright-core";
import { onTestFinished } from "vitest";

/** The address that pages have in their code; the browser is told where it really is. */
export const ADDRESS = "http://localhost:9123";

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

/** A browser in which {@link ADDRESS} is the gateway, or what stands before it. */
export async function openBrowser(url: string): Promise<BrowserContext> {
  const { port } = new URL(url);
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
  return browser.newContext();
}

/** Serves a page from an origin of its own that runs a module, which finds the SDK by its package name. */
export async function servePage(code: string): Promise<string> {
  const imports = JSON.stringify({ imports: { "jetbucket/browser": `${ADDRESS}/sdk/browser.js` } });
  const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<script type="importmap">${imports}</script><script type="module" src="/page.js"></script>`;
  const server = createServer(({ url }, response) => {
    if (url === "/page.js")
      response.writeHead(200, { "content-type": "text/javascript" }).end(code);
    else response.writeHead(200, { "content-type": "text/html" }).end(html);
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
export function listen(page: Page): unknown[][] {
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
