import { createElement as h, StrictMode, type FunctionComponent } from "react";
import { renderToString } from "react-dom/server";
import { expect, expectTypeOf, test, vi } from "vitest";
import { z } from "zod";
import { createClient, type Entry } from "../../../src/sdk/node.ts";
import { JetbucketProvider, useBucket, useKey, useKv } from "../../../src/sdk/react.ts";
import { startFakeGateway } from "./fake-gateway.ts";

const client = createClient();

function render(component: FunctionComponent): string {
  return renderToString(h(StrictMode, null, h(JetbucketProvider, { client }, h(component))));
}

test("a page that is rendered on a server shows that nothing is known yet, and asks nobody", async () => {
  const { url, upgrades, requests } = await startFakeGateway();
  const onServer = createClient({ serverUrl: url });
  const live = vi.spyOn(onServer.kv().bucket("b"), "live");
  const Page = () => {
    const { entries, ready, state, error } = useBucket("b", { key: "user.*" });
    const key = useKey("b", "theme");
    return h("p", null, JSON.stringify([entries.size, ready, state, error, key]));
  };
  const html = renderToString(h(JetbucketProvider, { client: onServer }, h(Page)));
  expect(html.replaceAll("&quot;", '"')).toBe(
    '<p>[0,false,"connecting",null,{"revision":0,"ready":false,"state":"connecting"}]</p>',
  );
  expect(live).not.toHaveBeenCalled();
  expect([...upgrades, ...requests]).toEqual([]);
});

test("components find the provider's client", () => {
  let seen: unknown;
  render(() => {
    seen = useKv();
    return null;
  });
  expect(seen).toBe(client.kv());
});

test("components without a provider say what is missing, unless they bring their bucket", () => {
  const Named = () => h("p", null, useBucket("b").entries.size);
  const Own = () => h("p", null, useBucket(client.kv().bucket("b")).entries.size);
  expect(() => renderToString(h(Named))).toThrow("JetbucketProvider");
  expect(renderToString(h(Own))).toBe("<p>0</p>");
});

test("types come from the bucket, or are given", () => {
  const users = client.kv().bucket("users", { schema: z.object({ age: z.coerce.number() }) });
  const Types = () => {
    const all = useBucket(users);
    const one = useKey(users, "ada");
    const given = useKey<{ mode: string }>("settings", "theme");
    expectTypeOf(all.entries).toEqualTypeOf<ReadonlyMap<string, Entry<{ age: number }>>>();
    expectTypeOf(one.value).toEqualTypeOf<{ age: number } | undefined>();
    expectTypeOf(given.value).toEqualTypeOf<{ mode: string } | undefined>();
    return null;
  };
  render(Types);
});
