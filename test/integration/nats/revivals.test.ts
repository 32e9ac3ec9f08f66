import { jetstreamManager, type JetStreamManager } from "@nats-io/jetstream";
import { connect, headers, type NatsConnection } from "nats";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { startTestNats, type TestNats } from "../../support/nats.ts";

let nats: TestNats;

interface Session {
  connection: NatsConnection;
  jsm: JetStreamManager;
}

async function open(): Promise<Session> {
  const connection = await connect({ servers: nats.url });
  onTestFinished(() => connection.close());
  return { connection, jsm: await jetstreamManager(connection) };
}

async function write(
  { connection }: Session,
  subject: string,
  value: string,
  fields: Record<string, string> = {},
): Promise<void> {
  const all = headers();
  for (const [name, field] of Object.entries(fields)) all.set(name, field);
  await connection.request(subject, value, { headers: all, timeout: 5_000 });
}

/** What is stored, in order. */
async function stored({ jsm }: Session, stream: string): Promise<string[]> {
  const { state } = await jsm.streams.info(stream);
  const found: string[] = [];
  for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
    const message = await jsm.streams.getMessage(stream, { seq }).catch(() => null);
    if (message !== null) found.push(`${seq} ${message.string()}`);
  }
  return found;
}

const purge = { "KV-Operation": "PURGE", "Nats-Rollup": "sub" };

describe.each([1, 3])("with a history of %i, a nats-server that was killed", (history) => {
  let session: Session;

  beforeEach(async () => {
    nats = await startTestNats({ syncInterval: "always" });
    session = await open();
    await session.jsm.streams.add({
      name: "KV_b",
      subjects: ["$KV.b.>"],
      max_msgs_per_subject: history,
      allow_rollup_hdrs: true,
      allow_msg_ttl: true,
      subject_delete_marker_ttl: 1e9,
      deny_delete: true,
    });
    await write(session, "$KV.b.other", "first");
    for (let i = 0; i <= history; i++) await write(session, "$KV.b.key", `old ${i}`);
  });

  async function afterKill(): Promise<{ before: string[]; after: string[] }> {
    const before = await stored(session, "KV_b");
    await nats.kill();
    await nats.restart();
    return { before, after: await stored(await open(), "KV_b") };
  }

  test("does not bring back what was overwritten before the key was purged", async () => {
    await write(session, "$KV.b.key", "", purge);
    const { before, after } = await afterKill();
    expect(before).toHaveLength(2);
    expect(after).toEqual(before);
  });

  test("does not bring back a value whose key and tombstone are gone", async () => {
    await write(session, "$KV.b.key", "", { "KV-Operation": "DEL" });
    await session.jsm.streams.purge("KV_b", { filter: "$KV.b.key" });
    const { before, after } = await afterKill();
    expect(before).toEqual(["1 first"]);
    expect(after).toEqual(before);
  });

  test("does not bring back the value before one that has expired", async () => {
    await write(session, "$KV.b.key", "passing", { "Nats-TTL": "1s", "Nats-Rollup": "sub" });
    const { after } = await afterKill();
    expect(after.at(-1)).toContain("passing");
    await vi.waitFor(
      async () => expect(await stored(await open(), "KV_b")).toEqual(["1 first"]),
      10_000,
    );
  });

  test("keeps all that was not removed", async () => {
    await write(session, "$KV.b.purged", "value");
    await write(session, "$KV.b.purged", "", purge);
    await write(session, "$KV.b.purged", "new");
    await write(session, "$KV.b.key", "newest");
    const { before, after } = await afterKill();
    expect(before).toHaveLength(1 + history + Math.min(history, 2));
    expect(after).toEqual(before);
  });
});

test("keeps what many writes, removals and kills in a row have left", async () => {
  nats = await startTestNats({ syncInterval: "always" });
  let session = await open();
  await session.jsm.streams.add({
    name: "KV_b",
    subjects: ["$KV.b.>"],
    max_msgs_per_subject: 2,
    allow_rollup_hdrs: true,
  });
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 120; i++) {
      const key = `$KV.b.${(i * 7 + round) % 11}`;
      if (i % 5 === 3) await write(session, key, "", purge);
      else if (i % 17 === 4) await session.jsm.streams.purge("KV_b", { filter: key });
      else await write(session, key, `${round} ${i}`);
    }
    const before = await stored(session, "KV_b");
    await nats.kill();
    await nats.restart();
    session = await open();
    expect(await stored(session, "KV_b")).toEqual(before);
  }
});
