/**
 * Thousands of random operations over HTTP, compared with a model of a bucket. MODEL_SEED repeats a run, MODEL_OPS sets the
 * operations of each, MODEL_MINUTES goes on with ever new seeds for so long.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createServer } from "../../src/server.ts";
import { readSettings } from "../../src/settings.ts";
import { callJson, startGateway, type TestGateway } from "../support/gateway.ts";
import { faults } from "../support/model-faults.ts";
import { Divergence, runModel, type RunOptions, type Tally } from "../support/model-run.ts";
import { startTestNats } from "../support/nats.ts";

const SEED = Number(process.env.MODEL_SEED ?? Math.floor(Math.random() * 1e9));
const OPERATIONS = Number(process.env.MODEL_OPS ?? 1300);
const MINUTES = Number(process.env.MODEL_MINUTES ?? 0);

let gateways: [TestGateway, TestGateway];
/** The API of a gateway that groups its writes, since its server flushes each, and of another one in front of that server. */
let synced: [string, string];
let count = 0;

beforeAll(async () => {
  const nats = await startTestNats();
  gateways = [await startGateway(nats), await startGateway(nats)];
  const dataDir = await mkdtemp(join(tmpdir(), "jetbucket-model-"));
  const settings = readSettings(
    ["--port", "0", "--nats-port", "0", "--data-dir", dataDir, "--log-level", "silent"],
    {},
  );
  const grouping = await createServer(settings, pino({ level: "silent" }));
  const other = await createServer(
    readSettings(["--port", "0", "--nats-url", grouping.nats.url, "--log-level", "silent"], {}),
    pino({ level: "silent" }),
  );
  synced = [`${grouping.url}/api/v1/kv`, `${other.url}/api/v1/kv`];
  afterAll(async () => {
    await Promise.all([...gateways, other].map((gateway) => gateway.close()));
    await grouping.close();
    await rm(dataDir, { recursive: true, force: true, maxRetries: 5 });
  });
});

async function run(
  apis: readonly string[],
  options: Pick<RunOptions, "history" | "seed" | "operations" | "fault">,
): Promise<Tally> {
  const bucket = `m${count++}`;
  const { status } = await callJson("POST", `${apis[0]!}/buckets`, {
    name: bucket,
    history: options.history,
  });
  expect(status).toBe(201);
  return runModel({ gateways: apis, bucket, ...options });
}

/** Runs with a seed on every kind of bucket at the same time. */
async function runAll(seed: number): Promise<Tally> {
  const apis = gateways.map(({ api }) => api);
  const tallies = await Promise.all([
    run(apis.slice(0, 1), { history: 1, seed, operations: OPERATIONS }),
    run(apis, { history: 5, seed: seed + 1, operations: OPERATIONS }),
    run(apis, { history: 1, seed: seed + 2, operations: OPERATIONS }),
    run(synced, { history: 5, seed: seed + 3, operations: OPERATIONS }),
  ]);
  const sum: Tally = new Map();
  for (const [name, number] of tallies.flatMap((tally) => [...tally]))
    sum.set(name, (sum.get(name) ?? 0) + number);
  return sum;
}

const summary = (tally: Tally): string =>
  [...tally]
    .sort(([, a], [, b]) => b - a)
    .map(([name, number]) => `${number} ${name}`)
    .join(", ");

test(
  `random operations do what a simple model does, seed ${SEED}`,
  async () => {
    const started = Date.now();
    let rounds = 0;
    do {
      const tally = await runAll(SEED + 10 * rounds++);
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      console.log(
        `MODEL_SEED=${SEED}, round ${rounds}, ${4 * OPERATIONS * rounds} operations in ${seconds} s: ${summary(tally)}`,
      );
    } while (Date.now() < started + MINUTES * 60_000);
  },
  (MINUTES + 3) * 60_000,
);

describe.skipIf(MINUTES > 0)("the model finds", () => {
  test.concurrent.each(Object.entries(faults))("%s", async (_, fault) => {
    const apis = gateways.map(({ api }) => api);
    const faulty = run(apis, { history: 5, seed: SEED, operations: 4000, fault: fault() });
    await expect(faulty).rejects.toBeInstanceOf(Divergence);
  });
});

test("a transaction of checks alone is of one moment", async () => {
  const [bucket, other] = gateways.map(({ api }) => `${api}/buckets/checks`) as [string, string];
  await callJson("POST", `${gateways[0].api}/buckets`, { name: "checks" });
  const transact = (url: string, ...operations: object[]) =>
    callJson("POST", `${url}/transactions`, { operations });
  await transact(bucket, { op: "create", key: "a", value: 1 });
  const end = new AbortController();
  // One of the two keys is there at any time, never both, never none.
  const mover = (async () => {
    for (let i = 0; !end.signal.aborted; i++) {
      const [from, to] = i % 2 === 0 ? ["a", "b"] : ["b", "a"];
      const { status } = await transact(
        other,
        { op: "delete", key: from },
        { op: "create", key: to, value: 1 },
      );
      expect(status).toBe(200);
    }
  })();
  const others = Array.from({ length: 500 }, (_, i) => `none${i}`);
  const checks = ["a", ...others, "b"].map((key) => ({ op: "check", key, revision: 0 }));
  for (let i = 0; i < 40; i++) expect((await transact(bucket, ...checks)).status).not.toBe(200);
  end.abort();
  await mover;
});
