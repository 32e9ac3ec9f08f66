/** `jetbucket/react` in a real Chromium, with the real React, against a real gateway. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { createClient } from "jetbucket/node";
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { ADDRESS, listen, openBrowser, servePage } from "./browser-page.ts";

/** Bundles a module for a page, which loads the client by itself. */
async function bundleTsx(contents: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents, loader: "tsx", resolveDir: join(import.meta.dirname, "../..") },
    jsx: "automatic",
    bundle: true,
    write: false,
    format: "esm",
    define: { "process.env.NODE_ENV": '"development"' },
    external: ["jetbucket/browser"],
  });
  return outputFiles[0]!.text;
}

/** A page of React's; `root` is there to render into, and `h` makes elements. */
async function bundle(code: string): Promise<string> {
  return bundleTsx(`
    import { createElement as h, StrictMode, useState, Fragment } from "react";
    import { createRoot, hydrateRoot } from "react-dom/client";
    import { createClient } from "jetbucket/browser";
    import { JetbucketProvider, useBucket, useKey, useKv } from "jetbucket/react";
    const client = createClient({ serverUrl: "${ADDRESS}" });
    const element = document.body.appendChild(document.createElement("main"));
    ${code}`);
}

async function watches({ url }: TestGateway): Promise<string> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return /^jetbucket_watches (\d+)$/m.exec(text)![1]!;
}

async function start(code: string) {
  const gateway = await startGateway();
  const kv = createClient({ serverUrl: gateway.url }).kv();
  await kv.createBucket({ name: "b" });
  const bucket = kv.bucket("b");
  await bucket.put("user.ada", { age: 36 });
  await bucket.put("user.bob", { age: 7 });
  await bucket.put("theme", "dark");
  const page = await (await openBrowser(gateway.url)).newPage();
  const printed = listen(page);
  await page.goto(await servePage(await bundle(code)));
  const text = () => page.evaluate<string>("element().innerText");
  return { gateway, bucket, page, text, printed };
}

const app = `
  window.renders = { Users: 0, Theme: 0 };
  function Users() {
    window.renders.Users++;
    const { entries, ready, state } = useBucket("b", { key: "user.*" });
    if (!ready) return h("p", null, "…");
    return h("p", null, state + ": " + [...entries].map(([key, { value }]) => key + "=" + value.age).join(" "));
  }
  function Theme() {
    window.renders.Theme++;
    const { value, revision, ready } = useKey("b", "theme");
    return h("p", null, ready ? value + "@" + revision : "…");
  }
  window.element = () => element;
`;

async function setShown(page: Page, shown: unknown): Promise<void> {
  await page.evaluate(`show(${JSON.stringify(shown)})`);
}

test("components show buckets and keys as they are, share views, and let go of them", async () => {
  const { gateway, bucket, page, text, printed } = await start(`${app}
    function App() {
      const [shown, setShown] = useState(["Users", "Users", "Theme", "Theme"]);
      window.show = setShown;
      const kv = useKv();
      return h(Fragment, null,
        ...shown.map((name, n) => h({ Users, Theme }[name], { key: name + n })),
        h("button", { onClick: () => kv.bucket("b").put("theme", "light") }, "light"));
    }
    createRoot(element).render(h(StrictMode, null, h(JetbucketProvider, { client }, h(App))));
  `);
  const users = "live: user.ada=36 user.bob=7";
  await eventually(text).toBe([users, users, "dark@3", "dark@3", "light"].join("\n\n"));
  expect(await watches(gateway)).toBe("2");

  await page.click("button");
  await eventually(text).toContain("light@4\n\nlight@4");
  await bucket.transaction().put("user.ada", { age: 37 }).delete("user.bob").put("x", 1).commit();
  await eventually(text).toContain("live: user.ada=37\n\nlive: user.ada=37");
  // A key's component does not render for others' changes.
  const before = await page.evaluate("renders.Theme");
  await bucket.put("user.eve", { age: 1 });
  await eventually(text).toContain("user.eve=1");
  expect(await page.evaluate("renders.Theme")).toBe(before);

  // The last component of a view takes it along; one that comes at once finds what there was.
  await setShown(page, []);
  await setShown(page, ["Users"]);
  expect(await text()).toContain("user.eve=1");
  await eventually(() => watches(gateway)).toBe("1");
  await setShown(page, []);
  await eventually(() => watches(gateway)).toBe("0");
  await setShown(page, ["Users", "Theme"]);
  await eventually(text).toContain("live: user.ada=37 user.eve=1\n\nlight@4");
  expect(printed.filter(([what]) => what === "uncaught" || String(what).includes("Warning"))).toEqual([]); // prettier-ignore
});

test("a page that was rendered on a server comes to life, and a missing bucket is an error to show", async () => {
  const { text, printed } = await start(`${app}
    element.innerHTML = "<p>…</p><p>…</p><p>connecting</p>";
    function Missing() {
      const { state, error } = useBucket("none");
      return h("p", null, error?.code ?? state);
    }
    hydrateRoot(element, h(StrictMode, null,
      h(JetbucketProvider, { client }, h(Users), h(Theme), h(Missing))));
  `);
  await eventually(text).toBe(
    ["live: user.ada=36 user.bob=7", "dark@3", "bucket_not_found"].join("\n\n"),
  );
  expect(printed.filter(([what]) => !String(what).includes("React DevTools"))).toEqual([]);
});

test("the example of docs/sdk.md does what it says", async () => {
  const guide = await readFile(join(import.meta.dirname, "../../docs/sdk.md"), "utf8");
  const [, example] = /^```tsx\n(.*?)^```$/ms.exec(guide)!;
  const gateway = await startGateway();
  const kv = createClient({ serverUrl: gateway.url }).kv();
  for (const name of ["settings", "users"]) await kv.createBucket({ name });
  await kv.bucket("settings").put("mode", "light");
  await kv.bucket("users").put("user.ada", { age: 36 });
  const page = await (await openBrowser(gateway.url)).newPage();
  const render = `
    import { createRoot } from "react-dom/client";
    createRoot(document.body.appendChild(document.createElement("main"))).render(<App />);`;
  await page.goto(await servePage(await bundleTsx(`${example}${render}`)));
  await eventually(() => page.innerText("main")).toBe("light\n36");
  await page.click("button");
  await eventually(() => page.innerText("main")).toBe("dark\n36");
});

test("keys that look like patterns are keys", async () => {
  const { bucket, text } = await start(`
    window.element = () => element;
    function Key({ name }) {
      const { value, ready } = useKey("b", name);
      return h("p", null, ready ? String(value) : "…");
    }
    createRoot(element).render(h(JetbucketProvider, { client },
      ...["a.>.b", "a.*", ">", "no.such"].map((name) => h(Key, { name, key: name }))));
  `);
  for (const [n, key] of ["a.>.b", "a.*", ">"].entries()) await bucket.put(key, n);
  await eventually(text).toBe(["0", "1", "2", "undefined"].join("\n\n"));
});
