import { decodeProtectedHeader } from "jose";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { Access } from "../../src/auth/access.ts";
import { anonymous, type Principal } from "../../src/auth/principal.ts";
import { Vault, type VaultOptions } from "../../src/auth/vault.ts";
import { Sealer } from "../../src/secrets/sealer.ts";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";

let nats: TestNats;

beforeEach(async () => {
  nats = await startTestNats();
});

async function open(options?: VaultOptions): Promise<Access> {
  const connection = await StoreConnection.open({ servers: [nats.url] });
  const buckets = new Buckets(connection);
  const access = await Access.open(
    buckets,
    new Vault(buckets, new Sealer(undefined, "tests"), options),
  );
  onTestFinished(async () => {
    await access.close();
    await buckets.close();
    await connection.close();
  });
  return access;
}

async function tokenOf(access: Access): Promise<string> {
  const scopes = [{ verbs: ["read" as const] }];
  return (await access.createToken({ scopes }, anonymous)).token;
}

async function come(access: Access, token: string): Promise<Principal> {
  const authorization = `Bearer ${token}`;
  return access.authenticate({
    authorization,
    protocols: undefined,
    ticket: undefined,
    address: undefined,
  });
}

test("gateways that make the first tokens at once agree on the key that signs them", async () => {
  const gateways = await Promise.all([open(), open(), open()]);
  const tokens = await Promise.all([...gateways, ...gateways].map(tokenOf));
  expect(new Set(tokens.map((token) => decodeProtectedHeader(token).kid)).size).toBe(1);
});

test("a key that has served its time is followed by another, and its tokens stay good everywhere", async () => {
  const gateways = [await open({ signingPeriod: 1 }), await open({ signingPeriod: 1 })];
  const tokens: string[] = [];
  for (let i = 0; i < 6; i++) tokens.push(await tokenOf(gateways[i % 2]!));
  expect(new Set(tokens.map((token) => decodeProtectedHeader(token).kid)).size).toBe(6);
  for (const gateway of gateways) {
    for (const token of tokens) expect(await come(gateway, token)).toMatchObject({ kind: "token" });
  }
});
