/** One bucket, every client: what one writes, all others read, and what has gone is gone for all. */
import { randomBytes } from "node:crypto";
import { kvs } from "@forge/kvs";
import type { KV } from "@nats-io/kv";
import { configureAttio, kv as attio } from "jetbucket/attio";
import { installForge } from "jetbucket/forge";
import { KestraKv } from "jetbucket/kestra";
import { KeyvJetbucket } from "jetbucket/keyv";
import { createClient, JetbucketError, type Bucket } from "jetbucket/node";
import { jetbucketDriver } from "jetbucket/unstorage";
import Keyv from "keyv";
import { createStorage, type Storage } from "unstorage";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";

const BUCKET = "dialects";
/** How a client says that a key is not there. */
type Missing = "undefined" | "null" | "key_not_found" | "404";

interface DialectClient {
  missing: Missing;
  /** @param seconds its time to live */
  write: (key: string, value: unknown, seconds?: number) => Promise<unknown>;
  /** The value, or what says that there is none. */
  read: (key: string) => Promise<unknown>;
  /** What it makes of a value whose kind it does not have. */
  kinds?: Partial<Record<Kind, unknown>>;
}

const kinds = {
  object: { name: "Ada", list: [1, null, true] },
  number: 42,
  text: "some words, ünïcode",
  bytes: Buffer.from([255, 0, 1]),
};
type Kind = keyof typeof kinds;
const BASE64 = kinds.bytes.toString("base64");

let gateway: TestGateway;
let foreign: ForeignClient;
let nats: KV;
let native: Bucket;
let keyv: Keyv;
let storage: Storage;
let kestra: KestraKv;

beforeAll(async () => {
  gateway = await startGateway(undefined, ["--master-key", randomBytes(32).toString("hex")]);
  const serverUrl = gateway.url;
  await createClient({ serverUrl }).kv().createBucket({ name: BUCKET });
  native = createClient({ serverUrl }).kv().bucket(BUCKET);
  foreign = await connectForeign(gateway.server.url);
  nats = await foreign.kvm.open(`APP_${BUCKET}`);
  installForge({ serverUrl, bucket: BUCKET });
  configureAttio({ serverUrl, bucket: BUCKET });
  kestra = new KestraKv({ serverUrl, namespace: BUCKET });
  const store = new KeyvJetbucket({ serverUrl, bucket: BUCKET });
  keyv = new Keyv({ store, namespace: "", useKeyPrefix: false });
  storage = createStorage({ driver: jetbucketDriver({ serverUrl, bucket: BUCKET }) });
});
afterAll(async () => {
  await foreign.close();
  await gateway.close();
});

/** A value as an HTTP client sends it that knows nothing of jetbucket. */
function bodyOf(value: unknown): { body: BodyInit; type: string } {
  if (typeof value === "string") return { body: value, type: "text/plain" };
  if (Buffer.isBuffer(value)) {
    return { body: new Uint8Array(value), type: "application/octet-stream" };
  }
  return { body: JSON.stringify(value), type: "application/json" };
}

async function put(url: string, value: unknown, seconds?: number, type?: string): Promise<void> {
  const { body, type: own } = bodyOf(value);
  const response = await fetch(seconds === undefined ? url : `${url}?ttl=${seconds}s`, {
    method: "PUT",
    body,
    headers: { "Content-Type": type ?? own },
  });
  expect(response.status).toBe(200);
}

async function get(url: string): Promise<unknown> {
  const response = await fetch(url);
  return response.status === 200
    ? ((await response.json()) as { value: unknown }).value
    : String(response.status);
}

const ironflow = (key: string): string =>
  `${gateway.url}/compat/ironflow/api/v1/kv/buckets/${BUCKET}/keys/${key}`;

