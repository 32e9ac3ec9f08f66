import { expect, test } from "vitest";
import { call, startGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";

const withUser = 'authorization { user: ann, password: "s3cret word" }';
const withToken = "authorization { token: t0ken }";

test.each([
  ["user and password", withUser, ["--nats-user", "ann", "--nats-password", "s3cret word"]],
  ["a token", withToken, ["--nats-token", "t0ken"]],
])("a gateway comes in with %s", async (_, extraConfig, flags) => {
  const gateway = await startGateway(await startTestNats({ extraConfig }), flags);
  expect((await call("GET", `${gateway.url}/ready`)).status).toBe(200);
});

test("a gateway comes in with credentials in the address", async () => {
  const nats = await startTestNats({ extraConfig: withUser });
  const url = nats.url.replace("://", "://ann:s3cret%20word@");
  const gateway = await startGateway(nats, ["--nats-url", url]);
  expect((await call("GET", `${gateway.url}/ready`)).status).toBe(200);
  expect(gateway.nats.url).not.toContain("s3cret");
});

test("wrong credentials are refused at once, and not repeated", async () => {
  const nats = await startTestNats({ extraConfig: withToken });
  const failure = await startGateway(nats, ["--nats-token", "wr0ng"]).catch(
    (error: unknown) => error,
  );
  expect(failure).toMatchObject({ code: "store_unavailable" });
  expect(String(failure)).not.toContain("wr0ng");
});
