/** A page's own EventSource in a real Chromium, without the SDK, against a real gateway. */
import { expect, test, vi } from "vitest";
import { call, callJson, startGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";
import { ADDRESS, listen, openBrowser, servePage } from "./browser-page.ts";

test("an EventSource of another origin goes on exactly where it was when its gateway is replaced, and gives up on a deleted bucket", async () => {
  const nats = await startTestNats();
  const gateway = await startGateway(nats);
  const bucket = "/buckets/b";
  await callJson("POST", `${gateway.api}/buckets`, { name: "b" });
  await callJson("PUT", `${gateway.api}${bucket}/keys/a`, 1);
  const page = await (await openBrowser(gateway.url)).newPage();
  const printed = listen(page);
  await page.goto(
    await servePage(`
      const source = new EventSource("${ADDRESS}/api/v1/kv/buckets/b/watch");
      source.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.type === "kv_update") console.log(frame.operation, frame.key, frame.value);
        else console.log(frame.type, frame.code ?? frame.reason);
      };
      source.onerror = () => { if (source.readyState === EventSource.CLOSED) console.log("given up"); };
    `),
  );
  const first = [
    ["put", "a", 1],
    ["kv_ready", undefined],
  ];
  await vi.waitFor(() => expect(printed).toEqual(first), 10_000);
  await callJson("PUT", `${gateway.api}${bucket}/keys/b`, 2);
  await vi.waitFor(() => expect(printed).toHaveLength(3));

  // Another one takes over; what happened meanwhile is all that comes.
  const { port } = new URL(gateway.url);
  const other = await startGateway(nats);
  await gateway.close();
  await callJson("PUT", `${other.api}${bucket}/keys/c`, 3);
  await call("DELETE", `${other.api}${bucket}/keys/a`);
  const next = await startGateway(nats, ["--port", port]);
  await vi.waitFor(
    () =>
      expect(printed).toEqual([
        ...first,
        ["put", "b", 2],
        ["error", "shutting_down"],
        ["put", "c", 3],
        ["delete", "a", undefined],
        ["kv_ready", undefined],
      ]),
    20_000,
  );

  await call("DELETE", `${next.api}${bucket}`);
  await vi.waitFor(() => expect(printed.at(-1)).toEqual(["given up"]), 10_000);
  expect(printed.at(-2)).toEqual(["error", "bucket_not_found"]);
});
