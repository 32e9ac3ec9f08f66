import type { Msg, MsgHdrs, NatsConnection } from "nats";
import { createInbox, errors as natsErrors } from "nats";
import { KvError } from "../protocol/errors.ts";
import { headersOf } from "./message-headers.ts";

/** Nobody listens on the subject of a request: no such stream, or JetStream is not running. */
export class NoRespondersError extends Error {
  override readonly name = "NoRespondersError";
}

interface Pending {
  /** Takes a reply; says whether it was the last one. */
  onReply: (message: Msg) => boolean;
  reject: (error: Error) => void;
  deadline: number;
}

interface Outgoing {
  subject: string;
  payload: Uint8Array | string;
  options: { reply?: string; headers?: MsgHdrs };
}

/** A message to publish. */
export interface Message {
  subject: string;
  payload: Uint8Array;
  headers: MsgHdrs;
}

/** How long the store may take to answer before a request fails, in milliseconds. */
const DEFAULT_TIMEOUT = 4_000;
const SWEEP_INTERVAL = 250;

/**
 * The request path to NATS. One subscription takes all replies and finds their requests by a token; the requests of
 * one turn of the event loop leave in one write; one timer watches all deadlines. On a busy gateway that makes more
 * than twice the throughput of the client's own request.
 */
export class Requests {
  readonly #nats: NatsConnection;
  readonly #isUp: () => boolean;
  readonly #inbox = `${createInbox()}.`;
  readonly #pending = new Map<string, Pending>();
  #outgoing: Outgoing[] = [];
  #callbacks: (() => void)[] = [];
  #flushing = false;
  #next = 0;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(nats: NatsConnection, isUp: () => boolean) {
    this.#nats = nats;
    this.#isUp = isUp;
    nats.subscribe(`${this.#inbox}*`, {
      callback: (error, message) => this.#onReply(error, message),
    });
  }

  /**
   * Sends a request and resolves with the first reply.
   *
   * @param timeout milliseconds; 4000 unless told
   * @throws KvError `store_unavailable` when NATS is away or does not answer in time. Whether a write took place is
   * then unknown.
   * @throws NoRespondersError
   */
  request(
    subject: string,
    payload: Uint8Array | string = "",
    headers?: MsgHdrs,
    timeout = DEFAULT_TIMEOUT,
  ): Promise<Msg> {
    return new Promise((resolve, reject) => {
      const onReply = (message: Msg): boolean => {
        resolve(message);
        return true;
      };
      this.#start({ onReply, reject, deadline: Date.now() + timeout }, subject, payload, headers);
    });
  }

  /**
   * Sends messages that nobody answers, and a request right behind them.
   *
   * @throws as {@link request}
   */
  requestAfter(messages: readonly Message[], last: Message): Promise<Msg> {
    return new Promise((resolve, reject) => {
      if (this.#isUp()) {
        this.#schedule();
        for (const { subject, payload, headers } of messages) {
          this.#outgoing.push({ subject, payload, options: { headers } });
        }
      }
      const onReply = (message: Msg): boolean => {
        resolve(message);
        return true;
      };
      const deadline = Date.now() + DEFAULT_TIMEOUT;
      this.#start({ onReply, reject, deadline }, last.subject, last.payload, last.headers);
    });
  }

  /**
   * Sends a request that several messages answer.
   *
   * @param onReply called with each of them; returns true for the last one, with which the promise resolves
   * @throws as {@link request}
   */
  requestMany(subject: string, payload: string, onReply: (message: Msg) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const untilLast = (message: Msg): boolean => {
        const isLast = onReply(message);
        if (isLast) resolve();
        return isLast;
      };
      this.#start(
        { onReply: untilLast, reject, deadline: Date.now() + DEFAULT_TIMEOUT },
        subject,
        payload,
      );
    });
  }

  /** Calls back at the end of this turn of the event loop, right before its requests leave. */
  beforeFlush(callback: () => void): void {
    this.#schedule();
    this.#callbacks.push(callback);
  }

  /** Fails every request that waits: the connection went away. */
  failAll(): void {
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    this.#outgoing = [];
    for (const { reject } of waiting) reject(unavailable("the connection to NATS was lost"));
  }

  #start(pending: Pending, subject: string, payload: Uint8Array | string, headers?: MsgHdrs): void {
    if (!this.#isUp()) {
      pending.reject(unavailable("NATS is not reachable"));
      return;
    }
    const token = (this.#next++).toString(36);
    this.#pending.set(token, pending);
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_INTERVAL);
    const reply = this.#inbox + token;
    this.#schedule();
    this.#outgoing.push({
      subject,
      payload,
      options: headers === undefined ? { reply } : { reply, headers },
    });
  }

  #schedule(): void {
    // The client writes once per microtask checkpoint, which is once per incoming request; once per turn of the
    // event loop joins all that arrived together.
    if (this.#flushing || this.#outgoing.length > 0 || this.#callbacks.length > 0) return;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    this.#flushing = true;
    for (const callback of callbacks) callback();
    this.#flushing = false;
    this.#write();
    // A callback may have asked for another one.
    if (this.#callbacks.length > 0) setImmediate(() => this.#flush());
  }

  #write(): void {
    const batch = this.#outgoing;
    this.#outgoing = [];
    for (const { subject, payload, options } of batch) {
      try {
        this.#nats.publish(subject, payload, options);
      } catch (cause) {
        const token = options.reply?.slice(this.#inbox.length) ?? "";
        const error = cause instanceof Error ? cause : new Error(String(cause));
        if (cause instanceof natsErrors.InvalidArgumentError) {
          const size = "the value is larger than the NATS server takes";
          this.#take(token)?.reject(new KvError("value_too_large", size, { cause }));
          continue;
        }
        this.#take(token)?.reject(
          this.#nats.isClosed() ? unavailable("the connection to NATS is closed", cause) : error,
        );
      }
    }
  }

  #onReply(error: Error | null, message: Msg): void {
    if (error !== null) return;
    const token = message.subject.slice(this.#inbox.length);
    const pending = this.#pending.get(token);
    if (pending === undefined) return;
    if (message.data.length === 0 && headersOf(message)?.code === 503) {
      this.#pending.delete(token);
      pending.reject(new NoRespondersError("nobody answers"));
    } else if (pending.onReply(message)) {
      this.#pending.delete(token);
    }
  }

  #take(token: string): Pending | undefined {
    const pending = this.#pending.get(token);
    if (pending !== undefined) this.#pending.delete(token);
    return pending;
  }

  #sweep(): void {
    const now = Date.now();
    for (const [token, { deadline, reject }] of this.#pending) {
      if (deadline > now) continue;
      this.#pending.delete(token);
      reject(unavailable("NATS did not answer in time"));
    }
    if (this.#pending.size === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
    }
  }
}

function unavailable(message: string, cause?: unknown): KvError {
  return new KvError("store_unavailable", message, { retryAfter: 1, cause });
}
