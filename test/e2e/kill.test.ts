/**
 * Gateways, as processes, are killed in the middle of transactions. Whatever they had sent by then, a transaction is stored
 * whole or not at all, and one that was acknowledged is stored.
 */
import { jetstream } from "@nats-io/jetstream";
import { headers, nuid } from "nats";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { streamOfBucket } from "../../src/protocol/bucket-names.ts";
import { eventually } from "../support/eventually.ts";
import { call, callJson, startGateway } from "../support/gateway.ts";
import { connectForeign, type ForeignClient } from "../support/jetstream.ts";
import { startTestNats } from "../support/nats.ts";

const KILLS = 100;
/** Gateways that live at the same time: one can start while another works. */
const SLOTS = 3;
/** Groups of keys that are written at the same time through one gateway, each by one transaction after the other. */
const GROUPS = 2;
/** Keys of a group. So many that the gateway sends a transaction's messages in several writes. */
const KEYS = 300;
/** The longest that a gateway lives after its first transaction, in milliseconds. */
const LIFE = 40;
/** The most that it sends to NATS after its first transaction, in bytes: about two transactions. */
const BYTES = 160_000;
const HISTORY = 64;
const BUCKET = "kill";
const STREAM = streamOfBucket(BUCKET);
const SUBJECTS = `$KV.${STREAM.slice("KV_".length)}.`;

const children = new Set<ChildProcess>();

afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

/** Starts the built gateway on a NATS server and resolves with its address. */
async function startProcess(natsUrl: string): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(process.execPath, ["dist/cli/main.js", "serve"], {
    env: { ...process.env, PORT: "0", NATS_URL: natsUrl },
    stdio: ["ignore", "pipe", "ignore"],
  });
  children.add(child);
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      const ready = /"url":"([^"]+)".*"msg":"ready"/.exec(output);
      if (ready !== null) resolve(ready[1]!);
    });
    child.once("exit", () => reject(new Error(`the gateway ended: ${output}`)));
  });
  return { child, url };
}

interface Line {
  url: string;
  /** Lets so many bytes more through to the server, then calls back and lets nothing through. */
  cutAfter(bytes: number, onCut: () => void): void;
  close(): void;
}

