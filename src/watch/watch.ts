/** What a watch is, for those who own its socket. */
import type { Entry } from "../protocol/entry.ts";
import type { ErrorCode } from "../protocol/errors.ts";
import type { KeyPattern } from "../protocol/keys.ts";
import type { Include } from "../protocol/messages.ts";

/**
 * How frames are written: `plain` and `extended` as WebSocket text frames, where a plain client knows `kv_update` only and
 * an extended one all of `jetbucket.v1`; `sse` as server-sent events, always with all frames.
 */
export type Format = "plain" | "extended" | "sse";

/** Why and how a watch ends. */
export interface End {
  /** Close code, of protocol/close-codes.ts. */
  code: number;
  /** A sentence for people. */
  reason: string;
  /** What to say in an error frame before the end, where there is something to say. */
  error?: ErrorCode;
  /** Whether the same watch may succeed later. */
  retryable: boolean;
}

/**
 * The other end of watches: a socket, as far as the hub needs to know it. The watches of a multiplexed socket share one, and the
 * bound of what may wait for it.
 */
export interface WatchSocket {
  readonly format: Format;
  /** Bytes that were written and have not left yet. */
  readonly backlog: number;
  /** Takes whole frames, joined, in order. The bytes are shared with other sockets: they must not be changed. */
  write(bytes: Buffer): void;
  /**
   * Ends one watch: the hub has forgotten it already and writes nothing more for it. A socket of its own says why and closes; a
   * multiplexed one says it to this watch only. Can be called before {@link Prepared.attach} has returned the handle.
   */
  end(watch: WatchHandle, end: End): void;
}

/** Whether values are delivered, or only keys and their revisions; `base64` for clients that expect every value so. */
export type ValueForm = boolean | "base64";

/** How a watch tells of changes, where that is not as `kv_update`. */
export interface Wording {
  /** Like no other's. */
  readonly name: string;
  /** The members of the frame that tells of a change, as JSON without the braces. */
  update(change: Entry): string;
}

/** Begins a watch on a socket. Frames, or the watch's end, can come before this returns. */
export type Begin = (socket: WatchSocket) => WatchHandle;

export interface WatchOptions {
  /** Keys to watch; a key is watched when one of them matches. At least one. They are all that the watch ever tells of. */
  patterns: readonly KeyPattern[];
  include: Include;
  values: ValueForm;
  /** Go on behind this position. Not for plain sockets. */
  since?: string;
  /** Which watch of a multiplexed socket it is: every frame begins with it. */
  id?: string;
  /** Default: `kv_update`. */
  wording?: Wording;
}

/** A watch in progress, as the owner of its socket holds it. */
export interface WatchHandle {
  /** Entries sent since it began. */
  readonly count: number;
  /** The socket has room again. */
  drained(): void;
  /** Nobody wants the watch any more: nothing is written from now on. May be called again. */
  close(): void;
}
