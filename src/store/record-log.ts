import { headers } from "nats";
import { capabilitiesOf } from "./capabilities.ts";
import type { StoreConnection } from "./connection.ts";
import { codes, JetStream, JetStreamError, type StreamInfo } from "./jetstream.ts";
import { headersOf } from "./message-headers.ts";
import { NoRespondersError } from "./requests.ts";

/** How much of a log is kept. */
export interface LogLimits {
  /** Milliseconds. */
  maxAge: number;
  /** Bytes; what is oldest goes first. */
  maxBytes: number;
}

/** A piece of a log, as it was appended. */
export interface LogPiece {
  sequence: number;
  /** When it was stored, in milliseconds since 1970. */
  time: number;
  payload: Uint8Array;
}

const MILLISECOND = 1_000_000;
/** Milliseconds within which a piece that is sent twice is stored once. */
const DUPLICATES = 120_000;

/** A stream to which is only added, and which nobody can change afterwards; what is old goes by itself. It is no bucket. */
export class RecordLog {
  readonly #js: JetStream;
  readonly #connection: StoreConnection;
  readonly #name: string;
  readonly #limits: LogLimits;
  #isThere = false;

  /** @param name of the stream, and of its subject */
  constructor(connection: StoreConnection, name: string, limits: LogLimits) {
    this.#connection = connection;
    this.#js = new JetStream(connection);
    this.#name = name;
    this.#limits = limits;
  }

  /**
   * Adds a piece. The stream is made if it is not there.
   *
   * @param id makes a repetition within two minutes harmless
   * @throws KvError `store_unavailable`
   * @throws JetStreamError what the server answered
   */
  async append(payload: Uint8Array, id: string): Promise<void> {
    if (!this.#isThere) await this.#make();
    const own = headers();
    own.set("Nats-Msg-Id", id);
    try {
      await this.#js.publish(this.#name, payload, own);
    } catch (error) {
      // Somebody may have deleted it: then it is made with the next attempt.
      if (error instanceof NoRespondersError) this.#isThere = false;
      throw error;
    }
  }

  /** The first and the last sequence; undefined when nothing is there. @throws KvError `store_unavailable` */
  async bounds(): Promise<{ first: number; last: number } | undefined> {
    try {
      const { state } = await this.#js.streamInfo(this.#name);
      return state.messages === 0 ? undefined : { first: state.first_seq, last: state.last_seq };
    } catch (error) {
      if (error instanceof JetStreamError && error.code === codes.streamNotFound) return undefined;
      throw error;
    }
  }

  /** A piece; undefined when it is gone. @throws KvError `store_unavailable` */
  async get(sequence: number): Promise<LogPiece | undefined> {
    const reply = await this.#connection.requests
      .request(`$JS.API.DIRECT.GET.${this.#name}`, JSON.stringify({ seq: sequence }))
      .catch((error: unknown) => {
        if (error instanceof NoRespondersError) return undefined;
        throw error;
      });
    if (reply === undefined) return undefined;
    const found = headersOf(reply);
    if (found?.code !== 0) return undefined;
    return { sequence, time: Date.parse(found.get("Nats-Time-Stamp")), payload: reply.data };
  }

  async #make(): Promise<void> {
    const { maxAge, maxBytes } = this.#limits;
    const limits = {
      max_age: maxAge * MILLISECOND,
      max_bytes: maxBytes,
      duplicate_window: Math.min(maxAge, DUPLICATES) * MILLISECOND,
    };
    const config = {
      name: this.#name,
      subjects: [this.#name],
      retention: "limits",
      discard: "old",
      storage: "file",
      num_replicas: 1,
      deny_delete: true,
      deny_purge: true,
      allow_direct: true,
      ...(capabilitiesOf(this.#connection.serverVersion).compression ? { compression: "s2" } : {}),
      ...limits,
    };
    try {
      await this.#js.call(`STREAM.CREATE.${this.#name}`, config);
    } catch (error) {
      if (!(error instanceof JetStreamError && error.code === codes.streamNameInUse)) throw error;
      // It is there with other limits, and perhaps with more replicas, which stay.
      const { config: found } = await this.#js.call<StreamInfo>(`STREAM.INFO.${this.#name}`);
      await this.#js.call(`STREAM.UPDATE.${this.#name}`, { ...found, ...limits });
    }
    this.#isThere = true;
  }
}
