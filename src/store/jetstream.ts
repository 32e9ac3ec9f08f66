import type { MsgHdrs } from "nats";
import { KvError } from "../protocol/errors.ts";
import type { StoreConnection } from "./connection.ts";
import { NoRespondersError } from "./requests.ts";
import { joinBatch, type BatchKind } from "./stored-message.ts";

/** An error that JetStream answered with. Its code is stable, its text is not. */
export class JetStreamError extends Error {
  override readonly name = "JetStreamError";
  readonly code: number;
  /** The class of the error, in HTTP's numbers: 503 for what may pass by itself. */
  readonly status: number;

  constructor(code: number, status: number, description: string) {
    super(description);
    this.code = code;
    this.status = status;
  }
}

/** The codes of JetStream's answers that decide something here. */
export const codes = {
  streamNotFound: 10059,
  streamNameInUse: 10058,
  consumerNotFound: 10014,
  messageNotFound: 10037,
  wrongLastSequence: 10071,
  wrongLastSequenceUnknown: 10164,
  maximumBytes: 10077,
  maximumMessages: 10163,
  messageTooLarge: 10054,
  storageResources: 10047,
  memoryResources: 10028,
  insufficientResources: 10023,
  badTtl: 10165,
  batchIncomplete: 10176,
  tooManyBatches: 10210,
  streamInvalidConfig: 10052,
  consumerLimit: 10026,
  noPeers: 10005,
  replicasWithoutCluster: 10074,
} as const;

/** What a stream says of itself; only what is used here. */
export interface StreamInfo {
  config: StreamConfig;
  created: string;
  state: {
    messages: number;
    bytes: number;
    first_seq: number;
    last_seq: number;
    num_subjects?: number;
  };
}

/** The part of a stream's configuration that matters to a bucket. Everything else is kept as it is found. */
export interface StreamConfig {
  name: string;
  description?: string;
  subjects?: string[];
  max_msgs_per_subject: number;
  max_bytes: number;
  /** Nanoseconds. */
  max_age: number;
  max_msg_size?: number;
  duplicate_window?: number;
  storage: "file" | "memory";
  num_replicas: number;
  compression?: "none" | "s2";
  allow_direct?: boolean;
  allow_msg_ttl?: boolean;
  /** Nanoseconds for which the marker of an expiry stays; without it values expire without a trace. */
  subject_delete_marker_ttl?: number;
  allow_atomic?: boolean;
  metadata?: Record<string, string>;
  [other: string]: unknown;
}

export interface ConsumerInfo {
  name: string;
  num_pending: number;
}

/** What JetStream answers to a stored message. */
export interface PublishAck {
  seq: number;
}

interface ApiError {
  code?: number;
  err_code?: number;
  description?: string;
}

/**
 * JetStream's request API over the store's own request path.
 */
export class JetStream {
  readonly connection: StoreConnection;

  constructor(connection: StoreConnection) {
    this.connection = connection;
  }

  /**
   * Calls the management API.
   *
   * @throws JetStreamError what the server answered
   * @throws KvError `store_unavailable`
   */
  async call<T>(operation: string, body?: unknown): Promise<T> {
    const payload = body === undefined ? "" : JSON.stringify(body);
    try {
      const reply = await this.connection.requests.request(`$JS.API.${operation}`, payload);
      return checked<T>(JSON.parse(reply.string()) as T & { error?: ApiError });
    } catch (cause) {
      if (cause instanceof NoRespondersError) {
        throw new KvError(
          "store_unavailable",
          "JetStream does not answer: it is not enabled on this server, or has no leader now",
          {
            retryAfter: 1,
            cause,
          },
        );
      }
      throw cause;
    }
  }

  /**
   * Stores a message and resolves with its place in the stream.
   *
   * @throws JetStreamError what the server answered
   * @throws NoRespondersError when no stream takes the subject
   * @throws KvError `store_unavailable`, `value_too_large`
   */
  async publish(subject: string, payload: Uint8Array, headers?: MsgHdrs): Promise<PublishAck> {
    const reply = await this.connection.requests.request(subject, payload, headers);
    return checked(JSON.parse(reply.string()) as PublishAck & { error?: ApiError });
  }

  /**
   * Stores messages as one atomic batch and resolves with the last one's place.
   *
   * @param kind whether the batch means something to users, or is only a faster way to store
   * @throws as {@link publish}
   */
  async publishBatch(
    messages: readonly { subject: string; payload: Uint8Array; headers: MsgHdrs }[],
    kind: BatchKind = "transaction",
  ): Promise<PublishAck> {
    joinBatch(messages, kind);
    const reply = await this.connection.requests.requestAfter(
      messages.slice(0, -1),
      messages.at(-1)!,
    );
    return checked<PublishAck>(JSON.parse(reply.string()) as PublishAck & { error?: ApiError });
  }

  streamInfo(stream: string): Promise<StreamInfo> {
    return this.call<StreamInfo>(`STREAM.INFO.${stream}`);
  }
}

function checked<T>(answer: T & { error?: ApiError }): T {
  const { error } = answer;
  if (error !== undefined) {
    throw new JetStreamError(
      error.err_code ?? 0,
      error.code ?? 500,
      error.description ?? "unknown JetStream error",
    );
  }
  return answer;
}
