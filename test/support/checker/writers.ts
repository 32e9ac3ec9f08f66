/** The writers of a checker run: through the gateways, and past them straight to NATS. */
import { setTimeout as delay } from "node:timers/promises";
import { connect, headers, nuid, type MsgHdrs, type NatsConnection } from "nats";
import { streamOfBucket } from "../../../src/protocol/bucket-names.ts";
import type { Random } from "../model-random.ts";
import type { Attempt, Attempts } from "./attempts.ts";
import type { GatewaySlot } from "./gateways.ts";
import { HEAVY_KEYS, KEYS } from "./keys.ts";
import { numberedText, numberedValue, type NumberedValue } from "./values.ts";

export interface BucketPlan {
  name: string;
  history: number;
  storage: "file" | "memory";
}

export interface WriterOptions {
  number: number;
  random: Random;
  buckets: readonly BucketPlan[];
  slots: readonly GatewaySlot[];
  attempts: Attempts;
  natsUrl: string;
  /** Milliseconds between two writes, at most. */
  rest: number;
  /** Bytes of large values; 0 for none. */
  heavy: number;
  /** Resolves when writes may go on. */
  gate: () => Promise<void>;
}

/** Longest wait for an answer, in milliseconds. */
const PATIENCE = 8_000;
const NATS_PATIENCE = 1_500;

export class Writer {
  readonly #options: WriterOptions;
  #nats: NatsConnection | undefined;
  #number = 0;
  #isOver = false;
  writes = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  stop(): void {
    this.#isOver = true;
  }

