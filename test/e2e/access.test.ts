import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { createClient } from "jetbucket/node";
import { eventually } from "../support/eventually.ts";

const ROOT = "the-root-key-of-these-tests-is-long-enough";
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-access-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
});

interface Run {
  child: ChildProcess;
  out: () => string;
  all: () => string;
  ended: Promise<number | null>;
}

/** A command of the built package on the test's data folder. It is ended with the test. */
function run(args: readonly string[], env: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], {
    env: {
      ...process.env,
      PORT: "0",
      JETBUCKET_NATS_PORT: "0",
      JETBUCKET_SYNC: "2m",
      JETBUCKET_DATA_DIR: folder,
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, all] = ["", ""];
  child.stdout.on(
    "data",
    (chunk: Buffer) => ((out += chunk.toString()), (all += chunk.toString())),
  );
  child.stderr.on("data", (chunk: Buffer) => (all += chunk.toString()));
  const ended = once(child, "close").then(([code]) => code as number | null);
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await ended;
  });
  return { child, out: () => out, all: () => all, ended };
}

async function serve(env: Record<string, string> = {}): Promise<Run & { url: string }> {
  const gateway = run([], env);
  await eventually(gateway.out, 30_000).toMatch(/"msg":"ready"/);
  const line = gateway
    .out()
    .split("\n")
    .find((each) => each.includes('"msg":"ready"'))!;
  return { ...gateway, url: (JSON.parse(line) as { url: string }).url };
}

test("keys are made, listed and revoked on the command line, beside a gateway and without one", async () => {
  const offline = run(["keys", "create", "--name", "ci", "--scope", "*"]);
  expect(await offline.ended, offline.all()).toBe(0);
  expect(offline.out()).toMatch(/^jbk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\n$/);
  const admin = offline.out().trim();

  const gateway = await serve({ JETBUCKET_LOG_LEVEL: "debug" });
  expect(gateway.all()).toContain("by API key or token");
  const client = createClient({ serverUrl: gateway.url, apiKey: admin });
  await client.kv().createBucket({ name: "carts" });
  await expect(createClient({ serverUrl: gateway.url }).kv().listBuckets()).rejects.toMatchObject({
    status: 401,
  });

  const online = run([
    "keys",
    "create",
    "--name=reader",
    "--scope",
    "read,watch:carts:user.42.>",
    "--expires",
    "30d",
    "--json",
  ]);
  expect(await online.ended, online.all()).toBe(0);
  const { key, id, ...made } = JSON.parse(online.out()) as { key: string; id: string };
  expect(made).toMatchObject({
    scopes: [{ verbs: ["read", "watch"], bucket: "carts", keys: ["user.42.>"] }],
    created_by: "cli",
  });
  const reader = createClient({ serverUrl: gateway.url, apiKey: key }).kv().bucket("carts");
  await expect(reader.get("user.42.x")).rejects.toMatchObject({ code: "key_not_found" });
  const { token } = await client.createToken();
  await createClient({ serverUrl: gateway.url, apiKey: token }).kv().listBuckets();

  const list = run(["keys", "list"]);
  expect(await list.ended).toBe(0);
  expect(list.out()).toMatch(new RegExp(`^ID .*\\n.*ci.*\\n${id} +reader +read,watch:carts:user`));
  const revoke = run(["keys", "revoke", id]);
  expect(await revoke.ended, revoke.all()).toBe(0);
  await eventually(() =>
    reader.get("user.42.x").catch((error: unknown) => (error as { code: string }).code),
  ).toBe("unauthenticated");

  gateway.child.kill("SIGTERM");
  await gateway.ended;
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  const stored = await Promise.all(
    files
      .filter((file) => file.isFile())
      .map((file) => readFile(join(file.parentPath, file.name), "latin1")),
  );
  const everywhere = stored.join("\n") + gateway.all() + revoke.all() + list.all();
  expect(everywhere).toContain("SYS_auth");
  for (const hidden of [admin, key, token, admin.slice(-49)]) {
    expect(everywhere).not.toContain(hidden);
  }
});

test("a root key closes the gateway, on any address, and shows itself nowhere", async () => {
  const gateway = await serve({
    JETBUCKET_ROOT_KEY: ROOT,
    HOST: "0.0.0.0",
    JETBUCKET_LOG_LEVEL: "debug",
  });
  const root = createClient({ serverUrl: gateway.url, apiKey: ROOT });
  await root.kv().createBucket({ name: "b" });
  const { ticket } = await root.createTicket();
  const url = `${gateway.url}/api/v1/kv/buckets/b/watch?ticket=${ticket}`;
  const events = await fetch(url, { headers: { Accept: "text/event-stream" } });
  expect(events.status).toBe(200);
  await events.body?.cancel();
  const strange = `${ROOT.slice(0, -1)}!`;
  const refused = createClient({ serverUrl: gateway.url, apiKey: strange }).kv().listBuckets();
  await expect(refused).rejects.toMatchObject({ status: 401 });
  gateway.child.kill("SIGTERM");
  expect(await gateway.ended).toBe(0);
  for (const hidden of [ROOT, ticket, strange]) expect(gateway.all()).not.toContain(hidden);
});

test.each([
  [["keys"], {}, "create, list and revoke"],
  [["keys", "create", "--name", "x", "--scope", "fly"], {}, '"fly"'],
  [["keys", "create", "--name", "x", "--scope", "read", "--colour", "red"], {}, "--colour"],
  [["keys", "list"], { JETBUCKET_ROOT_KEY: "short" }, "JETBUCKET_ROOT_KEY"],
])("%j with %j is refused by name", async (args, env, said) => {
  const { ended, all, out } = run(args, env);
  expect(await ended).toBe(2);
  expect(all()).toContain(said);
  expect(out()).toBe("");
});
