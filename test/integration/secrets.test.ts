import { createSecretKey, randomBytes, type KeyObject } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Writable } from "node:stream";
import { headers } from "nats";
import pino from "pino";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { KvError } from "../../src/protocol/errors.ts";
import type { DataKeyLimits } from "../../src/secrets/data-keys.ts";
import { MasterKeys } from "../../src/secrets/master-keys.ts";
import { Secrets } from "../../src/secrets/secrets.ts";
import { createServer } from "../../src/server.ts";
import { readSettings } from "../../src/settings.ts";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { connectForeign } from "../support/jetstream.ts";
import { startTestNats, type TestNats } from "../support/nats.ts";

const oldKey = createSecretKey(Buffer.alloc(32, 1));
const newKey = createSecretKey(Buffer.alloc(32, 2));
const hexKey = Buffer.alloc(32, 1).toString("hex");

let nats: TestNats;
let gateway: TestGateway;
let count = 0;

beforeAll(async () => {
  nats = await startTestNats();
  gateway = await startGateway(nats, ["--master-key", hexKey]);
  return () => gateway.close();
});

const newEnvironment = (): string => `env${count++}`;

/** The secrets of a gateway of its own. */
async function openSecrets(
  keys: readonly [KeyObject, ...KeyObject[]] = [oldKey],
  limits?: DataKeyLimits,
): Promise<Secrets & { disconnect(): Promise<void> }> {
  const connection = await StoreConnection.open({ servers: [nats.url] });
  onTestFinished(() => connection.close());
  const secrets = new Secrets(new Buckets(connection), new MasterKeys(keys), limits);
  return Object.assign(secrets, { disconnect: () => connection.close() });
}

/** The bucket of an environment, as another NATS client sees it. */
async function rawBucket(environment: string) {
  const { kvm, jsm } = await connectForeign(nats.url);
  const kv = await kvm.open(`SYS_secrets_${environment}`);
  return {
    kv,
    jsm,
    bytes: async (key: string) => (await kv.get(key))!.value,
    keyring: async () => JSON.parse((await kv.get("keyring"))!.string()) as Record<string, any>, // eslint-disable-line @typescript-eslint/no-explicit-any -- its form is what is looked at
  };
}

const namesOf = (infos: readonly { name: string }[]): string[] => infos.map(({ name }) => name);

const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "ok",
    (error: unknown) => (error as KvError).code,
  );

function routes(environment: string, url = gateway.url) {
  return (method: string, path = "", body?: unknown, headers: Record<string, string> = {}) => {
    const all = { "X-Ironflow-Environment": environment, ...headers };
    const target = `${url}/api/v1/secrets${path}`;
    return body === undefined
      ? call(method, target, undefined, all)
      : callJson(method, target, body, all);
  };
}

