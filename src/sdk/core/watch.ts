import type { Include } from "../../protocol/messages.ts";
import type { Revision, Tombstone } from "./entry.ts";
import type { JetbucketError } from "./errors.ts";
import type { EntryInfo } from "./listing.ts";
import type { CloseInfo, WatchStateName } from "./watch-machine.ts";

/** Where a change stands among those of its transaction. */
export interface TransactionPart {
  /** Revision of the transaction: the last one of its writes. */
  revision: number;
  /** From 0. */
  index: number;
  /** Changes of the transaction that this watch tells: those of its keys. */
  size: number;
}

/** What a watch says of a change beside the revision itself. */
export interface ChangeDetails {
  bucket: string;
  /**
   * Set on a delete that was found out late, because the key was there before a gap and not after it. Its `revision` is then
   * the newest one of the bucket (the key went at it or before), and its `createdAt` the time of the finding.
   */
  inferred?: true;
  /**
   * So many older changes, of any key, were replaced by newer ones of the same key since the change before, because this
   * client did not keep up.
   */
  conflated?: number;
  /** Set on a part of a transaction; its parts are told one after the other, with nothing between them. */
  transaction?: TransactionPart;
}

/** A change of a key, as a watch tells it. */
export type Change<T = unknown> = Revision<T> & ChangeDetails;

/** A change of a key, as a watch without values tells it. */
export type KeyChange = (EntryInfo | Tombstone) & ChangeDetails;

/** That a watch is up to date. */
export interface ReadyInfo {
  /** Where in the bucket's life the watch stands; opaque. */
  position: string;
  /** Entries that the server sent since the connection began. */
  count: number;
}

/**
 * What a watch calls. A callback that throws does not end the watch: what it threw goes to `onError` as the cause of a
 * `callback_failed`; without `onError`, or when that one throws, it is thrown again as an uncaught exception.
 */
export interface WatchCallbacks<T = unknown, C = Change<T>> {
  /** A key has a new value, or lost it. In the order of the writes, each write once. */
  onUpdate(change: C): void;
  /** The watch is up to date: everything that was stored was told. Again after every gap. */
  onReady?: ((info: ReadyInfo) => void) | undefined;
  /**
   * Something needs attention. The watch goes on by itself unless `onClose` follows: an outage is reported when three
   * connections in a row have failed, and then now and again. A value that does not fit the bucket's schema is told here in
   * its update's place, with code `invalid_value` and its key in `details`.
   */
  onError?: ((error: JetbucketError) => void) | undefined;
  /** The watch has ended, once: by `stop()`, by its signal, or because the server refuses it for good. */
  onClose?: ((info: CloseInfo) => void) | undefined;
  /** The watch does something else now; for a light in a corner of the screen. */
  onStateChange?: ((state: WatchStateName) => void) | undefined;
}

export interface WatchOptions {
  /** Only these keys; wildcards as in listings: `user.*`, `user.>`. Default: every key. */
  key?: string | readonly string[] | undefined;
  /**
   * `snapshot`: the current value of every key, then changes. `updates`: changes only, from `onReady` on. `history`: every
   * revision that is stored, then changes. Default `snapshot`.
   */
  include?: Include | undefined;
  /** Whether changes come with their values. Default true; false tells their sizes instead: see {@link KeysOnly}. */
  values?: true | undefined;
  /** Ends the watch, as `stop()` does. */
  signal?: AbortSignal | undefined;
}

/** Options of a watch that tells changes without their values, at a fraction of the cost. */
export type KeysOnly<Options extends WatchOptions> = Omit<Options, "values"> & { values: false };

/** Options of {@link Bucket.changes}. */
export interface ChangesOptions extends WatchOptions {
  /** As for a watch: something needs attention, such as a value that is left out because it does not fit the schema. */
  onError?: WatchCallbacks["onError"];
}

/** A running watch. */
export interface Watcher {
  /** Ends the watch: no more changes are told, `onClose` is called. May be called again. */
  stop(): void;
  /** What the watch is doing now. */
  readonly state: WatchStateName;
  /** Resolves when the watch has ended; never rejects. */
  readonly closed: Promise<CloseInfo>;
}
