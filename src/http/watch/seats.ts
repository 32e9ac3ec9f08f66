import type { Principal } from "../../auth/principal.ts";
import { KvError } from "../../protocol/errors.ts";
import { isLoopback, networkOf } from "../address.ts";

/** What a socket is for: one bucket, one config document, many watches, or one watch as server-sent events. */
export type SocketKind = "bucket" | "config" | "multiplexed" | "events";

/** Room for one socket: taken before it is opened, given back when it is gone or was not opened. */
export interface Seat {
  readonly kind: SocketKind;
  /** Whose it is. */
  readonly principal: Principal;
  /** Where it comes from. */
  readonly address: string | undefined;
}

/** Seconds after which another attempt may find room. */
const RETRY_AFTER = 5;

/** The sockets that a gateway has room for: in all, for each principal, and for each address but those of this machine. */
export class Seats {
  readonly #max: number;
  readonly #maxEach: number;
  readonly #counts: Record<SocketKind, number> = {
    bucket: 0,
    config: 0,
    multiplexed: 0,
    events: 0,
  };
  readonly #ofEach = new Map<string, number>();

  /**
   * @param max how many there may be
   * @param maxEach how many of them for one principal and from one address; does not hold where everybody is anonymous
   */
  constructor(max: number, maxEach: number) {
    this.#max = max;
    this.#maxEach = maxEach;
  }

  get counts(): Readonly<Record<SocketKind, number>> {
    return this.#counts;
  }

  /** @throws KvError `too_many_sockets`, `rate_limited` for one who has as many as one may have */
  take(kind: SocketKind, principal: Principal, address: string | undefined): Seat {
    const { bucket, config, multiplexed, events } = this.#counts;
    if (bucket + config + multiplexed + events >= this.#max) {
      throw new KvError(
        "too_many_sockets",
        `this gateway has ${this.#max} watch sockets, as many as JETBUCKET_MAX_SOCKETS allows: try again, or another one`,
        { retryAfter: RETRY_AFTER },
      );
    }
    const seat: Seat = { kind, principal, address };
    const owners = ownersOf(seat);
    if (owners.some((owner) => (this.#ofEach.get(owner) ?? 0) >= this.#maxEach)) {
      throw new KvError(
        "rate_limited",
        `you have ${this.#maxEach} watch sockets here, as many as JETBUCKET_MAX_SOCKETS_EACH allows`,
        { retryAfter: RETRY_AFTER },
      );
    }
    for (const owner of owners) this.#ofEach.set(owner, (this.#ofEach.get(owner) ?? 0) + 1);
    this.#counts[kind] += 1;
    return seat;
  }

  giveBack(seat: Seat): void {
    this.#counts[seat.kind] -= 1;
    for (const owner of ownersOf(seat)) {
      const count = this.#ofEach.get(owner) ?? 0;
      if (count <= 1) this.#ofEach.delete(owner);
      else this.#ofEach.set(owner, count - 1);
    }
  }
}

function ownersOf({ principal: { kind, id }, address }: Seat): string[] {
  if (kind === "anonymous") return [];
  const owner = `${kind} ${id}`;
  return address === undefined || isLoopback(address)
    ? [owner]
    : [owner, `from ${networkOf(address)}`];
}
