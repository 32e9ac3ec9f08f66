import { createHmac } from "node:crypto";
import pino from "pino";
import { expect, onTestFinished, test } from "vitest";
import { Access } from "../../src/auth/access.ts";
import { hashedText, type KeyRecord } from "../../src/auth/api-keys.ts";
import type { CreatedApiKey } from "../../src/protocol/access.ts";
import type { Principal } from "../../src/auth/principal.ts";
import { root } from "../../src/auth/root-key.ts";
import { Vault } from "../../src/auth/vault.ts";
import { Sealer } from "../../src/secrets/sealer.ts";
import { rotateSecrets } from "../../src/server.ts";
import { readSettings } from "../../src/settings.ts";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway, type Answer, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { sendRaw } from "../support/raw-http.ts";
import { startTestNats } from "../support/nats.ts";
import { openWatch, watchUrl } from "../support/watch-client.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";
const scopes = [{ verbs: ["read", "write", "watch", "delete", "admin"] }];

function as(credential: string | undefined, url: string): Promise<Answer> {
  const headers = credential === undefined ? {} : { Authorization: `Bearer ${credential}` };
  return call("GET", url, undefined, headers);
}

async function makeKey(
  gateway: TestGateway,
  credential?: string,
  wanted: object[] = scopes,
): Promise<CreatedApiKey> {
  const headers = credential === undefined ? {} : { Authorization: `Bearer ${credential}` };
  const url = `${gateway.url}/api/v1/api-keys`;
  const { status, body } = await callJson("POST", url, { name: "x", scopes: wanted }, headers);
  expect(status, JSON.stringify(body)).toBe(201);
  return body as CreatedApiKey;
}

test("the first API key closes every gateway to strangers, also when it and all of them are gone", async () => {
  const nats = await startTestNats();
  const [a, b] = [await startGateway(nats), await startGateway(nats)];
  await callJson("POST", `${a.api}/buckets`, { name: "b" });
  // Who cannot be known does not matter as long as nobody has to be.
  for (const credential of [undefined, "whatever", "a.b.c"]) {
    expect((await as(credential, `${b.api}/buckets`)).status).toBe(200);
  }
  const stranger = await openWatch(watchUrl(b.api, "b"));
  const token = (await callJson("POST", `${a.url}/api/v1/tokens`, {})).body as { token: string };
  expect((await as(token.token, `${b.api}/buckets`)).status).toBe(200);

  const { key, id } = await makeKey(a);
  expect((await as(undefined, `${a.api}/buckets`)).status).toBe(401);
  await eventually(() => stranger.closed).toMatchObject({ code: 4401 });
  for (const credential of [undefined, "whatever", token.token]) {
    expect((await as(credential, `${b.api}/buckets`)).status).toBe(401);
  }
  // By whatever name it is reached: who has credentials was not led here by a false one.
  const named = `GET /api/v1/kv/buckets HTTP/1.1\r\nHost: kv.example.com\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n\r\n`;
  expect(await sendRaw(b.url, named)).toMatch(/^HTTP\/1.1 200 /);

  const headers = { Authorization: `Bearer ${key}` };
  expect((await call("DELETE", `${a.url}/api/v1/api-keys/${id}`, undefined, headers)).status).toBe(
    204,
  );
  const late = await startGateway(nats);
  for (const gateway of [a, b, late]) {
    expect((await as(undefined, `${gateway.api}/buckets`)).status).toBe(401);
  }
});

test("when the bucket of credentials is deleted nobody is let in by them, until there are new ones", async () => {
  const nats = await startTestNats();
  const [a, b] = [
    await startGateway(nats, ["--root-key", ROOT]),
    await startGateway(nats, ["--root-key", ROOT]),
  ];
  const { key } = await makeKey(a, ROOT);
  expect((await as(key, `${b.api}/buckets`)).status).toBe(200);
  await (await connectForeign(nats.url)).jsm.streams.delete("KV_SYS_auth");
  for (const gateway of [a, b]) {
    await eventually(async () => (await as(key, `${gateway.api}/buckets`)).status).toBe(401);
    expect((await as(undefined, `${gateway.api}/buckets`)).status).toBe(401);
  }
  const next = await makeKey(a, ROOT);
  for (const gateway of [a, b]) {
    expect((await as(next.key, `${gateway.api}/buckets`)).status).toBe(200);
    expect((await as(key, `${gateway.api}/buckets`)).status).toBe(401);
  }
});

