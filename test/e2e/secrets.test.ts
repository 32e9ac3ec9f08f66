import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createClient } from "jetbucket/node";
import { eventually } from "../support/eventually.ts";
import { startGateway } from "../support/gateway.ts";
import { startTestNats } from "../support/nats.ts";

const [oldKey, newKey] = ["1".repeat(64), "2".repeat(64)];
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-secrets-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
});

interface Run {
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | null>;
}

/** A command of the built package. It is ended with the test. */
function run(args: readonly string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], {
    env: { ...process.env, PORT: "0", JETBUCKET_NATS_PORT: "0", JETBUCKET_SYNC: "2m", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  }
  const ended = once(child, "close").then(([code]) => code as number | null);
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  return { child, output: () => output, ended };
}

/** A gateway that has started; resolves with its address. */
async function serve(env: Record<string, string>): Promise<Run & { url: string; nats: string }> {
  const gateway = run([], env);
  await eventually(gateway.output, 30_000).toMatch(/"msg":"ready"/);
  const line = gateway
    .output()
    .split("\n")
    .find((each) => each.includes('"msg":"ready"'))!;
  const { url, nats } = JSON.parse(line) as { url: string; nats: { url: string } };
  return { ...gateway, url, nats: nats.url };
}

/** All that lies in a folder, as one text. */
async function contentsOf(path: string): Promise<string> {
  const files = await readdir(path, { recursive: true, withFileTypes: true });
  const contents = files
    .filter((file) => file.isFile())
    .map((file) => readFile(join(file.parentPath, file.name), "latin1"));
  return (await Promise.all(contents)).join("\n");
}

describe("a gateway with a NATS server of its own", () => {
  test("makes a master key for its owner only, names it once, and finds it again", async () => {
    const env = { JETBUCKET_DATA_DIR: folder };
    const file = join(folder, "master.key");
    const first = await serve(env);
    expect(first.output().split(file)).toHaveLength(2);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const key = /^[0-9a-f]{64}$/m.exec(await readFile(file, "utf8"))![0];
    await createClient({ serverUrl: first.url }).secrets().set("db", "correct-horse-battery");
    first.child.kill("SIGTERM");
    expect(await first.ended).toBe(0);

    const second = await serve(env);
    expect(second.output()).not.toContain(file);
    const secrets = createClient({ serverUrl: second.url }).secrets();
    expect(await secrets.reveal("db")).toBe("correct-horse-battery");
    second.child.kill("SIGTERM");
    await second.ended;

    const stored = await contentsOf(join(folder, "nats"));
    expect(stored).toContain("secret.db");
    for (const hidden of ["correct-horse-battery", key]) {
      expect(stored).not.toContain(hidden);
      expect(first.output() + second.output()).not.toContain(hidden);
    }
  });

  test("says which key is missing when its file was lost, and goes on after a rotation", async () => {
    const env = { JETBUCKET_DATA_DIR: folder };
    const first = await serve(env);
    await createClient({ serverUrl: first.url }).secrets().set("db", "lost");
    first.child.kill("SIGTERM");
    await first.ended;
    await rm(join(folder, "master.key"));

    const second = await serve(env);
    const secrets = createClient({ serverUrl: second.url }).secrets();
    await expect(secrets.reveal("db")).rejects.toMatchObject({
      code: "secret_unreadable",
      details: { reason: "no_master_key" },
    });
    await expect(secrets.set("other", "x")).rejects.toMatchObject({ code: "secrets_disabled" });
    const file = join(folder, "master.key");
    const rotation = run([
      "secrets",
      "rotate",
      "--nats-url",
      second.nats,
      "--master-key-file",
      file,
    ]);
    expect(await rotation.ended).toBe(1);
    expect(rotation.output()).toMatch(/default: 0 of 1 secrets .* 1 not readable[^]*secret "db"/);
    await secrets.set("other", "x");
    expect(await secrets.reveal("other")).toBe("x");
  });
});

