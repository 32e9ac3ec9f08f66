/** Watches as WebSockets and as server-sent events: takes requests for them, and connects each with the hub. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Logger } from "pino";
import type { WebSocket } from "ws";
import type { Authenticator } from "../auth/authenticator.ts";
import { nobody, type Principal } from "../auth/principal.ts";
import type { ConfigWatches } from "../configs/watches.ts";
import { SUBPROTOCOL } from "../protocol/close-codes.ts";
import { KvError } from "../protocol/errors.ts";
import { environmentOf } from "../protocol/messages.ts";
import type { Hub, HubStats } from "../watch/hub.ts";
import type { Begin, End } from "../watch/watch.ts";
import { addressReader, type AddressOf } from "./address.ts";
import { keysSubject, type Auditor } from "./auditor.ts";
import { credentialsOfHandshake } from "./credentials.ts";
import { checkAddress } from "./entrance.ts";
import { publicError } from "./errors.ts";
import { codeOf } from "./note.ts";
import type { OriginPolicy } from "./origins.ts";
import { RateLimits } from "./rate-limits.ts";
import { newRequestId } from "./request-id.ts";
import { EventStream } from "./watch/events.ts";
import { MultiplexSocket, type MultiplexDeps } from "./watch/multiplex.ts";
import {
  isOfConfig,
  parseAddress,
  permit,
  sinceOf,
  type ConfigTarget,
  type WatchTarget,
} from "./watch/request.ts";
import { SingleSocket } from "./watch/single-socket.ts";
import { Sockets, type Seat, type SocketKind } from "./watch/sockets.ts";
import {
  destroyOnError,
  offersSubprotocol,
  refuseUpgrade,
  serveWithoutUpgrade,
  Upgrader,
} from "./watch/upgrade.ts";

export interface WatchServerOptions {
  hub: Hub;
  configs: ConfigWatches;
  log: Logger;
  origins: OriginPolicy;
  authenticator: Authenticator;
  /** Undefined where nothing is recorded. */
  auditor?: Auditor | undefined;
  /** Default: the other end of the connection. */
  addressOf?: AddressOf;
  /** How much may be asked. Default: no limit. */
  rates?: RateLimits;
  /** Sockets that there may be at once, streams of events included. Default: no limit. */
  maxSockets?: number;
  /** Sockets of one principal, and from one address. Default: no limit. */
  maxSocketsEach?: number;
  /** Milliseconds between pings; a socket that misses two pongs in a row is dead. Default: 25 s. */
  pingInterval?: number;
}

const DEFAULT_PING_INTERVAL = 25_000;

/** Figures about watching, as they are now; of what is counted, since the start. */
export interface WatchStats extends HubStats {
  sockets: Readonly<Record<SocketKind, number>>;
}

export class WatchServer {
  readonly #hub: Hub;
  readonly #configs: ConfigWatches;
  readonly #origins: OriginPolicy;
  readonly #authenticator: Authenticator;
  readonly #rates: RateLimits;
  readonly #sockets: Sockets;
  readonly #upgrader: Upgrader;
  readonly #multiplexDeps: MultiplexDeps;
  readonly #auditor: Auditor | undefined;
  readonly #addressOf: AddressOf;
  readonly #refuse: (socket: Duplex, thrown: unknown) => string;