describe("the routes", () => {
  test("manage secrets without ever answering with a value", async () => {
    const secrets = routes(newEnvironment());
    const answers = [
      await secrets("POST", "", { name: "db", value: "hunter2-value", description: "the db" }),
      await secrets("POST", "", { name: "db", value: "hunter2-value" }),
      await secrets("GET"),
      await secrets("GET", "/db"),
      await secrets("PUT", "/db", { value: "hunter2-value" }),
      await secrets("PATCH", "/db", { description: "the database" }),
      await secrets("PATCH", "/db", { name: "db2" }),
      await secrets("GET", "/db2"),
      await secrets("DELETE", "/db2"),
      await secrets("DELETE", "/db2"),
      await secrets("GET", "/db2"),
      await secrets("GET"),
    ];
    expect(answers.map(({ status }) => status)).toEqual([
      201, 409, 200, 200, 200, 200, 200, 200, 204, 204, 404, 200,
    ]);
    for (const { body } of answers) expect(JSON.stringify(body)).not.toContain("hunter2");
    const iso = expect.stringMatching(/^\d{4}-.*Z$/);
    expect(answers[0]!.body).toEqual({
      name: "db",
      revision: expect.any(Number),
      description: "the db",
      created_at: iso,
      updated_at: iso,
    });
    expect(answers[1]!.body.code).toBe("secret_exists");
    expect(answers[2]!.body).toEqual([answers[0]!.body]);
    expect(answers[3]!.body).toEqual(answers[0]!.body);
    expect(answers[4]!.body).toMatchObject({
      description: "the db",
      created_at: answers[0]!.body.created_at,
    });
    expect(answers[7]!.body).toEqual(answers[6]!.body);
    expect(answers[7]!.body).toMatchObject({
      name: "db2",
      description: "the database",
      created_at: answers[0]!.body.created_at,
      updated_at: answers[4]!.body.updated_at,
    });
    expect(answers[10]!.body.code).toBe("secret_not_found");
    expect(answers[11]!.body).toEqual([]);
  });

  test("reveal a value to whoever asks for it by its own route, and to no cache", async () => {
    const secrets = routes(newEnvironment());
    await secrets("POST", "", { name: "a/b ü", value: "välue\n\0" });
    const { status, body, headers } = await secrets("GET", `/${encodeURIComponent("a/b ü")}/value`);
    expect([status, body]).toEqual([
      200,
      { name: "a/b ü", value: "välue\n\0", revision: expect.any(Number) },
    ]);
    expect(headers.get("cache-control")).toBe("no-store");
    expect((await secrets("GET", "/missing/value")).body.code).toBe("secret_not_found");
  });

  test("do not reveal anything to a page of another origin", async () => {
    const secrets = routes(newEnvironment());
    await secrets("POST", "", { name: "db", value: "hunter2" });
    // Pages of this machine may use the gateway for everything else.
    const origin = { Origin: "http://localhost:3000" };
    expect((await secrets("GET", "/db", undefined, origin)).status).toBe(200);
    const { status, body } = await secrets("GET", "/db/value", undefined, origin);
    expect([status, body.code]).toEqual([403, "forbidden"]);
  });

  test.each([
    ["without a value", { name: "db" }],
    ["with a value that is no text", { name: "db", value: 7 }],
    ["with a value of half a character", { name: "db", value: "\ud800" }],
    ["with a value of more than 64 KiB", { name: "db", value: "é".repeat(32 * 1024 + 1) }],
    ["without a name", { value: "x" }],
    ["with an empty name", { name: "", value: "x" }],
    ["with a name that no path can hold", { name: "..", value: "x" }],
    ["with a field that is not known", { name: "db", value: "x", plain: true }],
  ])("refuse a secret %s", async (_, body) => {
    expect(await routes(newEnvironment())("POST", "", body)).toMatchObject({
      status: 400,
      body: { code: "invalid_request" },
    });
  });

  test("take values up to 64 KiB, however they are escaped, and empty ones", async () => {
    const secrets = routes(newEnvironment());
    for (const value of ["", "\u0001".repeat(64 * 1024), "é".repeat(32 * 1024)]) {
      expect((await secrets("PUT", "/db", { value })).status).toBe(200);
      expect((await secrets("GET", "/db/value")).body.value).toBe(value);
    }
  });

  test("answer 503 secrets_disabled without a master key, whatever is asked", async () => {
    const { url } = await startGateway(nats);
    const secrets = routes("default", url);
    for (const [method, path, body] of [
      ["GET", "", undefined],
      ["POST", "", { name: "a", value: "b" }],
      ["GET", "/a", undefined],
      ["PUT", "/a", { value: "b" }],
      ["PATCH", "/a", { name: "b" }],
      ["DELETE", "/a", undefined],
      ["GET", "/a/value", undefined],
    ] as const) {
      const answer = await secrets(method, path, body);
      expect(answer).toMatchObject({
        status: 503,
        body: { code: "secrets_disabled", retryable: false },
      });
    }
  });

  test("leave environments apart, which take current for the default", async () => {
    const [one, two] = [routes(newEnvironment()), routes(newEnvironment())];
    await one("POST", "", { name: "db", value: "one" });
    expect((await two("GET", "/db/value")).status).toBe(404);
    await two("POST", "", { name: "db", value: "two" });
    expect((await one("GET", "/db/value")).body.value).toBe("one");
    await routes("current")("PUT", "/db", { value: "default" });
    expect((await routes("default")("GET", "/db/value")).body.value).toBe("default");
  });

  test("and the key-value routes do not know each other's buckets", async () => {
    const environment = newEnvironment();
    await routes(environment)("POST", "", { name: "db", value: "hunter2" });
    expect(JSON.stringify((await call("GET", `${gateway.api}/buckets`)).body)).not.toContain("SYS");
    for (const path of ["", "/keys", "/keys/secret.db", "/keys/keyring", "/history/secret.db"]) {
      const url = `${gateway.api}/buckets/SYS_secrets_${environment}${path}`;
      expect((await call("GET", url)).body.code).toBe("invalid_bucket_name");
    }
    const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
    expect(metrics).not.toContain(environment);
  });

  test("hold the names of secrets apart from what else is in the bucket", async () => {
    const secrets = routes(newEnvironment());
    for (const name of ["keyring", "secret.keyring", "a.b", ">"]) {
      await secrets("POST", "", { name, value: `value of ${name}` });
    }
    for (const name of ["keyring", "secret.keyring", "a.b", ">"]) {
      const { body } = await secrets("GET", `/${encodeURIComponent(name)}/value`);
      expect(body.value).toBe(`value of ${name}`);
    }
    expect(namesOf((await secrets("GET")).body)).toEqual([">", "a.b", "keyring", "secret.keyring"]);
  });
});