  /** Writes until {@link stop}. */
  async run(): Promise<void> {
    const { random, natsUrl, rest, gate } = this.#options;
    this.#nats = await connect({
      servers: natsUrl,
      reconnectTimeWait: 50,
      maxReconnectAttempts: -1,
    });
    try {
      let burst = 0;
      while (!this.#isOver) {
        await gate();
        const ok = await (random.chance(0.65) ? this.#overHttp() : this.#overNats()).catch(
          () => false,
        );
        this.writes += 1;
        if (burst === 0 && random.chance(0.02)) burst = random.int(10, 60);
        if (!ok) await delay(30);
        else if (burst > 0) burst -= 1;
        else await delay(random.int(0, rest));
      }
    } finally {
      await this.#nats.close();
    }
  }

  #key(): string {
    const { random, heavy } = this.#options;
    if (heavy > 0 && random.chance(0.35)) return random.pick(HEAVY_KEYS);
    // Some keys change often.
    if (random.chance(0.35)) return random.pick(["a.1", "a.b.c", "a-1", "user.1"]);
    return random.pick([...KEYS, ...HEAVY_KEYS]);
  }

  #value(key: string): NumberedValue {
    const { random, heavy, number } = this.#options;
    const isHeavy = heavy > 0 && key.startsWith("h");
    return numberedValue(
      number,
      ++this.#number,
      isHeavy ? random.int(Math.floor(heavy / 2), heavy) : 0,
    );
  }

  #attempt(bucket: string, key: string, value?: NumberedValue): Attempt {
    const base = { bucket, key, sent: Date.now() };
    return this.#options.attempts.add(
      value === undefined
        ? { ...base, operation: "delete" }
        : { ...base, operation: "put", digest: value.digest },
    );
  }

  #answered(attempt: Attempt, revision: number | undefined): void {
    attempt.answered = Date.now();
    if (revision !== undefined) attempt.revision = revision;
  }

  // ---- through a gateway

  async #overHttp(): Promise<boolean> {
    const { random, slots, buckets } = this.#options;
    const api = random.pick(slots).api;
    const bucket = random.pick(buckets);
    const choice = random.weighted<
      "put" | "text" | "delete" | "purge" | "ttl" | "transaction" | "batch"
    >([
      [40, "put"],
      [6, "text"],
      [12, "delete"],
      [6, "purge"],
      [12, "ttl"],
      [22, "transaction"],
      [2, "batch"],
    ]);
    if (api === undefined) return false;
    const base = `${api}/buckets/${bucket.name}`;
    const key = this.#key();
    switch (choice) {
      case "put":
      case "ttl": {
        const value = this.#value(key);
        const attempt = this.#attempt(bucket.name, key, value);
        const ttl = choice === "ttl" ? `?ttl=${random.int(1, 2)}s` : "";
        const answer = await send("PUT", `${base}/keys/${key}${ttl}`, value.text);
        if (answer?.ok !== true) return false;
        this.#answered(attempt, answer.body.revision);
        return true;
      }
      case "text": {
        const value = numberedText(this.#options.number, ++this.#number);
        const attempt = this.#attempt(bucket.name, key, value);
        const answer = await send("PUT", `${base}/keys/${key}`, value.text, "text/plain");
        if (answer?.ok !== true) return false;
        this.#answered(attempt, answer.body.revision);
        return true;
      }
      case "delete":
      case "purge": {
        const attempt = this.#attempt(bucket.name, key);
        const query = choice === "purge" ? "?purge=true" : "";
        const answer = await send("DELETE", `${base}/keys/${key}${query}`);
        if (answer?.ok !== true) return false;
        this.#answered(attempt, undefined);
        return true;
      }
      case "transaction":
      case "batch": {
        const isBatch = choice === "batch";
        const keys = random.some([...KEYS, ...HEAVY_KEYS.slice(0, 2)], random.int(2, 8));
        const operations = keys.map((each) => {
          if (!isBatch && random.chance(0.2)) {
            this.#attempt(bucket.name, each);
            return { op: random.chance(0.6) ? "delete" : "purge", key: each, attempt: undefined };
          }
          const value = this.#value(each);
          const attempt = this.#attempt(bucket.name, each, value);
          const ttl = random.chance(0.08) ? { ttl: random.int(1, 2) } : {};
          return {
            op: "put",
            key: each,
            value: JSON.parse(value.text) as unknown,
            ...ttl,
            attempt,
          };
        });
        // So that there are messages that only carry a condition, too.
        const checks =
          !isBatch && random.chance(0.2) ? [{ op: "check", key: "never.there", revision: 0 }] : [];
        const plain = operations.map(({ attempt: _, ...operation }) => operation);
        const answer = isBatch
          ? await sendJson(`${base}/batch`, { set: plain.map(({ op: _, ...item }) => item) })
          : await sendJson(`${base}/transactions`, { operations: [...plain, ...checks] });
        if (answer?.ok !== true) return false;
        if (isBatch) return true;
        const revisions = answer.body.revisions as Record<string, number>;
        for (const { key: of, attempt } of operations)
          if (attempt !== undefined) this.#answered(attempt, revisions[of]);
        return true;
      }
    }
  }

  // ---- straight to NATS

  async #overNats(): Promise<boolean> {
    const { random, buckets } = this.#options;
    const bucket = random.pick(buckets);
    const key = this.#key();
    const choice = random.weighted<"put" | "delete" | "purge" | "ttl" | "transaction">([
      [60, "put"],
      [12, "delete"],
      [6, "purge"],
      [8, "ttl"],
      [14, "transaction"],
    ]);
    switch (choice) {
      case "put":
      case "ttl": {
        const value = this.#value(key);
        const attempt = this.#attempt(bucket.name, key, value);
        this.#answered(
          attempt,
          await this.#publish(
            bucket,
            key,
            value.text,
            choice === "ttl" ? ttlHeaders(bucket, random.int(1, 2)) : headers(),
          ),
        );
        return true;
      }
      case "delete":
      case "purge": {
        const attempt = this.#attempt(bucket.name, key);
        this.#answered(
          attempt,
          await this.#publish(bucket, key, "", tombstone(choice === "purge")),
        );
        return true;
      }
      case "transaction": {
        const keys = random.some([...KEYS], random.int(2, 6));
        const id = nuid.next();
        const attempts: (Attempt | undefined)[] = [];
        let last = 0;
        for (const [i, each] of keys.entries()) {
          const isDelete = random.chance(0.2);
          const value = isDelete ? undefined : this.#value(each);
          const of = isDelete ? tombstone(random.chance(0.3)) : headers();
          attempts.push(this.#attempt(bucket.name, each, value));
          of.set("Nats-Batch-Id", id);
          of.set("Nats-Batch-Sequence", String(i + 1));
          const payload = value?.text ?? "";
          if (i < keys.length - 1)
            this.#nats!.publish(subjectOf(bucket, each), payload, { headers: of });
          else {
            of.set("Nats-Batch-Commit", "1");
            last = await this.#publish(bucket, each, payload, of);
          }
        }
        attempts.forEach((attempt, i) => this.#answered(attempt!, last - keys.length + 1 + i));
        return true;
      }
    }
  }

  async #publish(bucket: BucketPlan, key: string, payload: string, of: MsgHdrs): Promise<number> {
    const answer = await this.#nats!.request(subjectOf(bucket, key), payload, {
      headers: of,
      timeout: NATS_PATIENCE,
    });
    const { seq, error } = answer.json<{ seq?: number; error?: { description: string } }>();
    if (seq === undefined || error !== undefined) throw new Error(error?.description);
    return seq;
  }
}

const subjectOf = ({ name }: BucketPlan, key: string): string =>
  `$KV.${streamOfBucket(name).slice("KV_".length)}.${key}`;

function tombstone(isPurge: boolean): MsgHdrs {
  const of = headers();
  of.set("KV-Operation", isPurge ? "PURGE" : "DEL");
  if (isPurge) of.set("Nats-Rollup", "sub");
  return of;
}

function ttlHeaders({ history }: BucketPlan, seconds: number): MsgHdrs {
  const of = headers();
  of.set("Nats-TTL", `${seconds}s`);
  // Without it the value before would come back, silently.
  if (history > 1) of.set("Nats-Rollup", "sub");
  return of;
}

interface Answer {
  ok: boolean;
  status: number;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of every form
  body: any;
}

/** Resolves with undefined when there was no answer, so that nobody knows what became of it. */
export async function send(
  method: string,
  url: string,
  body?: string,
  type = "application/json",
): Promise<Answer | undefined> {
  try {
    const response = await fetch(url, {
      method,
      signal: AbortSignal.timeout(PATIENCE),
      ...(body === undefined ? {} : { body, headers: { "Content-Type": type } }),
    });
    const text = await response.text();
    return {
      ok: response.ok,
      status: response.status,
      body: text.startsWith("{") ? JSON.parse(text) : text,
    };
  } catch {
    return undefined;
  }
}

export const sendJson = (url: string, value: unknown): Promise<Answer | undefined> =>
  send("POST", url, JSON.stringify(value));
