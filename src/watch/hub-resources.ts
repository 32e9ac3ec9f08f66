/** What the channels of a hub share. */
import type { ResetReason } from "../protocol/messages.ts";
import { OutboxBudget } from "./outbox-budget.ts";
import { Pacer } from "./pacer.ts";
import { RingBudget, type RingLimits } from "./ring.ts";
import { Stalls } from "./stalls.ts";

const MEBIBYTE = 1024 * 1024;

/** Bounds of what slow clients may cost, in bytes. */
export interface OutboxLimits {
  /** With more than this in a socket, frames wait in an outbox, where newer ones can replace them. Default: 256 KiB. */
  backlog: number;
  /** What may wait for one socket. Default: 4 MiB. */
  perSocket: number;
  /** What may wait for all sockets together. Default: 256 MiB. */
  total: number;
}

export interface HubOptions {
  outbox?: Partial<OutboxLimits>;
  /** Bounds of the recent changes that are kept. Default: 16 MiB of a bucket, 64 while somebody catches up, 256 in all. */
  ring?: Partial<RingLimits>;
  /**
   * How long a bucket that nobody watches any more is followed, in milliseconds, so that who comes back goes on where it was.
   * Default: 60 s.
   */
  linger?: number;
  /** After how many milliseconds without any progress a socket for which something waits is given up. Default: 30 s. */
  stall?: number;
  /** Milliseconds between two bookmarks. Default: 10 s. */
  bookmarks?: number;
}

/** What has been counted since the hub began. */
export interface Counters {
  /** Changes that were handed to sockets, each once per watch. */
  deliveries: number;
  /** Frames that newer ones replaced before they were sent. */
  conflations: number;
  /** Watches for which more waited than may. */
  overflows: number;
  /** Watches that had to start over, by reason. */
  resets: Record<ResetReason, number>;
}

export class HubResources {
  readonly outboxLimits: OutboxLimits;
  readonly outboxes: OutboxBudget;
  readonly rings: RingBudget;
  readonly stalls: Stalls;
  readonly pacer = new Pacer();
  readonly linger: number;
  readonly bookmarks: number;
  readonly counters: Counters = {
    deliveries: 0,
    conflations: 0,
    overflows: 0,
    resets: { epoch_changed: 0, too_old: 0, future: 0, filter_changed: 0, lagged: 0 },
  };

  constructor({ outbox, ring, linger, stall, bookmarks }: HubOptions) {
    this.outboxLimits = {
      backlog: 256 * 1024,
      perSocket: 4 * MEBIBYTE,
      total: 256 * MEBIBYTE,
      ...outbox,
    };
    this.outboxes = new OutboxBudget(this.outboxLimits.perSocket, this.outboxLimits.total);
    this.rings = new RingBudget({
      usual: 16 * MEBIBYTE,
      pinned: 64 * MEBIBYTE,
      total: 256 * MEBIBYTE,
      ...ring,
    });
    this.stalls = new Stalls(stall ?? 30_000);
    this.linger = linger ?? 60_000;
    this.bookmarks = bookmarks ?? 10_000;
  }
}