test("what was revoked while NATS was away is noticed, and what was not goes on", async () => {
  const nats = await startTestNats();
  const gateway = await startGateway(nats, ["--root-key", ROOT]);
  await callJson(
    "POST",
    `${gateway.api}/buckets`,
    { name: "b" },
    { Authorization: `Bearer ${ROOT}` },
  );
  const [kept, revoked] = [await makeKey(gateway, ROOT), await makeKey(gateway, ROOT)];
  const watch = await openWatch(watchUrl(gateway.api, "b"), {
    headers: { Authorization: `Bearer ${revoked.key}` },
  });
  await eventually(() => watch.ready.length).toBe(1);
  await nats.stop();
  // Known credentials are no reason to refuse a request that the store cannot answer.
  await eventually(async () => (await as(kept.key, `${gateway.api}/buckets`)).status).toBe(503);
  expect((await as(undefined, `${gateway.api}/buckets`)).status).toBe(401);
  expect((await as(kept.key, `${gateway.url}/health`)).status).toBe(200);
  await nats.restart();
  const foreign = await connectForeign(nats.url);
  await (await foreign.kvm.open("SYS_auth")).purge(`key.${revoked.id}`);
  await eventually(async () => (await as(revoked.key, `${gateway.api}/buckets`)).status).toBe(401);
  await eventually(() => watch.closed).toMatchObject({ code: 4403 });
  await eventually(async () => (await as(kept.key, `${gateway.api}/buckets`)).status).toBe(200);
});

test("keys that are known hold for a while when nobody can say whether they were revoked, then not", async () => {
  const nats = await startTestNats();
  const connection = await StoreConnection.open({ servers: [nats.url] });
  const buckets = new Buckets(connection);
  const vault = new Vault(buckets, new Sealer(undefined, "tests"));
  const access = await Access.open(buckets, vault, { staleLimit: 300 });
  onTestFinished(async () => {
    await access.close();
    await buckets.close();
    await connection.close();
  });
  const { key } = await access.keys.create({ name: "x", scopes: [{ verbs: ["read"] }] }, root);
  const come = (): Principal | Promise<Principal> =>
    access.authenticate({
      authorization: `Bearer ${key}`,
      protocols: undefined,
      ticket: undefined,
      address: undefined,
    });
  expect(come()).toMatchObject({ kind: "key" });
  await nats.stop();
  expect(come()).toMatchObject({ kind: "key" });
  await eventually(() => codeOf(come)).toBe("store_unavailable");
  await nats.restart();
  await eventually(() => codeOf(come)).toBeUndefined();
});

function codeOf(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as { code: unknown }).code;
  }
}

test("who can write to NATS alone gets no further than with a key of their own", async () => {
  const nats = await startTestNats();
  const flags = ["--root-key", ROOT, "--master-key", "1".repeat(64)];
  const gateway = await startGateway(nats, flags);
  const own = await makeKey(gateway, ROOT, [{ verbs: ["read"], bucket: "mine" }]);
  const allowed = `${gateway.api}/buckets/mine/keys/k`;
  expect((await as(own.key, allowed)).status).toBe(404);

  const kv = await (await connectForeign(nats.url)).kvm.open("SYS_auth");
  const stored = (await kv.get(`key.${own.id}`))!.json<Record<string, unknown>>();
  await kv.put(`key.${own.id}`, JSON.stringify({ ...stored, scopes }));
  await eventually(async () => (await as(own.key, allowed)).status).toBe(401);

  const pepper = Buffer.from("a pepper that somebody has made up");
  const hash = createHmac("sha256", pepper)
    .update(hashedText(own.key, { ...stored, scopes } as KeyRecord))
    .digest("base64url");
  const vault = (await kv.get("vault"))!.json<Record<string, unknown>>();
  const plain = pepper.toString("base64url");
  await kv.put("vault", JSON.stringify({ ...vault, pepper: { plain } }));
  await kv.put(`key.${own.id}`, JSON.stringify({ ...stored, scopes, hash }));
  await eventually(async () => (await as(own.key, allowed)).status).toBe(503);
});

test("keys and tokens outlast a change of the master key, and its arrival", async () => {
  const nats = await startTestNats();
  const start = (keys?: string): Promise<TestGateway> =>
    startGateway(nats, ["--root-key", ROOT, ...(keys === undefined ? [] : ["--master-key", keys])]);
  const rotate = async (keys: string): Promise<void> => {
    const settings = readSettings(["--nats-url", nats.url, "--master-key", keys], {});
    await rotateSecrets(settings, pino({ level: "silent" }), () => undefined);
  };
  const [one, two] = ["1".repeat(64), "2".repeat(64)];
  const without = await start();
  const { key } = await makeKey(without, ROOT);
  const headers = { Authorization: `Bearer ${key}` };
  const made = await callJson("POST", `${without.url}/api/v1/tokens`, {}, headers);
  const { token } = made.body as { token: string };

  const later = await start(one);
  const early = await as(key, `${later.api}/buckets`);
  expect([early.status, early.body.error]).toEqual([503, expect.stringContaining("rotate")]);
  for (const keys of [one, `${two},${one}`]) await rotate(keys);
  const last = await start(two);
  for (const credential of [key, token]) {
    expect((await as(credential, `${last.api}/buckets`)).status).toBe(200);
  }
  const lost = await as(key, `${(await start("3".repeat(64))).api}/buckets`);
  expect([lost.status, lost.body.code]).toEqual([503, "secrets_disabled"]);
});