const clients: Record<string, DialectClient> = {
  HTTP: {
    missing: "404",
    write: (key, value, seconds) =>
      put(`${gateway.api}/buckets/${BUCKET}/keys/${key}`, value, seconds),
    read: (key) => get(`${gateway.api}/buckets/${BUCKET}/keys/${key}`),
    kinds: { bytes: BASE64 },
  },
  "Node SDK": {
    missing: "key_not_found",
    write: (key, value, ttl) => native.put(key, value, { ttl }),
    read: async (key) => {
      try {
        return (await native.get(key)).value;
      } catch (error) {
        if (!(error instanceof JetbucketError)) throw error;
        return error.code;
      }
    },
  },
  Forge: {
    missing: "undefined",
    write: (key, value, seconds) =>
      kvs.set(
        key,
        (Buffer.isBuffer(value) ? BASE64 : value) as object,
        seconds === undefined ? {} : { ttl: { value: seconds, unit: "SECONDS" } },
      ),
    read: (key) => kvs.get(key),
    kinds: { bytes: BASE64 },
  },
  Kestra: {
    missing: "null",
    write: (key, value, seconds) =>
      kestra.set({
        key,
        value: Buffer.isBuffer(value) ? BASE64 : value,
        ...(seconds === undefined ? {} : { ttl: `PT${seconds}S` }),
      }),
    read: (key) => kestra.get({ key }),
  },
  Attio: {
    missing: "null",
    write: (key, value, ttlInSeconds) =>
      attio.set(key, Buffer.isBuffer(value) ? BASE64 : value, { ttlInSeconds }),
    read: async (key) => {
      const found = await attio.get<unknown>(key);
      return found === null ? null : found.value;
    },
  },
  Ironflow: {
    missing: "404",
    // As its client for Go does, which gives everything as bytes.
    write: (key, value, seconds) => put(ironflow(key), value, seconds, "application/octet-stream"),
    read: async (key) => {
      const value = (await get(ironflow(key))) as string;
      return value === "404" ? value : Buffer.from(value, "base64");
    },
    kinds: {
      object: Buffer.from(JSON.stringify(kinds.object)),
      number: Buffer.from("42"),
      text: Buffer.from(kinds.text),
    },
  },
  Keyv: {
    missing: "undefined",
    write: (key, value, seconds) => keyv.set(key, value, seconds && seconds * 1000),
    read: (key) => keyv.get(key),
  },
  unstorage: {
    missing: "null",
    write: (key, value, ttl) =>
      Buffer.isBuffer(value)
        ? storage.setItemRaw(key, value, { ttl })
        : storage.setItem(key, value as object, { ttl }),
    read: (key) => storage.getItem(key),
  },
  NATS: {
    missing: "null",
    write: (key, value, seconds) => {
      const bytes =
        typeof value === "string" || Buffer.isBuffer(value) ? value : JSON.stringify(value);
      return seconds === undefined ? nats.put(key, bytes) : nats.create(key, bytes, `${seconds}s`);
    },
    read: async (key) => {
      const entry = await nats.get(key);
      return entry?.operation === "PUT" ? Buffer.from(entry.value) : null;
    },
    kinds: {
      object: Buffer.from(JSON.stringify(kinds.object)),
      number: Buffer.from("42"),
      text: Buffer.from(kinds.text),
    },
  },
};
const names = Object.keys(clients);

/** These write no bytes, but what stands for them in JSON. */
const WITHOUT_BYTES = ["Forge", "Kestra", "Attio"];
/** This one says of nothing what it is, so that everything is bytes; those that are valid text are read as text. */
const WITHOUT_TYPES = "Ironflow";

function expected(reader: string, kind: Kind, writer: string): unknown {
  const { kinds: own = {} } = clients[reader]!;
  if (kind === "bytes" && WITHOUT_BYTES.includes(writer)) {
    return own.text instanceof Buffer ? Buffer.from(BASE64) : BASE64;
  }
  if (writer === WITHOUT_TYPES && kind !== "bytes" && kind !== "text") {
    const text = JSON.stringify(kinds[kind]);
    if (own.text instanceof Buffer) return Buffer.from(text);
    // It takes every text apart.
    return reader === "unstorage" ? kinds[kind] : text;
  }
  return kind in own ? own[kind] : kinds[kind];
}