describe("jetbucket secrets rotate", () => {
  test("goes on after it was killed, while a gateway serves", async () => {
    const nats = await startTestNats();
    const gateway = await startGateway(nats, ["--master-key", `${oldKey},${newKey}`]);
    const secrets = createClient({ serverUrl: gateway.url }).secrets();
    const names = Array.from({ length: 600 }, (_, i) => `s${i}`);
    for (let i = 0; i < names.length; i += 20) {
      await Promise.all(names.slice(i, i + 20).map((name) => secrets.set(name, `of ${name}`)));
    }
    const before = new Map((await secrets.list()).map(({ name, revision }) => [name, revision]));
    const renewed = async (): Promise<number> =>
      (await secrets.list()).filter(({ name, revision }) => revision !== before.get(name)).length;
    const args = ["secrets", "rotate", "--nats-url", nats.url];
    const env = { JETBUCKET_MASTER_KEY: `${newKey},${oldKey}` };
    const killed = run(args, env);
    await eventually(renewed, 30_000).toBeGreaterThan(0);
    killed.child.kill("SIGKILL");
    await killed.ended;
    const done = await renewed();
    expect(done).toBeLessThan(names.length);
    const { get } = await secrets.resolve(names).then((resolved) => ({
      get: (name: string) => resolved.get(name),
    }));
    for (const name of names) expect(get(name)).toBe(`of ${name}`);

    const second = run(args, env);
    expect(await second.ended).toBe(0);
    expect(second.output()).toContain(`default: ${names.length - done} of ${names.length}`);
    const onlyNew = await startGateway(nats, ["--master-key", newKey]);
    const after = createClient({ serverUrl: onlyNew.url }).secrets();
    const values = await after.resolve(names);
    for (const name of names) expect(values.get(name)).toBe(`of ${name}`);
    const third = run(args, env);
    expect(await third.ended).toBe(0);
    expect(third.output()).toContain(`default: 0 of ${names.length}`);
    for (const { output } of [killed, second, third]) expect(output()).not.toMatch(/1{64}|2{64}/);
  });

  test.each([
    [["secrets"], {}, 2, "rotate"],
    [["secrets", "rotate", "--colour"], {}, 2, "--colour"],
    [["secrets", "rotate"], { JETBUCKET_MASTER_KEY: "abc" }, 2, "64 hex digits"],
    [["secrets", "rotate"], { NATS_URL: "nats://127.0.0.1:1" }, 1, "cannot connect"],
  ])("refuses %j with %j by name", async (args, env, code, message) => {
    const { ended, output } = run(args, { JETBUCKET_DATA_DIR: folder, ...env });
    expect(await ended).toBe(code);
    expect(output()).toContain(message);
  });

  test("wants a master key when NATS is not its own", async () => {
    const nats = await startTestNats();
    const { ended, output } = run(["secrets", "rotate", "--nats-url", nats.url]);
    expect(await ended).toBe(1);
    expect(output()).toContain("JETBUCKET_MASTER_KEY");
  });

  test("takes its keys from a file, and says which file is not there", async () => {
    const nats = await startTestNats();
    const file = join(folder, "keys");
    const args = ["secrets", "rotate", "--nats-url", nats.url, "--master-key-file", file];
    const missing = run(args);
    expect(await missing.ended).toBe(1);
    expect(missing.output()).toContain(file);
    await writeFile(file, `${newKey}\n`, { mode: 0o644 });
    const found = run(args);
    expect(await found.ended).toBe(0);
    expect(found.output()).toContain("chmod 600");
  });
});

describe("the SDK", () => {
  test("sets, lists, describes, renames, reveals and deletes secrets", async () => {
    const { url } = await startGateway(undefined, ["--master-key", oldKey]);
    const secrets = createClient({ serverUrl: url }).secrets();
    const set = await secrets.set("db", "välue", { description: "of the db" });
    expect(set).toEqual({
      name: "db",
      revision: expect.any(Number),
      description: "of the db",
      createdAt: expect.any(String),
      updatedAt: set.createdAt,
    });
    expect(await secrets.list()).toEqual([set]);
    expect(await secrets.describe("db", "of orders")).toMatchObject({ description: "of orders" });
    const renamed = await secrets.rename("db", "orders/db");
    expect(renamed).toMatchObject({ name: "orders/db", createdAt: set.createdAt });
    expect(await secrets.info("orders/db")).toEqual(renamed);
    expect(await secrets.reveal("orders/db")).toBe("välue");
    await secrets.set("orders/db", "other");
    expect(await secrets.info("orders/db")).toMatchObject({ description: "of orders" });
    await secrets.delete("orders/db");
    await secrets.delete("orders/db");
    await expect(secrets.info("orders/db")).rejects.toMatchObject({ code: "secret_not_found" });
    await expect(secrets.reveal("..")).rejects.toMatchObject({ code: "invalid_request" });
    const other = createClient({ serverUrl: url }).secrets({ environment: "other" });
    expect(await other.list()).toEqual([]);
  });

  test("resolves the secrets that a program needs, and shows them to nobody else", async () => {
    const { url } = await startGateway(undefined, ["--master-key", oldKey]);
    const client = createClient({ serverUrl: url });
    await client.secrets().set("a", "value-a");
    await client.secrets().set("b", "");
    const secrets = await client.secrets().resolve(["a", "b"]);
    expect([secrets.get("a"), secrets.get("b")]).toEqual(["value-a", ""]);
    expect([secrets.has("a"), secrets.has("c")]).toEqual([true, false]);
    // @ts-expect-error -- the compiler knows which were resolved
    expect(() => secrets.get("c")).toThrow(/"c" was not resolved/);
    expect(inspect(secrets, { showHidden: true, depth: 9 })).not.toContain("value-a");
    expect(JSON.stringify(secrets)).not.toContain("value-a");
    await expect(client.secrets().resolve(["a", "missing"])).rejects.toMatchObject({
      code: "secret_not_found",
    });
  });

  test("sets, patches, reads, lists and deletes config documents", async () => {
    const { url } = await startGateway();
    const config = createClient({ serverUrl: url }).config({ environment: "staging" });
    const { revision } = await config.set("app", { theme: "dark", limits: { users: 1 } });
    await config.patch("app", { limits: { users: 2 } }, { ifRevision: revision });
    await expect(config.set("app", {}, { ifRevision: revision })).rejects.toMatchObject({
      code: "revision_mismatch",
      currentRevision: revision + 1,
    });
    await expect(config.set("app", {}, { ifRevision: 0 })).rejects.toMatchObject({ status: 412 });
    const { data, ...info } = await config.get<{ theme: string }>("app");
    expect(data.theme).toBe("dark");
    expect(data).toEqual({ theme: "dark", limits: { users: 2 } });
    expect(await config.list()).toEqual([info]);
    expect(await createClient({ serverUrl: url }).config().list()).toEqual([]);
    await expect(config.delete("app", { ifRevision: revision })).rejects.toMatchObject({
      code: "revision_mismatch",
    });
    await config.delete("app");
    await config.delete("app");
    await expect(config.get("app")).rejects.toMatchObject({ code: "config_not_found" });
    await expect(config.set("app", [])).rejects.toMatchObject({ code: "invalid_request" });
  });
});