describe("no plaintext", () => {
  const value = "correct-horse-battery-staple";
  const forms = [
    value,
    Buffer.from(value).toString("base64"),
    Buffer.from(value).toString("hex"),
    JSON.stringify(value),
  ];

  test("lies in the data folder of NATS, nor the master key", async () => {
    const secrets = routes(newEnvironment());
    await secrets("POST", "", { name: "db", value, description: "findable description" });
    await secrets("PUT", "/db", { value });
    await secrets("PATCH", "/db", { name: "db2" });
    await nats.restart();
    await expect.poll(async () => (await secrets("GET")).status, { timeout: 20_000 }).toBe(200);
    const files = await readdir(nats.dataDir, { recursive: true, withFileTypes: true });
    const contents = await Promise.all(
      files
        .filter((file) => file.isFile())
        .map((file) => readFile(join(file.parentPath, file.name), "latin1")),
    );
    const all = contents.join("\n");
    // What is there shows that the search finds something.
    expect(all).toContain("secret.db");
    expect(all).toContain("findable%20description");
    for (const form of [...forms, hexKey]) expect(all).not.toContain(form);
    expect((await secrets("GET", "/db2/value")).body.value).toBe(value);
  });

  test("stands in the log or in an error, whatever goes wrong", async () => {
    let log = "";
    const sink = new Writable({
      write(chunk: Buffer, _, done) {
        log += chunk.toString();
        done();
      },
    });
    const environment = newEnvironment();
    const settings = readSettings(["--port", "0", "--nats-url", nats.url, "--log-level", "trace"], {
      JETBUCKET_MASTER_KEY: hexKey,
    });
    const own = await createServer(settings, pino({ level: "trace" }, sink));
    onTestFinished(() => own.close());
    const secrets = routes(environment, own.url);
    const json = { "Content-Type": "application/json" };
    const post = (body: string): Promise<unknown> =>
      call("POST", `${own.url}/api/v1/secrets`, body, {
        ...json,
        "X-Ironflow-Environment": environment,
      });
    const answers = [
      await secrets("POST", "", { name: "db", value }),
      await secrets("POST", "", { name: "db", value }),
      await secrets("PUT", "/db", { value, wrong: value }),
      await secrets("PUT", "/db", { value: [value] }),
      await secrets("PUT", "/db", { value: `${value}\ud800` }),
      await secrets("PUT", "/db", { value: value.repeat(4000) }),
      await post(`{"name":"db","value":"${value}`),
      await post(value),
      await secrets("PATCH", "/db", { value }),
    ];
    const { kv } = await rawBucket(environment);
    await kv.put("secret.db", value);
    answers.push(await secrets("GET", "/db/value"), await secrets("PATCH", "/db", { name: "b" }));
    await kv.put("keyring", value);
    answers.push(await secrets("PUT", "/db", { value }), await secrets("GET", "/db/value"));
    nats.pause();
    const stuck = secrets("PUT", "/db", { value });
    nats.resume();
    answers.push(await stuck);
    for (const answer of answers) {
      for (const form of forms) expect(JSON.stringify(answer)).not.toContain(form);
    }
    expect(log).toContain("/api/v1/secrets/db");
    for (const form of [...forms, hexKey]) expect(log).not.toContain(form);
  });
});

