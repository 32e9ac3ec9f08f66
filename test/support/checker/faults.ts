/** What goes wrong in a checker run, besides the clients' own comings and goings. */
import { setTimeout as delay } from "node:timers/promises";
import { streamOfBucket } from "../../../src/protocol/bucket-names.ts";
import type { Random } from "../model-random.ts";
import type { TestNats } from "../nats.ts";
import type { GatewaySlot } from "./gateways.ts";
import type { Recorder } from "./recorder.ts";
import { send, sendJson, type BucketPlan } from "./writers.ts";

export const faultKinds = [
  "nats paused",
  "nats restarted",
  "consumers deleted",
  "bucket re-created by API",
  "bucket re-created by NATS",
  "gateway closed",
  "gateway killed",
  "line cut",
  "line stalled",
  "tombstones compacted",
] as const;
export type FaultKind = (typeof faultKinds)[number];

/** A time in which things are allowed to be late, or overwritten before anybody saw them. */
export interface Trouble {
  kind: FaultKind;
  from: number;
  to: number;
  /** The bucket that it hit; undefined for all. */
  bucket?: string;
}

export interface FaultContext {
  nats: TestNats;
  recorder: Recorder;
  slots: readonly GatewaySlot[];
  buckets: readonly BucketPlan[];
  troubles: Trouble[];
  /** Holds writers up while it runs. */
  hold: <T>(during: () => Promise<T>) => Promise<T>;
  /** Waits until nothing else is being done alone. */
  alone: (act: () => Promise<void>) => Promise<void>;
}

/** After a fault the gateway needs a little to be current again, in milliseconds. */
const AFTERMATH = 3_000;
/** Silence of a consumer is only noticed when heartbeats stay away. */
const SILENCE = 16_000;

export async function createBucket(
  { recorder, hold, slots }: FaultContext,
  { name, history, storage }: BucketPlan,
): Promise<void> {
  await hold(async () => {
    const from = Date.now();
    for (;;) {
      const api = slots.find((slot) => slot.api !== undefined)?.api;
      const answer =
        api === undefined
          ? undefined
          : await sendJson(`${api}/buckets`, { name, history, storage });
      if (answer?.ok === true || answer?.body.code === "bucket_exists") break;
      await delay(50);
    }
    await recorder.record(name, from);
  });
}

/** Lets something go wrong, and resolves when it is over. */
export async function commit(
  kind: FaultKind,
  context: FaultContext,
  random: Random,
): Promise<void> {
  const { troubles } = context;
  const trouble: Trouble = { kind, from: Date.now(), to: Infinity };
  const bucket = random.pick(context.buckets);
  const slot = random.pick(context.slots);
  if (kind === "bucket re-created by API" || kind === "bucket re-created by NATS")
    trouble.bucket = bucket.name;
  // Two at a time would be in each other's way; gateways and lines are apart.
  const run = (): Promise<void> => {
    trouble.from = Date.now();
    troubles.push(trouble);
    return carryOut(kind, context, random, bucket, slot);
  };
  if (/^(?:line|gateway)/.test(kind)) await run();
  else await context.alone(run);
  trouble.to = Date.now() + (kind === "consumers deleted" ? SILENCE : AFTERMATH);
  if (kind === "nats paused" || kind === "nats restarted") prolong(troubles, trouble);
}

/** What NATS had still to tell when it went silent, a bucket's end for instance, it tells later. */
function prolong(troubles: readonly Trouble[], { from, to }: Trouble): void {
  for (const each of troubles) if (each.to >= from && each.to < to) each.to = to;
}

async function carryOut(
  kind: FaultKind,
  context: FaultContext,
  random: Random,
  bucket: BucketPlan,
  slot: GatewaySlot,
): Promise<void> {
  const { nats, recorder, troubles } = context;
  const stream = streamOfBucket(bucket.name);
  switch (kind) {
    case "nats paused":
      nats.pause();
      await delay(random.int(100, 2_500));
      nats.resume();
      return;
    case "nats restarted": {
      // What is kept in memory is gone then, and so is its bucket.
      const lost = context.buckets.filter(({ storage }) => storage === "memory");
      const losses = lost.map(({ name }): Trouble => {
        return { kind, from: Date.now(), to: Infinity, bucket: name };
      });
      troubles.push(...losses);
      for (const { name } of lost) recorder.current(name)!.to = Date.now();
      await nats.kill();
      await delay(random.int(0, 1_200));
      await nats.restart();
      await reconnected(recorder);
      for (const bucket of context.buckets) {
        if (lost.includes(bucket)) {
          await createBucket(context, bucket);
          continue;
        }
        await recorder.fill(recorder.current(bucket.name)!);
      }
      for (const loss of losses) loss.to = Date.now() + AFTERMATH;
      return;
    }
    case "consumers deleted": {
      const consumers = await recorder.jsm.consumers.list(stream).next();
      for (const { name } of consumers)
        await recorder.jsm.consumers.delete(stream, name).catch(() => undefined);
      return;
    }
    case "bucket re-created by API": {
      const life = recorder.current(bucket.name)!;
      await recorder.fill(life);
      const { api } = slot;
      if (api === undefined) return;
      const answer = await send("DELETE", `${api}/buckets/${bucket.name}`);
      if (answer?.ok !== true) await recorder.jsm.streams.delete(stream).catch(() => undefined);
      life.to = Date.now();
      await delay(random.int(0, 600));
      await createBucket(context, bucket);
      return;
    }
    case "bucket re-created by NATS": {
      const life = recorder.current(bucket.name)!;
      await recorder.fill(life);
      const { config } = await recorder.jsm.streams.info(stream);
      await recorder.jsm.streams.delete(stream);
      life.to = Date.now();
      if (random.chance(0.5)) await delay(random.int(0, 600));
      const from = Date.now();
      await recorder.jsm.streams.add({ ...config, ...recorder.copies() });
      await recorder.record(bucket.name, from);
      return;
    }
    case "gateway closed":
    case "gateway killed":
      if (slot.api === undefined) return;
      await slot.stop(kind === "gateway killed" ? "kill" : "close");
      await delay(random.int(0, 500));
      // NATS may be away just now.
      while (
        !(await slot.start().then(
          () => true,
          () => false,
        ))
      )
        await delay(200);
      return;
    case "line cut":
      slot.line.cut();
      return;
    case "line stalled":
      slot.line.stall();
      await delay(random.int(100, 2_500));
      slot.line.release();
      return;
    case "tombstones compacted": {
      const { api } = slot;
      if (api === undefined) return;
      const answer = await sendJson(`${api}/buckets/${bucket.name}/compact`, { older_than: 1 });
      // Also when the answer is lost it may have been done.
      if (answer?.body.removed !== 0) recorder.current(bucket.name)!.compactions.push(Date.now());
      return;
    }
  }
}

async function reconnected({ nats }: Recorder): Promise<void> {
  for (;;) {
    try {
      await nats.flush();
      return;
    } catch {
      await delay(20);
    }
  }
}