  constructor({
    hub,
    configs,
    log,
    origins,
    authenticator,
    auditor,
    addressOf = addressReader(0),
    rates = new RateLimits(undefined),
    maxSockets = Infinity,
    maxSocketsEach = Infinity,
    pingInterval = DEFAULT_PING_INTERVAL,
  }: WatchServerOptions) {
    this.#hub = hub;
    this.#configs = configs;
    this.#origins = origins;
    this.#authenticator = authenticator;
    this.#auditor = auditor;
    this.#addressOf = addressOf;
    this.#rates = rates;
    this.#sockets = new Sockets(maxSockets, pingInterval, maxSocketsEach);
    this.#multiplexDeps = {
      hub,
      onWatch: ({ principal, address }, bucket, keys, error) => {
        // As if it had a socket of its own.
        const url = `/api/v1/kv/buckets/${encodeURIComponent(bucket)}/watch`;
        const subject = keysSubject(keys);
        const told = { principal, address, subject };
        if (error === undefined) auditor?.record({ url }, 101, told);
        else auditor?.record({ url }, error.status, { ...told, code: error.code });
      },
      publicError: (thrown) => {
        const id = newRequestId();
        const error = publicError(thrown, log, id);
        // A frame has no other place for the id that the log has.
        return error.code === "internal"
          ? new KvError("internal", `${error.message}: ${id}`)
          : error;
      },
    };
    this.#refuse = (socket, thrown) => {
      const id = newRequestId();
      refuseUpgrade(socket, publicError(thrown, log, id), id);
      return id;
    };
    this.#upgrader = new Upgrader(this.#refuse);
  }

  /** Takes the upgrade requests of an HTTP server. */
  listen(server: Server): void {
    server.on("upgrade", (request, socket, head) => {
      if (request.headers.upgrade?.toLowerCase() !== "websocket") {
        serveWithoutUpgrade(server, request, socket, head);
        return;
      }
      // Whatever is thrown in here would otherwise end the process.
      socket.on("error", destroyOnError);
      const who = { principal: nobody };
      this.#upgrade(request, head, who).then(
        () => this.#auditor?.began(request, 101, who.principal),
        (error: unknown) => {
          const requestId = this.#refuse(socket, error);
          this.#auditor?.record(request, error instanceof KvError ? error.status : 500, {
            principal: who.principal,
            code: codeOf(error),
            requestId,
            address: this.#addressOf(request),
          });
        },
      );
    });
  }

  /**
   * Answers a request with a stream of events, which has begun when this resolves.
   *
   * @param principal who asked
   * @param headers that the answer must have beside its own
   * @throws KvError `unauthenticated`, `forbidden`, `bucket_not_found`, `store_unavailable`, `shutting_down`, `too_many_sockets`, and `invalid_request` behind
   * another request that is still being answered on the same connection; nothing is answered then
   */
  async streamEvents(
    target: WatchTarget | ConfigTarget,
    request: IncomingMessage,
    outgoing: ServerResponse,
    principal: Principal,
    headers: Readonly<Record<string, string>> | undefined,
  ): Promise<void> {
    const { seat, begin } = await this.#prepare("events", target, request, principal);
    const { socket, destroyed } = outgoing;
    if (socket !== null && !destroyed) {
      this.#auditor?.began(request, 200, principal);
      new EventStream(outgoing, socket, headers, this.#sockets, seat).watch(begin);
      return;
    }
    this.#sockets.release(seat);
    // When the client went away meanwhile nobody hears this any more.
    throw new KvError("invalid_request", "a stream of events needs a connection of its own");
  }

  /** How many sockets there are, by kind; those that are being opened count. */
  get sockets(): Readonly<Record<SocketKind, number>> {
    return this.#sockets.counts;
  }

  stats(): WatchStats {
    return { ...this.#hub.stats(), sockets: this.sockets };
  }

  /**
   * Ends the sockets of some principals at once, streams of events included. Those whose credentials expire are ended without it.
   *
   * @param isMeant called once for each socket that there is
   * @returns how many there were
   * @example
   * watches.dismiss(({ id }) => id === revoked, { code: closeCodes.forbidden, reason: "revoked", error: "forbidden", retryable: false });
   */
  dismiss(isMeant: (principal: Principal) => boolean, end: End): number {
    return this.#sockets.dismiss(isMeant, end);
  }

  /** Sends who is still there to another gateway. The hub has done so with all that have a watch. */
  goAway(): void {
    this.#sockets.goAway();
  }

  /** Stops the heartbeat and cuts off who is still there. */
  close(): void {
    this.#sockets.close();
  }

  /** @param who is told who asks, as soon as that is known */
  async #upgrade(
    request: IncomingMessage,
    head: Buffer,
    who: { principal: Principal },
  ): Promise<void> {
    checkAddress(request);
    const target = parseAddress(request.url ?? "");
    this.#admit(request);
    const principal = await this.#authenticate(request);
    who.principal = principal;
    if (target === "multiplexed") {
      if (!offersSubprotocol(request)) {
        throw new KvError(
          "invalid_request",
          `this socket speaks ${SUBPROTOCOL}: offer that subprotocol`,
        );
      }
      const seat = this.#seat("multiplexed", request, principal);
      this.#take(seat, request, head, (ws, tcp) => {
        new MultiplexSocket(ws, tcp, this.#sockets, seat, this.#multiplexDeps);
      });
      return;
    }
    if (sinceOf(target) !== undefined && !offersSubprotocol(request)) {
      throw new KvError("invalid_request", `"since" needs the subprotocol ${SUBPROTOCOL}`, {
        details: { field: "since" },
      });
    }
    const kind = isOfConfig(target) ? "config" : "bucket";
    const { seat, begin } = await this.#prepare(kind, target, request, principal);
    this.#take(seat, request, head, (ws, tcp) =>
      new SingleSocket(ws, tcp, this.#sockets, seat).watch(begin),
    );
  }

  /**
   * Upgrades a request for whose socket there is room, which is given back when that fails.
   *
   * @param open takes the socket, at once: what its client has sent with the request comes right after
   */
  #take(
    seat: Seat,
    request: IncomingMessage,
    head: Buffer,
    open: (ws: WebSocket, tcp: Socket) => void,
  ): void {
    const tcp = request.socket;
    const ws = this.#upgrader.upgrade(request, tcp, head);
    if (ws === undefined) {
      this.#sockets.release(seat);
      return;
    }
    tcp.removeListener("error", destroyOnError);
    open(ws, tcp);
  }

  /** Takes the room for a socket and makes its watch ready; the room is given back when that fails. */
  async #prepare(
    kind: SocketKind,
    target: WatchTarget | ConfigTarget,
    request: IncomingMessage,
    principal: Principal,
  ): Promise<{ seat: Seat; begin: Begin }> {
    const seat = this.#seat(kind, request, principal);
    try {
      const begin = await this.#begin(permit(target, request, principal));
      this.#assertValid(principal);
      return { seat, begin };
    } catch (error) {
      this.#sockets.release(seat);
      throw error;
    }
  }

  #seat(kind: SocketKind, request: IncomingMessage, principal: Principal): Seat {
    return this.#sockets.reserve(kind, principal, this.#addressOf(request));
  }

  /** Who sends a handshake. @throws KvError `unauthenticated`, `rate_limited` */
  async #authenticate(request: IncomingMessage): Promise<Principal> {
    const address = this.#addressOf(request);
    let principal: Principal;
    try {
      principal = await this.#authenticator.authenticate(credentialsOfHandshake(request));
    } catch (error) {
      throw this.#rates.failed(error, address);
    }
    const { refusal } = this.#rates.take(principal, address);
    if (refusal !== undefined) throw refusal;
    return principal;
  }

  async #begin(target: WatchTarget | ConfigTarget): Promise<Begin> {
    if (isOfConfig(target)) {
      const { environment, name, since } = target;
      return this.#configs.prepare(environmentOf(environment), name, since);
    }
    const prepared = await this.#hub.prepare(target.bucket);
    return (socket) => prepared.attach(target.options, socket);
  }

  /** @throws KvError `unauthenticated` */
  #assertValid(principal: Principal): void {
    if (this.#authenticator.isValid(principal)) return;
    throw new KvError("unauthenticated", "the credentials are not valid any more");
  }

  #admit({ headers: { host, origin } }: IncomingMessage): void {
    if (host !== undefined && !this.#origins.allowsHost(host)) {
      throw new KvError("forbidden", `this gateway does not answer as ${host}`);
    }
    if (origin !== undefined && !this.#origins.allows(origin, host)) throw foreignPage(origin);
  }
}

/** The error for a page that may not watch. */
export function foreignPage(origin: string): KvError {
  return new KvError(
    "forbidden",
    `pages of ${origin} may not watch: add the origin to JETBUCKET_ALLOWED_ORIGINS`,
  );
}