describe("what is stored", () => {
  test("does not open at another name or in another environment", async () => {
    const secrets = await openSecrets();
    const [one, two] = [newEnvironment(), newEnvironment()];
    await secrets.create(one, "db", "of db");
    await secrets.create(one, "other", "of other");
    await secrets.create(two, "db", "of two");
    const [bucketOne, bucketTwo] = [await rawBucket(one), await rawBucket(two)];
    const stolen = await bucketOne.bytes("secret.db");
    await bucketOne.kv.put("secret.other", stolen);
    await bucketTwo.kv.put("secret.db", stolen);
    await bucketTwo.kv.put("keyring", await bucketOne.bytes("keyring"));
    const moved = secrets.reveal(one, "other");
    await expect(moved).rejects.toMatchObject({
      code: "secret_unreadable",
      status: 500,
      details: { name: "other", reason: "tampered" },
    });
    const fresh = await openSecrets();
    expect(await codeOf(fresh.reveal(two, "db"))).toBe("secret_unreadable");
    expect((await secrets.reveal(one, "db")).value).toBe("of db");
  });

  test("is unreadable for itself alone when it was damaged, and can be set again", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    for (const name of ["a", "b", "c"]) await secrets.create(environment, name, `of ${name}`);
    const { kv } = await rawBucket(environment);
    await kv.put("secret.b", "JBS\u0002 some later format, of sufficient length for it");
    expect(await codeOf(secrets.reveal(environment, "b"))).toBe("secret_unreadable");
    expect(namesOf(await secrets.list(environment))).toEqual(["a", "b", "c"]);
    expect((await secrets.reveal(environment, "c")).value).toBe("of c");
    await secrets.set(environment, "b", "of b again");
    expect((await secrets.reveal(environment, "b")).value).toBe("of b again");
  });

  test("comes back by itself when somebody deletes the bucket", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    await secrets.create(environment, "db", "before");
    const { jsm } = await rawBucket(environment);
    await jsm.streams.delete(`KV_SYS_secrets_${environment}`);
    expect(await codeOf(secrets.reveal(environment, "db"))).toBe("secret_not_found");
    expect(await secrets.list(environment)).toEqual([]);
    await secrets.create(environment, "db", "after");
    expect((await secrets.reveal(environment, "db")).value).toBe("after");
  });
});