function comparable(value: unknown): unknown {
  return value instanceof Uint8Array ? { bytes: Buffer.from(value).toString("hex") } : value;
}

describe.each(names)("what %s writes", (writer) => {
  test("is read by all others", async () => {
    const table: Record<string, Record<string, unknown>> = {};
    const wanted: typeof table = {};
    for (const kind of Object.keys(kinds) as Kind[]) {
      const key = `all.${kind}.${writer.replace(" ", "")}`;
      await clients[writer]!.write(key, kinds[kind]);
      table[kind] = {};
      wanted[kind] = {};
      for (const reader of names) {
        table[kind][reader] = comparable(await clients[reader]!.read(key));
        wanted[kind][reader] = comparable(expected(reader, kind, writer));
      }
    }
    expect(table).toEqual(wanted);
  });
});

test("what is not there is missing as each has it", async () => {
  for (const name of names) {
    const { read, missing } = clients[name]!;
    expect([name, String(await read("never.was"))]).toEqual([name, missing]);
  }
});

test("what one deletes, and what another writes anew, is so for all", async () => {
  await kvs.set("turn", { by: "forge" });
  await storage.removeItem("turn");
  for (const name of names) {
    expect([name, String(await clients[name]!.read("turn"))]).toEqual([
      name,
      clients[name]!.missing,
    ]);
  }
  await attio.set("turn", { by: "attio" });
  expect(await keyv.get("turn")).toEqual({ by: "attio" });
  expect(await keyv.delete("turn")).toBe(true);
  expect(await kestra.delete({ key: "turn" })).toBe(false);
});

test("a time to live that any of them gives ends for all of them at once", async () => {
  const SECONDS = 2;
  const keyOf = (writer: string) => `ends.${writer.replace(" ", "")}`;
  const began = Date.now();
  await Promise.all(names.map((name) => clients[name]!.write(keyOf(name), "v", SECONDS)));
  const written = Date.now();
  const seen = await Promise.all(
    names.flatMap((writer) => names.map((reader) => clients[reader]!.read(keyOf(writer)))),
  );
  // Only where the machine was quick enough to know.
  if (Date.now() < began + SECONDS * 1000) {
    expect(
      new Set(seen.map((value) => (Buffer.isBuffer(value) ? value.toString() : value))),
    ).toEqual(new Set(["v"]));
  }
  await vi.waitUntil(() => Date.now() > written + SECONDS * 1000 + 5, {
    interval: 5,
    timeout: 9000,
  });
  for (const writer of names) {
    for (const reader of names) {
      // JetStream removes it a little later than jetbucket hides it.
      if (reader === "NATS") continue;
      const { read, missing } = clients[reader]!;
      const value = String(await read(keyOf(writer)));
      expect({ writer, reader, value }).toEqual({ writer, reader, value: missing });
    }
  }
  await vi.waitFor(async () => {
    for (const writer of names) expect(await clients.NATS!.read(keyOf(writer))).toBeNull();
  }, 5000);
});

test("secrets are invisible to all that is not about secrets", async () => {
  await kvs.setSecret("hidden", "from-forge");
  await createClient({ serverUrl: gateway.url }).secrets().set("hidden", "from-jetbucket");
  for (const name of names) {
    const value = String(await clients[name]!.read("hidden"));
    expect([name, value]).toEqual([name, clients[name]!.missing]);
  }
  const listed = {
    jetbucket: await native.listKeys(),
    kestra: await kestra.getKeys({}),
    unstorage: await storage.getKeys(),
    forge: (await kvs.query().limit(100).getMany()).results.map(({ key }) => key),
    buckets: (await createClient({ serverUrl: gateway.url }).kv().listBuckets()).map(
      ({ name }) => name,
    ),
  };
  expect(JSON.stringify(listed)).not.toContain("hidden");
  expect(listed.buckets).toEqual([BUCKET]);
  for await (const [key] of keyv.iterator!(undefined)) expect(key).not.toBe("hidden");
  expect(await kvs.getSecret("hidden")).toBe("from-forge");
});