/** A line to a NATS server that breaks at a place, not at a time. */
async function lineTo(port: number): Promise<Line> {
  let left = Infinity;
  let cut: (() => void) | undefined;
  const server = createServer((socket) => {
    const upstream = connect(port, "127.0.0.1");
    for (const end of [socket, upstream]) end.on("error", () => undefined);
    upstream.pipe(socket);
    socket.on("close", () => upstream.end());
    socket.on("data", (chunk: Buffer) => {
      if (left > 0) upstream.write(chunk.subarray(0, left));
      left -= chunk.length;
      if (left > 0) return;
      upstream.end();
      cut?.();
      cut = undefined;
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cutAfter: (bytes, onCut) => {
      left = bytes;
      cut = onCut;
    },
    close: () => void server.close(),
  };
}

/** What a group of keys has been through. */
interface Group {
  name: string;
  /** The transactions that were sent, by number, with the revisions that were acknowledged. */
  sent: { revisions?: Record<string, number> }[];
}

const keyOf = (group: string, i: number): string => `${group}.${i}`;

/** Writes a group's keys again and again, in transactions with and without conditions, until the gateway is gone. */
async function write(url: string, group: Group, onAcknowledged: () => void): Promise<void> {
  let known: Record<string, number> | undefined;
  while (group.sent.length < HISTORY) {
    const transaction: Group["sent"][number] = {};
    const value = group.sent.push(transaction);
    const operations = Array.from({ length: KEYS }, (_, i) => {
      const key = keyOf(group.name, i);
      if (known === undefined) return { op: "create", key, value };
      return i % 2 === 0
        ? { op: "put", key, value }
        : { op: "update", key, value, revision: known[key] };
    });
    try {
      const { status, body } = await callJson(
        "POST",
        `${url}/api/v1/kv/buckets/${BUCKET}/transactions`,
        { operations },
      );
      // JetStream takes only so many transactions that gateways began and did not finish: later it takes others again.
      if (status === 503) continue;
      expect([status, body.code]).toEqual([200, undefined]);
      known = transaction.revisions = body.revisions as Record<string, number>;
    } catch (error) {
      // The connection broke: the gateway was killed, and nobody knows whether this one was stored.
      if (error instanceof TypeError) return;
      throw error;
    }
    onAcknowledged();
  }
}

/** One gateway's life, and its end: after a time, or in the middle of what it sends. */
async function round(natsPort: number, number: number): Promise<Group[]> {
  const line = await lineTo(natsPort);
  const { child, url } = await startProcess(line.url);
  const exited = once(child, "exit");
  const groups = Array.from({ length: GROUPS }, (_, i): Group => ({
    name: `r${number}.g${i}`,
    sent: [],
  }));
  let acknowledged!: () => void;
  const first = new Promise<void>((resolve) => (acknowledged = resolve));
  const writers = Promise.all(groups.map((group) => write(url, group, acknowledged)));
  await Promise.race([first, writers]);
  // The moment of the kill is what is tried out here, so it is left to chance.
  const chance = Math.random();
  if (number % 2 === 0) line.cutAfter(Math.ceil(chance * BYTES), () => child.kill("SIGKILL"));
  else void delay(chance * LIFE).then(() => child.kill("SIGKILL"));
  await Promise.all([exited, writers]);
  line.close();
  children.delete(child);
  return groups;
}

/** Counts, beside the stream, the batches of which only a part came to the server. */
function spyOnBatches({ nats }: ForeignClient): () => number {
  const open = new Set<string>();
  nats.subscribe(`${SUBJECTS}>`, {
    callback: (error, { headers }) => {
      const id = headers?.get("Nats-Batch-Id");
      if (error !== null || id === undefined || id === "") return;
      if (headers!.has("Nats-Batch-Commit")) open.delete(id);
      else open.add(id);
    },
  });
  return () => open.size;
}

interface Stored {
  key: string;
  revision: number;
}

/** All that the stream holds, in order: which keys were written with which value, by group. */
async function readStream({
  nats,
  jsm,
}: ForeignClient): Promise<Map<string, Map<number, Stored[]>>> {
  const groups = new Map<string, Map<number, Stored[]>>();
  const { last_seq: last } = (await jsm.streams.info(STREAM)).state;
  const consumer = await jetstream(nats).consumers.get(STREAM);
  for await (const message of await consumer.consume({ max_messages: 5_000 })) {
    const key = message.subject.slice(SUBJECTS.length);
    const group = key.slice(0, key.lastIndexOf("."));
    const values = groups.get(group) ?? new Map<number, Stored[]>();
    groups.set(group, values);
    const value = message.json<number>();
    const messages = values.get(value) ?? [];
    values.set(value, messages);
    messages.push({ key, revision: message.seq });
    if (message.seq === last) break;
  }
  return groups;
}

test(`${KILLS} gateways killed inside transactions leave no half of one, and lose none that was acknowledged`, async () => {
  const nats = await startTestNats();
  const reader = await startGateway(nats);
  const foreign = await connectForeign(nats.url);
  await callJson("POST", `${reader.api}/buckets`, { name: BUCKET, history: HISTORY });
  const unfinished = spyOnBatches(foreign);

  const groups: Group[] = [];
  let started = 0;
  await Promise.all(
    Array.from({ length: SLOTS }, async () => {
      while (started < KILLS) groups.push(...(await round(nats.port, started++)));
    }),
  );
  expect(groups).toHaveLength(KILLS * GROUPS);
  // What the last of them sent may still be on its way through the server.
  await eventually(async () => {
    const { last_seq: before } = (await foreign.jsm.streams.info(STREAM)).state;
    await foreign.nats.flush();
    return (await foreign.jsm.streams.info(STREAM)).state.last_seq - before;
  }).toBe(0);

  const stored = await readStream(foreign);
  const outcome = { acknowledged: 0, stored: 0, nothing: 0 };
  for (const { name, sent } of groups) {
    const values = stored.get(name) ?? new Map<number, Stored[]>();
    for (const [at, { revisions }] of sent.entries()) {
      const messages = values.get(at + 1);
      if (messages === undefined) {
        expect(revisions, `${name}: transaction ${at + 1} was acknowledged`).toBeUndefined();
        outcome.nothing += 1;
        continue;
      }
      // Whole, one message behind the other.
      expect(messages.map(({ key }) => key)).toEqual(
        Array.from({ length: KEYS }, (_, i) => keyOf(name, i)),
      );
      const first = messages[0]!.revision;
      expect(messages.at(-1)!.revision).toBe(first + KEYS - 1);
      if (revisions === undefined) outcome.stored += 1;
      else {
        outcome.acknowledged += 1;
        expect(revisions).toEqual(
          Object.fromEntries(messages.map(({ key, revision }) => [key, revision])),
        );
      }
    }
    expect([...values.keys()]).toEqual([...values.keys()].sort((a, b) => a - b));

    // And as the API shows it.
    const bucket = `${reader.api}/buckets/${BUCKET}`;
    const { entries } = (await call("GET", `${bucket}/keys?prefix=${name}.&values=true`)).body as {
      entries: { value: number }[];
    };
    const latest = Math.max(0, ...values.keys());
    expect(new Set(entries.map(({ value }) => value))).toEqual(
      new Set(latest === 0 ? [] : [latest]),
    );
    expect(entries).toHaveLength(latest === 0 ? 0 : KEYS);
    const history = await call("GET", `${bucket}/history/${keyOf(name, KEYS - 1)}`);
    expect(((history.body.entries ?? []) as { value: number }[]).map(({ value }) => value)).toEqual(
      [...values.keys()],
    );
  }
  console.log(
    `${KILLS} kills: ${outcome.acknowledged} transactions acknowledged, ${outcome.stored} stored without word of it, ` +
      `${outcome.nothing} not stored; ${unfinished()} came to the server in part`,
  );
  // Else nothing was tried.
  expect(unfinished()).toBeGreaterThan(0);
  expect(outcome.nothing).toBeGreaterThan(0);
}, 120_000);

test("transactions that killed gateways left unfinished make others wait, and nothing else", async () => {
  const { api, server } = await startGateway();
  const { nats } = await connectForeign(server.url);
  const bucket = `${api}/buckets/${BUCKET}`;
  await callJson("POST", `${api}/buckets`, { name: BUCKET });
  // JetStream takes 50 at a time.
  for (let i = 0; i < 50; i++) {
    const begin = headers();
    begin.set("Nats-Batch-Id", nuid.next());
    begin.set("Nats-Batch-Sequence", "1");
    nats.publish(`${SUBJECTS}k${i}`, "x", { headers: begin });
  }
  await nats.flush();
  const refused = await callJson("POST", `${bucket}/transactions`, {
    operations: [
      { op: "put", key: "a", value: 1 },
      { op: "put", key: "b", value: 1 },
    ],
  });
  expect(refused).toMatchObject({
    status: 503,
    body: { code: "store_unavailable", retryable: true },
  });
  expect(refused.headers.get("Retry-After")).toBe("1");
  expect((await callJson("PUT", `${bucket}/keys/k`, 1)).status).toBe(200);
  expect((await call("GET", `${bucket}/keys`)).body.keys).toEqual(["k"]);
});