describe("what is stored with a value", () => {
  test("goes along when it is stored again, and ends with it", async () => {
    const both = await openSecrets([oldKey]);
    const environment = newEnvironment();
    const options = { ttl: 60, label: "json", description: "d" };
    const { expires_at: end } = await both.set(environment, "a", "[1]", options);
    expect(Date.parse(end!) - Date.now()).toBeGreaterThan(55_000);
    await both.change(environment, "a", { description: "e" });
    await both.change(environment, "a", { name: "b" });
    const turned = await openSecrets([newKey, oldKey]);
    await turned.rotate(environment);
    const { info, value, label } = await turned.open(environment, "b");
    expect([value, label, info.description, info.name]).toEqual(["[1]", "json", "e", "b"]);
    // The store's own time of the first write is not that of its acknowledgement.
    expect(Math.abs(Date.parse(info.expires_at!) - Date.parse(end!))).toBeLessThan(1000);
    expect(await turned.exchange(environment, "b", "2")).toMatchObject({ value: "[1]", info });
    expect(await turned.open(environment, "b")).toEqual({
      value: "2",
      info: {
        ...info,
        revision: expect.any(Number),
        updated_at: expect.any(String),
        expires_at: undefined,
      },
    });
    expect(await turned.exchange(environment, "c", "1")).toBeUndefined();
  });

  test("does not open under a label that somebody has written beside it", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    await secrets.set(environment, "a", "123");
    const { bytes } = await rawBucket(environment);
    const { nats: client } = await connectForeign(nats.url);
    const label = headers();
    label.set("Jb-Label", "json");
    const subject = `$KV.SYS_secrets_${environment}.secret.a`;
    await client.request(subject, await bytes("secret.a"), { headers: label, timeout: 5000 });
    expect(await codeOf(secrets.open(environment, "a"))).toBe("secret_unreadable");
  });
});

describe("names and descriptions", () => {
  test("change without a moment at which the secret is missing or there twice", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    await secrets.create(environment, "a", "value", { description: "d" });
    const renaming = new AbortController();
    const seen: string[] = [];
    const watcher = (async () => {
      while (!renaming.signal.aborted) {
        const names = namesOf(await secrets.list(environment));
        seen.push(names.join());
      }
    })();
    for (let i = 0; i < 10; i++) {
      await secrets.change(environment, i % 2 === 0 ? "a" : "b", { name: i % 2 === 0 ? "b" : "a" });
    }
    renaming.abort();
    await watcher;
    expect(new Set([...seen, "a", "b"])).toEqual(new Set(["a", "b"]));
    expect(await secrets.reveal(environment, "a")).toMatchObject({ value: "value" });
    expect(await secrets.info(environment, "a")).toMatchObject({ description: "d" });
  });

  test("are refused when the name is taken or the secret is not there", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    expect(await codeOf(secrets.change(environment, "a", { name: "b" }))).toBe("secret_not_found");
    await secrets.create(environment, "a", "of a");
    await secrets.create(environment, "b", "of b");
    expect(await codeOf(secrets.change(environment, "a", { name: "b" }))).toBe("secret_exists");
    expect(await codeOf(secrets.change(environment, "c", { name: "d" }))).toBe("secret_not_found");
    expect(await codeOf(secrets.change(environment, "c", { description: "" }))).toBe(
      "secret_not_found",
    );
    await secrets.delete(environment, "b");
    await secrets.change(environment, "a", { name: "b" });
    expect((await secrets.reveal(environment, "b")).value).toBe("of a");
  });

  test("of one secret change to several at once for one of them only", async () => {
    const all = [await openSecrets(), await openSecrets()];
    const environment = newEnvironment();
    await all[0]!.create(environment, "a", "value");
    const names = Array.from({ length: 8 }, (_, i) => `to${i}`);
    const codes = await Promise.all(
      names.map((name, i) => codeOf(all[i % 2]!.change(environment, "a", { name }))),
    );
    expect(codes.filter((code) => code === "ok")).toHaveLength(1);
    const winner = names[codes.indexOf("ok")];
    expect(namesOf(await all[0]!.list(environment))).toEqual([winner]);
  });

  test("of several secrets change to the same one for one of them only, and none is lost", async () => {
    const all = [await openSecrets(), await openSecrets()];
    for (let round = 0; round < 8; round++) {
      const environment = newEnvironment();
      const names = Array.from({ length: 6 }, (_, i) => `from${i}`);
      for (const name of names) await all[0]!.create(environment, name, `of ${name}`);
      const works = names.map((name, i) => all[i % 2]!.change(environment, name, { name: "to" }));
      const codes = await Promise.all([
        ...works.map(codeOf),
        codeOf(all[0]!.create(environment, "to", "of create")),
      ]);
      expect(codes.filter((code) => code === "ok")).toHaveLength(1);
      expect(new Set(codes)).toEqual(new Set(["ok", "secret_exists"]));
      const winner = names[codes.indexOf("ok")] ?? "create";
      expect((await all[1]!.reveal(environment, "to")).value).toBe(`of ${winner}`);
      const others = names.filter((name) => name !== winner);
      expect(namesOf(await all[1]!.list(environment))).toEqual([...others, "to"]);
    }
  });

  test("can be taken away by an empty description", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    await secrets.create(environment, "a", "value", { description: "d" });
    const info = await secrets.change(environment, "a", { description: "" });
    expect(info).not.toHaveProperty("description");
  });
});

