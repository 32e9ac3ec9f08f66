/**
 * Records a bucket's write log. The server itself sends a copy of each message that it stores (`republish`), in order, also of
 * one that is overwritten a moment later and that a consumer would therefore never see. What was sent while nobody listened
 * is read from the stream afterwards.
 */
import { JetStreamApiError, jetstreamManager, type JetStreamManager } from "@nats-io/jetstream";
import { connect, nuid, type MsgHdrs, type NatsConnection } from "nats";
import { streamOfBucket } from "../../../src/protocol/bucket-names.ts";
import type { DeleteReason } from "../../../src/protocol/entry.ts";
import { setTimeout as delay } from "node:timers/promises";
import { Life, type LogEntry } from "./log.ts";
import { digestOfStored } from "./values.ts";

/** Subjects of the copies begin with this. */
const COPIES = "jetbucket-checker";

export class Recorder {
  readonly lives: Life[] = [];
  readonly nats: NatsConnection;
  readonly jsm: JetStreamManager;
  readonly #lives = new Map<string, Life>();
  /** Others may record on the same server. */
  readonly #subjects = `${COPIES}-${nuid.next()}`;
  #number = 0;

  private constructor(nats: NatsConnection, jsm: JetStreamManager) {
    this.nats = nats;
    this.jsm = jsm;
  }

  static async connect(url: string): Promise<Recorder> {
    const nats = await connect({
      servers: url,
      reconnectTimeWait: 20,
      reconnectJitter: 0,
      maxReconnectAttempts: -1,
      pingInterval: 2_000,
    });
    const recorder = new Recorder(nats, await jetstreamManager(nats, { timeout: 2_000 }));
    nats.subscribe(`${recorder.#subjects}.*.>`, {
      callback: (error, message) => {
        if (error !== null || message.headers === undefined) return;
        const [, number, , , ...rest] = message.subject.split(".");
        const life = recorder.#lives.get(number!);
        const { headers } = message;
        if (life === undefined) return;
        recorder.#take(
          life,
          rest.join("."),
          Number(headers.get("Nats-Sequence")),
          millisecondsOf(headers.get("Nats-Time-Stamp")),
          headers,
          message.string(),
        );
      },
    });
    await nats.flush();
    return recorder;
  }

  /** What a stream's configuration needs so that it can be recorded from its first message on. */
  copies(): { republish: { src: string; dest: string } } {
    return { republish: { src: ">", dest: `${this.#subjects}.${++this.#number}.>` } };
  }

  /**
   * Begins to record a bucket that was just created.
   *
   * @param from when its creation began, in milliseconds since 1970
   */
  async record(bucket: string, from: number): Promise<Life> {
    const stream = streamOfBucket(bucket);
    let info = await this.jsm.streams.info(stream);
    if (!info.config.republish?.dest.startsWith(this.#subjects))
      info = await this.jsm.streams.update(stream, { ...info.config, ...this.copies() });
    const epoch = millisecondsOf(info.created);
    const life = new Life(bucket, epoch, info.config.max_msgs_per_subject, from);
    this.#lives.set(info.config.republish!.dest.split(".")[1]!, life);
    this.lives.push(life);
    await this.fill(life);
    return life;
  }

  /** The present life of a bucket, or its last one. */
  current(bucket: string): Life | undefined {
    return this.lives.findLast((life) => life.bucket === bucket);
  }

  /** Reads from the stream what was not recorded. */
  async fill(life: Life): Promise<void> {
    const stream = streamOfBucket(life.bucket);
    const before = life.last;
    const { state, created } = await persistently(() => this.jsm.streams.info(stream));
    if (millisecondsOf(created) !== life.epoch) return;
    if (state.last_seq < before)
      throw new Error(
        `nats-server lost revisions of ${life.bucket}: ${before} became ${state.last_seq}`,
      );
    life.reached(state.last_seq);
    await this.nats.flush();
    for (const revision of life.unknown) {
      const message = await this.jsm.streams
        .getMessage(stream, { seq: revision })
        .catch(() => null);
      if (message === null) continue;
      const { subject, header, data, timestamp } = message;
      const key = subject.split(".").slice(2).join(".");
      this.#take(
        life,
        key,
        revision,
        millisecondsOf(timestamp),
        header,
        new TextDecoder().decode(data),
      );
    }
  }

  /** Keys of which something else is stored than their latest revision. */
  async differences(
    life: Life,
  ): Promise<{ key: string; stored: number; latest: LogEntry | undefined }[]> {
    const stream = streamOfBucket(life.bucket);
    const differences: { key: string; stored: number; latest: LogEntry | undefined }[] = [];
    for (const key of life.keys()) {
      const of = `${stream.replace("KV_", "$KV.")}.${key}`;
      const message = await persistently(() =>
        this.jsm.streams.getMessage(stream, { last_by_subj: of }),
      );
      await this.nats.flush();
      const latest = life.latest(key, life.last);
      const stored = message?.seq ?? 0;
      if (
        stored === 0
          ? latest?.operation === "put" && !isOver(latest)
          : stored < latest!.revision && !isOver(latest)
      )
        differences.push({ key, stored, latest });
    }
    return differences;
  }

  async close(): Promise<void> {
    await this.nats.close();
  }

  #take(
    life: Life,
    key: string,
    revision: number,
    at: number,
    headers: MsgHdrs | undefined,
    text: string,
  ): void {
    const value = (name: string): string | undefined => {
      const text = headers?.get(name);
      return text === "" ? undefined : text;
    };
    const ttl = value("Nats-TTL");
    const marker = value("Nats-Marker-Reason");
    const isMarker = marker !== undefined;
    const reason = reasonOf(value("KV-Operation"), marker);
    life.add({
      revision,
      key,
      operation: reason === undefined ? "put" : "delete",
      reason,
      digest: reason === undefined ? digestOfStored(text) : undefined,
      size: Buffer.byteLength(text),
      at,
      expiresAt:
        reason === undefined && ttl !== undefined ? at + Number.parseInt(ttl) * 1000 : undefined,
      rollsUp: value("Nats-Rollup") === "sub" || isMarker,
      isMarker,
      batchId: value("Nats-Batch-Id"),
    });
  }
}

/** Whether a value's time is over, so that it is being removed. */
const isOver = (entry: LogEntry | undefined): boolean =>
  (entry?.expiresAt ?? Infinity) <= Date.now();

/** Asks again when there is no answer: the question may have been lost with a connection. */
async function persistently<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (attempt === 8 || error instanceof JetStreamApiError) throw error;
      await delay(100);
    }
  }
}

const operations: Partial<Record<string, DeleteReason>> = { DEL: "delete", PURGE: "purge" };
const markers: Partial<Record<string, DeleteReason>> = { MaxAge: "expired", Purge: "purge" };

/** Why a message is no value, as ADR-8 and ADR-43 of NATS have it. */
function reasonOf(
  operation: string | undefined,
  marker: string | undefined,
): DeleteReason | undefined {
  if (operation !== undefined && operation in operations) return operations[operation];
  return marker === undefined ? undefined : (markers[marker] ?? "delete");
}

/** RFC 3339 with any number of digits behind the second, cut off at milliseconds. */
function millisecondsOf(time: string): number {
  const [seconds = "", fraction = ""] = time.replace("Z", "").split(".");
  return Date.parse(`${seconds}.${fraction.padEnd(3, "0").slice(0, 3)}Z`);
}
