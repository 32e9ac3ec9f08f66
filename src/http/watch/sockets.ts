import type { Principal } from "../../auth/principal.ts";
import { closeCodes } from "../../protocol/close-codes.ts";
import { KvError } from "../../protocol/errors.ts";
import type { End } from "../../watch/watch.ts";
import { Expiry, isExpired } from "./expiry.ts";
import { Heartbeat, type Beating } from "./heartbeat.ts";
import { Seats, type Seat, type SocketKind } from "./seats.ts";

export type { Seat, SocketKind } from "./seats.ts";

/** A socket that is open. */
export interface OpenSocket extends Beating {
  readonly seat: Seat;
  /** Ends it, and says why. */
  dismiss(end: End): void;
  /** Ends it so that its client goes to another gateway at once. */
  goAway(): void;
  /** Cuts it off. */
  terminate(): void;
}

/** Watches for which a gateway has room, for each socket that it has room for. */
const WATCHES_PER_SOCKET = 8;
const expired: End = {
  code: closeCodes.unauthenticated,
  reason: "the credentials have expired: connect again with new ones",
  error: "unauthenticated",
  retryable: false,
};

/** All sockets of a gateway: how many there may be, their heartbeat, and how long their owners may stay. */
export class Sockets {
  readonly heartbeat: Heartbeat<OpenSocket>;
  readonly #expiry = new Expiry((now) => this.#dismissExpired(now));
  readonly #max: number;
  readonly #seats: Seats;
  #watches = 0;

  /**
   * @param max how many sockets there may be
   * @param pingInterval milliseconds between two pings of a socket
   * @param maxEach how many of them for one principal and from one address. Default: no limit
   */
  constructor(max: number, pingInterval: number, maxEach = Infinity) {
    this.#max = max;
    this.#seats = new Seats(max, maxEach);
    this.heartbeat = new Heartbeat(pingInterval);
  }

  /** How many there are, by kind; those that are being opened count. */
  get counts(): Readonly<Record<SocketKind, number>> {
    return this.#seats.counts;
  }

  /**
   * Takes the room for one more, before it is opened. {@link release} gives it back.
   *
   * @throws KvError `too_many_sockets`, `rate_limited`
   */
  reserve(kind: SocketKind, principal: Principal, address?: string): Seat {
    return this.#seats.take(kind, principal, address);
  }

  release(seat: Seat): void {
    this.#seats.giveBack(seat);
  }

  /** Takes the room for one more watch of a multiplexed socket. @throws KvError `too_many_watches` */
  reserveWatch(): void {
    if (this.#watches >= this.#max * WATCHES_PER_SOCKET) {
      throw new KvError("too_many_watches", "this gateway has as many watches as it takes");
    }
    this.#watches += 1;
  }

  releaseWatches(count: number): void {
    this.#watches -= count;
  }

  opened(socket: OpenSocket): void {
    this.heartbeat.add(socket);
    this.#expiry.add(socket.seat.principal);
  }

  closed(socket: OpenSocket): void {
    this.heartbeat.delete(socket);
    this.release(socket.seat);
  }

  /**
   * Ends those whose owner is one of some.
   *
   * @returns how many
   */
  dismiss(isMeant: (principal: Principal) => boolean, end: End): number {
    let count = 0;
    for (const socket of this.heartbeat) {
      if (!isMeant(socket.seat.principal)) continue;
      socket.dismiss(end);
      count += 1;
    }
    return count;
  }

  /** Ends all of them. */
  goAway(): void {
    for (const socket of this.heartbeat) socket.goAway();
  }

  /** Cuts off who is still there, and stops the heartbeat. */
  close(): void {
    this.heartbeat.stop();
    this.#expiry.stop();
    for (const socket of this.heartbeat) socket.terminate();
  }

  #dismissExpired(now: number): void {
    for (const socket of this.heartbeat) {
      if (isExpired(socket.seat.principal, now)) socket.dismiss(expired);
      else this.#expiry.add(socket.seat.principal);
    }
  }
}