describe("data keys", () => {
  test("are shared by gateways that make the first one at the same time", async () => {
    const all = await Promise.all(Array.from({ length: 5 }, () => openSecrets()));
    const environment = newEnvironment();
    await Promise.all(all.map((each, i) => each.create(environment, `s${i}`, `of ${i}`)));
    const { keyring } = await rawBucket(environment);
    expect((await keyring()).keys).toHaveLength(1);
    for (const each of all) {
      for (const i of all.keys()) {
        expect((await each.reveal(environment, `s${i}`)).value).toBe(`of ${i}`);
      }
    }
  });

  test("are counted by all gateways together, and replaced before their limit", async () => {
    const limits = { encryptions: 40, block: 10 };
    const all = await Promise.all(Array.from({ length: 3 }, () => openSecrets([oldKey], limits)));
    const environment = newEnvironment();
    const used = new Map<string, number>();
    const { create } = {
      create: (i: number) => all[i % 3]!.create(environment, `s${i}`, `of ${i}`),
    };
    for (let i = 0; i < 120; i += 6)
      await Promise.all([0, 1, 2, 3, 4, 5].map((j) => create(i + j)));
    const { keyring, kv } = await rawBucket(environment);
    for (let i = 0; i < 120; i++) {
      const keyId = Buffer.from((await kv.get(`secret.s${i}`))!.value).toString("hex", 4, 12);
      used.set(keyId, (used.get(keyId) ?? 0) + 1);
    }
    const { keys } = await keyring();
    expect(keys.length).toBeGreaterThanOrEqual(3);
    for (const { id, reserved } of keys as { id: string; reserved: number }[]) {
      expect(reserved).toBeLessThanOrEqual(40);
      expect(used.get(id) ?? 0).toBeLessThanOrEqual(reserved);
    }
    for (let i = 0; i < 120; i += 7) {
      expect((await all[(i + 1) % 3]!.reveal(environment, `s${i}`)).value).toBe(`of ${i}`);
    }
  });
});

