import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { connect, credsAuthenticator, type ConnectionOptions, type NatsConnection } from "nats";
import { KvError } from "../protocol/errors.ts";
import { Requests } from "./requests.ts";

/** How long closing waits for the server to take what is buffered, in milliseconds. */
const DRAIN = 1_000;

/** How to reach NATS. */
export interface NatsOptions {
  /** Server addresses, for instance `nats://127.0.0.1:4222`; several for a cluster. */
  servers: string[];
  user?: string;
  password?: string;
  token?: string;
  /** Path of a `.creds` file. */
  credsFile?: string;
  tls?: { caFile?: string; certFile?: string; keyFile?: string };
  /** Connection name that NATS shows in its monitoring. Default: `jetbucket`. */
  name?: string;
}

/**
 * One connection to NATS, with the state that callers need: whether it is up now, and word when that changes.
 * It reconnects by itself for as long as it is not closed.
 */
export class StoreConnection {
  readonly requests: Requests;
  readonly #nats: NatsConnection;
  readonly #listeners = new Set<(up: boolean) => void>();
  #up = true;

  private constructor(nats: NatsConnection) {
    this.#nats = nats;
    this.requests = new Requests(nats, () => this.#up);
    void this.#follow();
  }

  /** @throws KvError `store_unavailable` when no server answers or lets us in */
  static async open(options: NatsOptions): Promise<StoreConnection> {
    try {
      return new StoreConnection(await connect(await clientOptions(options)));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new KvError(
        "store_unavailable",
        `cannot connect to NATS at ${options.servers.join(", ")}: ${reason}`,
        { cause },
      );
    }
  }

  /** Whether requests can be sent now. */
  get isUp(): boolean {
    return this.#up;
  }

  /** Version of the server that the connection stands to now. */
  get serverVersion(): string {
    return this.#nats.info?.version ?? "0.0.0";
  }

  /** The name of the server's cluster, if it is part of one. */
  get cluster(): string | undefined {
    return this.#nats.info?.cluster;
  }

  /** Largest message that the server takes, headers included, in bytes. */
  get maxPayload(): number {
    return this.#nats.info?.max_payload ?? 1024 * 1024;
  }

  /** Address of the server that the connection stands to now. */
  get server(): string {
    return this.#nats.getServer();
  }

  /**
   * Whether the server is known to flush every write to disk before it answers. A client cannot ask for that, so whoever
   * runs the server, or can see its monitoring, says so.
   */
  syncsAlways = false;

  /** The client itself, for subscriptions. */
  get nats(): NatsConnection {
    return this.#nats;
  }

  /** Calls back on every change between up and down. Returns a function that ends it. */
  onChange(listener: (up: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Measures a round trip; rejects when the connection is down. */
  async ping(): Promise<void> {
    await this.#nats.flush();
  }

  /** Sends what is buffered, then closes. */
  async close(): Promise<void> {
    if (this.#nats.isClosed()) return;
    // drain() waits for the server; one that is away, or frozen, must not hold up a shutdown.
    if (this.#up) {
      const drained = this.#nats.drain().catch(() => undefined);
      await Promise.race([drained, delay(DRAIN, undefined, { ref: false })]);
    }
    if (!this.#nats.isClosed()) await this.#nats.close();
  }

  async #follow(): Promise<void> {
    for await (const status of this.#nats.status()) {
      if (status.type === "disconnect" || status.type === "close") this.#set(false);
      else if (status.type === "reconnect") this.#set(true);
    }
  }

  #set(up: boolean): void {
    if (this.#up === up) return;
    this.#up = up;
    if (!up) this.requests.failAll();
    for (const listener of this.#listeners) listener(up);
  }
}

async function clientOptions(options: NatsOptions): Promise<ConnectionOptions> {
  const { tls } = options;
  return {
    servers: options.servers,
    name: options.name ?? "jetbucket",
    maxReconnectAttempts: -1,
    // A server that comes up with other credentials gets its right ones in the end: giving up would be for ever.
    ignoreAuthErrorAbort: true,
    reconnectTimeWait: 250,
    reconnectJitter: 250,
    pingInterval: 5_000,
    maxPingOut: 2,
    noAsyncTraces: true,
    ...(options.user === undefined ? {} : { user: options.user }),
    ...(options.password === undefined ? {} : { pass: options.password }),
    ...(options.token === undefined ? {} : { token: options.token }),
    ...(options.credsFile === undefined
      ? {}
      : { authenticator: credsAuthenticator(await readFile(options.credsFile)) }),
    ...(tls === undefined ? {} : { tls }),
  };
}