describe("a gateway with a wrong or missing master key", () => {
  test("says for each secret which key it lacks, and reads the others", async () => {
    const environment = newEnvironment();
    const right = await openSecrets([oldKey]);
    await right.create(environment, "old", "of the old key");
    await (await openSecrets([newKey, oldKey])).rotate(environment);
    const { keyring } = await rawBucket(environment);
    const ids = new MasterKeys([newKey]).primary.id;
    // A secret under a data key that only the other master key unwraps.
    const mixed = newEnvironment();
    await right.create(mixed, "old", "of the old key");
    const turned = await openSecrets([newKey]);
    await turned.rotate(mixed);
    await turned.create(mixed, "new", "of the new key");
    expect((await turned.reveal(mixed, "new")).value).toBe("of the new key");
    await expect(turned.reveal(mixed, "old")).rejects.toMatchObject({
      code: "secret_unreadable",
      message: expect.stringContaining('secret "old" cannot be read'),
      details: {
        name: "old",
        reason: "no_master_key",
        master_key: new MasterKeys([oldKey]).primary.id,
      },
    });
    expect((await right.reveal(mixed, "old")).value).toBe("of the old key");
    expect(await codeOf(right.reveal(mixed, "new"))).toBe("secret_unreadable");
    expect(namesOf(await turned.list(mixed))).toEqual(["new", "old"]);
    expect((await keyring()).keys).toMatchObject([{ master: ids }, { master: ids }]);
  });

  test("does not write what the others could not read", async () => {
    const environment = newEnvironment();
    await (await openSecrets([oldKey])).create(environment, "a", "value");
    const wrong = await openSecrets([newKey]);
    for (const work of [
      wrong.create(environment, "b", "x"),
      wrong.set(environment, "a", "x"),
      wrong.change(environment, "a", { name: "c" }),
    ]) {
      expect(["secrets_disabled", "secret_unreadable"]).toContain(await codeOf(work));
    }
    // What needs no key still works.
    expect(await wrong.change(environment, "a", { description: "d" })).toMatchObject({
      description: "d",
    });
    const right = await openSecrets([oldKey]);
    expect((await right.reveal(environment, "a")).value).toBe("value");
    await wrong.delete(environment, "a");
    expect(await right.list(environment)).toEqual([]);
  });
});

describe("a rotation of the master key", () => {
  test("makes every secret readable with the new key alone, under new data keys", async () => {
    const environment = newEnvironment();
    const before = await openSecrets([oldKey]);
    for (let i = 0; i < 20; i++)
      await before.create(environment, `s${i}`, `of ${i}`, { description: `d${i}` });
    const infos = await before.list(environment);
    const { bytes } = await rawBucket(environment);
    const ciphertext = await bytes("secret.s3");
    const both = await openSecrets([newKey, oldKey]);
    expect(await both.rotate(environment)).toEqual({ total: 20, renewed: 20, failed: [] });
    const after = await openSecrets([newKey]);
    for (let i = 0; i < 20; i++) {
      expect((await after.reveal(environment, `s${i}`)).value).toBe(`of ${i}`);
    }
    // Nobody has set a value: what is known of the secrets is as it was.
    const withoutRevision = (list: typeof infos): object[] =>
      list.map(({ name, description, created_at, updated_at }) => ({
        name,
        description,
        created_at,
        updated_at,
      }));
    expect(withoutRevision(await after.list(environment))).toEqual(withoutRevision(infos));
    expect(Buffer.from(await bytes("secret.s3")).subarray(4, 12)).not.toEqual(
      Buffer.from(ciphertext).subarray(4, 12),
    );
  });

  test("does nothing when it is run again, or there is nothing to do", async () => {
    const environment = newEnvironment();
    const secrets = await openSecrets([oldKey]);
    expect(await secrets.rotate(environment)).toEqual({ total: 0, renewed: 0, failed: [] });
    await secrets.create(environment, "a", "value");
    const { revision } = await secrets.info(environment, "a");
    expect(await secrets.rotate(environment)).toEqual({ total: 1, renewed: 0, failed: [] });
    const both = await openSecrets([newKey, oldKey]);
    expect((await both.rotate(environment)).renewed).toBe(1);
    const { keyring } = await rawBucket(environment);
    const ring = await keyring();
    expect(await both.rotate(environment)).toEqual({ total: 1, renewed: 0, failed: [] });
    expect(await keyring()).toEqual(ring);
    expect((await both.info(environment, "a")).revision).toBeGreaterThan(revision);
  });

  test("goes on where it was cut off, and leaves all readable meanwhile", async () => {
    const environment = newEnvironment();
    const before = await openSecrets([oldKey]);
    for (let i = 0; i < 30; i++) await before.create(environment, `s${i}`, `of ${i}`);
    const cut = await openSecrets([newKey, oldKey]);
    // Its connection goes in the middle of a step, as if the process was killed.
    const running = cut.rotate(environment, (done) => {
      if (done === 11) void cut.disconnect();
    });
    await expect(running).rejects.toThrow();
    const after = await openSecrets([newKey]);
    const readAll = async (secrets: Secrets): Promise<void> => {
      for (let i = 0; i < 30; i++) {
        expect((await secrets.reveal(environment, `s${i}`)).value).toBe(`of ${i}`);
      }
    };
    // The old key is not needed any more, even now.
    await readAll(after);
    const { renewed, total, failed } = await after.rotate(environment);
    expect([total, failed]).toEqual([30, []]);
    expect(renewed).toBeGreaterThanOrEqual(18);
    expect(renewed).toBeLessThanOrEqual(19);
    await readAll(after);
    expect((await after.rotate(environment)).renewed).toBe(0);
  });

  test("loses no write that is made meanwhile, on gateways with either order of keys", async () => {
    const environment = newEnvironment();
    const [oldFirst, newFirst] = [
      await openSecrets([oldKey, newKey]),
      await openSecrets([newKey, oldKey]),
    ];
    const names = Array.from({ length: 12 }, (_, i) => `s${i}`);
    const last = new Map(names.map((name) => [name, "first"]));
    for (const name of names) await oldFirst.create(environment, name, "first");
    const rotating = new AbortController();
    const writing = names.map(async (name, i) => {
      for (let n = 0; !rotating.signal.aborted; n++) {
        const value = `${name} ${n}`;
        await ((i + n) % 2 === 0 ? oldFirst : newFirst).set(environment, name, value);
        // Nobody else sets this name.
        expect((await oldFirst.reveal(environment, name)).value).toBe(value);
        last.set(name, value);
      }
    });
    const rotations = async (): Promise<void> => {
      for (let round = 0; round < 12; round++) {
        // To and fro, two at once each time.
        const keys: [KeyObject, KeyObject] = round % 2 === 0 ? [newKey, oldKey] : [oldKey, newKey];
        const some = [await openSecrets(keys), await openSecrets(keys)];
        const done = await Promise.all(some.map((each) => each.rotate(environment)));
        for (const { failed } of done) expect(failed).toEqual([]);
      }
    };
    await Promise.all([rotations().finally(() => rotating.abort()), ...writing]);
    await newFirst.rotate(environment);
    const after = await openSecrets([newKey]);
    for (const name of names) {
      expect((await after.reveal(environment, name)).value).toBe(last.get(name));
    }
    expect((await after.rotate(environment)).renewed).toBe(0);
  });

  test("does not bring back a secret that is deleted meanwhile", async () => {
    const environment = newEnvironment();
    const before = await openSecrets([oldKey]);
    for (let i = 0; i < 6; i++) await before.create(environment, `s${i}`, `of ${i}`);
    const both = await openSecrets([newKey, oldKey]);
    const deleting: Promise<void>[] = [];
    await both.rotate(environment, (done) => {
      if (done === 1) for (const i of [2, 3, 4]) deleting.push(before.delete(environment, `s${i}`));
    });
    await Promise.all(deleting);
    expect(namesOf(await both.list(environment))).toEqual(["s0", "s1", "s5"]);
  });

  test("names the secrets that it cannot read, and brings over the others", async () => {
    const environment = newEnvironment();
    const before = await openSecrets([oldKey]);
    for (const name of ["a", "b", "c"]) await before.create(environment, name, `of ${name}`);
    const { kv } = await rawBucket(environment);
    const bytes = randomBytes(64);
    await kv.put("secret.b", bytes);
    const both = await openSecrets([newKey, oldKey]);
    expect(await both.rotate(environment)).toMatchObject({
      total: 3,
      renewed: 2,
      failed: [{ name: "b", why: expect.stringContaining("format") }],
    });
    expect(Buffer.from((await kv.get("secret.b"))!.value)).toEqual(bytes);
  });

  test("finds the environments that there are", async () => {
    const secrets = await openSecrets();
    const environment = newEnvironment();
    await secrets.create(environment, "a", "value");
    expect(await secrets.environments()).toContain(environment);
  });
});
