/**
 * The life of a watch, as a pure function of state and event.
 *
 *                 ┌────────────────────────── retry ◄──────────────────────────┐
 *                 ▼                                                            │
 *     ●──► connecting ── opened ──► catching-up ── ready ──► live              │
 *                 │                   │      ▲                │ │              │
 *                 │                   │      └─ stale, reset ─┘ │              │
 *                 │                   │                         │              │
 *      refused, lost, ended       lost, ended              lost, ended         │
 *                 └───────────────────┴─────────┬───────────────┘              │
 *                                               ▼                              │
 *                                            waiting ──────────────────────────┘
 *
 *     from everywhere: stopped by the caller, or ended for good by the server ──► closed
 *
 * `attempt` counts the connections in a row that ended before they were ready: it stretches the backoff and decides when
 * the caller hears of an outage. `position` is where the next connection goes on. The machine holds no entries: what of them
 * the caller has seen is the ledger's.
 */
import { closeCodes, isFinalCloseCode } from "../../protocol/close-codes.ts";
import type {
  ReadyFrame,
  ResetReason,
  TransactionFrame,
  UnwatchedFrame,
  UpdateFrame,
  WatchFrame,
} from "../../protocol/messages.ts";
import { advancePosition } from "../../protocol/position.ts";
import { JetbucketError } from "./errors.ts";
import { ABNORMAL_CLOSE } from "./socket.ts";

/** What the server tells a watch. */
export type ServerFrame = Exclude<WatchFrame, UnwatchedFrame>;

/** What a watch is doing: `waiting` is between two connections, `closed` is the end. */
export type WatchStateName = "connecting" | "catching-up" | "live" | "waiting" | "closed";

export interface WatchState {
  readonly name: WatchStateName;
  /** Connections that ended since the last one that was ready. */
  readonly attempt: number;
  /** Everything up to here was delivered; undefined before the first connection that was ready. */
  readonly position: string | undefined;
  /** Whether what arrives is the beginning of everything, from which no position can be told before it is complete. */
  readonly startsOver: boolean;
  /** What the server said before it closes the socket, or why the last connection failed. */
  readonly error: JetbucketError | undefined;
}

export const initialState: WatchState = {
  name: "connecting",
  attempt: 0,
  position: undefined,
  startsOver: true,
  error: undefined,
};

export type WatchEvent =
  /** The watch was asked for, on a socket that is open. */
  | { type: "opened" }
  | { type: "frame"; frame: ServerFrame }
  /** The socket is gone, with or without goodbye; `renews` when a next one comes with another token. */
  | { type: "lost"; code: number; reason: string; renews?: boolean }
  /** There never was a socket, and why is known. */
  | { type: "refused"; error: JetbucketError }
  /** The server ended this watch; the socket may live on. */
  | { type: "ended"; error: JetbucketError }
  /** The wait is over. */
  | { type: "retry" }
  /** What a plain request learned about connections that fail without a reason; nothing when it found no fault. */
  | { type: "diagnosed"; error: JetbucketError | undefined }
  | { type: "stopped" };

/** How a watch ended. */
export interface CloseInfo {
  /**
   * As a WebSocket's: 1000 after `stop()`, 1006 when no connection could be made, and the server's, also where it ended this
   * watch only: 4404 when the bucket is gone, 4403, 4401, or 4400 for a request that it does not take.
   */
  code: number;
  /** A word or a sentence, may be empty. */
  reason: string;
  /** Why the watch could not go on; undefined after `stop()`. */
  error?: JetbucketError;
}

export type WatchEffect =
  | { type: "connect"; since: string | undefined }
  /** Leave the connection, if there is one. */
  | { type: "disconnect" }
  /** Wait before the next connection: `attempt` 0 means hardly at all. */
  | { type: "wait"; attempt: number }
  /** What follows goes on at the position. */
  | { type: "resume" }
  /** What follows starts over; `reason` when the server wants it so. */
  | { type: "start-over"; reason: ResetReason | undefined }
  | { type: "deliver"; frame: UpdateFrame | TransactionFrame }
  /** Everything up to now was delivered. */
  | { type: "complete"; frame: ReadyFrame }
  /** Find out by a plain request why connections fail. */
  | { type: "diagnose" }
  | { type: "report"; error: JetbucketError }
  | { type: "finish"; info: CloseInfo };

type Step = readonly [WatchState, readonly WatchEffect[]];

/** The caller hears of an outage at its third failed connection, and then at every tenth. */
const REPORT_AT = 3;
const REPORT_EVERY = 10;
/** Connections in a row that may fail for want of a good token. */
const RENEWALS = 2;
/** A server that is overloaded is left alone for longer: the first time for up to 2 s instead of a quarter of one. */
const OVERLOAD_PATIENCE = 3;

/** The state after an event, and what has to be done. Events that a state does not expect change nothing. */
export function transition(state: WatchState, event: WatchEvent): Step {
  const { name } = state;
  if (name === "closed") return [state, []];
  const hasConnection = name !== "waiting";
  switch (event.type) {
    case "stopped":
      return finish(state, { code: closeCodes.normal, reason: "stopped" });
    case "opened":
      return name === "connecting" ? onOpened(state) : [state, []];
    case "frame":
      return name === "catching-up" || name === "live" ? onFrame(state, event.frame) : [state, []];
    case "lost":
      return hasConnection ? onLost(state, event) : [state, []];
    case "refused":
      return name === "connecting" ? onRefused(state, event.error) : [state, []];
    case "ended":
      return hasConnection ? onEnded(state, event.error) : [state, []];
    case "retry":
      return hasConnection
        ? [state, []]
        : [
            { ...state, name: "connecting", error: undefined },
            [{ type: "connect", since: state.position }],
          ];
    case "diagnosed":
      return name === "waiting" || name === "connecting"
        ? onDiagnosed(state, event.error)
        : [state, []];
  }
}

function onOpened(state: WatchState): Step {
  const resumes = state.position !== undefined;
  return [
    { ...state, name: "catching-up", startsOver: !resumes },
    [resumes ? { type: "resume" } : { type: "start-over", reason: undefined }],
  ];
}

function onFrame(state: WatchState, frame: ServerFrame): Step {
  switch (frame.type) {
    case "kv_update":
      // A removal that was noticed late has the revision of the notice: writes before it may still come.
      return [
        frame.inferred ? state : advance(state, frame.revision),
        [{ type: "deliver", frame }],
      ];
    case "kv_transaction":
      return [advance(state, frame.revision), [{ type: "deliver", frame }]];
    case "kv_ready":
      return [
        { name: "live", attempt: 0, position: frame.position, startsOver: false, error: undefined },
        [{ type: "complete", frame }],
      ];
    case "kv_bookmark":
      return [state.startsOver ? state : { ...state, position: frame.position }, []];
    case "kv_stale":
      return [{ ...state, name: "catching-up" }, []];
    case "kv_reset":
      // The old position is kept until there is a new one: it is what the next connection has to go by.
      return [
        { ...state, name: "catching-up", startsOver: true },
        [{ type: "start-over", reason: frame.reason }],
      ];
    case "error": {
      const { code, message, retryable } = frame;
      return [{ ...state, error: new JetbucketError(code, message, { retryable }) }, []];
    }
    default:
      // A newer server says more.
      return [state, []];
  }
}

function advance(state: WatchState, revision: number): WatchState {
  const { name, position } = state;
  // While the server catches up, removals that it finds out late can follow writes that came after them.
  return name !== "live" || position === undefined
    ? state
    : { ...state, position: advancePosition(position, revision) };
}

function onRefused(state: WatchState, error: JetbucketError): Step {
  return isFinal(error)
    ? finish(state, { code: ABNORMAL_CLOSE, reason: "refused", error })
    : waitAfterFailure({ ...state, error });
}

function onEnded(state: WatchState, error: JetbucketError): Step {
  return error.retryable
    ? waitAfterFailure({ ...state, error })
    : finish(state, { code: closeCodeOf(error.code), reason: error.message, error });
}

function onLost(
  state: WatchState,
  { code, reason, renews }: Extract<WatchEvent, { type: "lost" }>,
): Step {
  // A token that is refused again and again will not get better.
  const isExpired =
    code === closeCodes.unauthenticated && renews === true && state.attempt < RENEWALS;
  if (isFinalCloseCode(code) && !isExpired) {
    const error = state.error ?? errorOfClose(code, reason);
    return finish(state, { code, reason, error });
  }
  if (
    (isExpired || (code === closeCodes.goingAway && state.name !== "connecting")) &&
    state.attempt === 0
  ) {
    // Counted all the same: a gateway that says so again before it is ready gets a proper wait.
    return [
      { ...state, name: "waiting", attempt: 1 },
      [{ type: "disconnect" }, { type: "wait", attempt: 0 }],
    ];
  }
  // A connection that never opened has no reason to show: a plain request may find one.
  return waitAfterFailure(
    state.name === "connecting"
      ? state
      : { ...state, error: state.error ?? errorOfClose(code, reason) },
    code === closeCodes.overloaded ? OVERLOAD_PATIENCE : 0,
  );
}

/** @param patience how many attempts longer than usual the wait is */
function waitAfterFailure(state: WatchState, patience = 0): Step {
  const attempt = state.attempt + 1;
  const effects: WatchEffect[] = [
    { type: "disconnect" },
    { type: "wait", attempt: attempt + patience },
  ];
  if (attempt % REPORT_EVERY === REPORT_AT) {
    const { error } = state;
    effects.push(error === undefined ? { type: "diagnose" } : { type: "report", error });
  }
  return [{ ...state, name: "waiting", attempt }, effects];
}

function onDiagnosed(state: WatchState, error: JetbucketError | undefined): Step {
  if (error !== undefined && isFinal(error)) {
    return finish(state, { code: ABNORMAL_CLOSE, reason: "refused", error });
  }
  const found =
    error ??
    new JetbucketError(
      "network",
      "the server answers, but not to WebSockets: a proxy is in the way, or it is older than this SDK",
      { retryable: true },
    );
  return [state, [{ type: "report", error: found }]];
}

function finish(state: WatchState, info: CloseInfo): Step {
  return [
    { ...state, name: "closed", error: info.error },
    [
      { type: "disconnect" },
      ...(info.error === undefined ? [] : [{ type: "report", error: info.error } as const]),
      { type: "finish", info },
    ],
  ];
}

/** Whether trying again would get the same answer: the request is at fault. */
function isFinal({ status = 0 }: JetbucketError): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

const codeOfClose: Record<number, string> = {
  [closeCodes.badRequest]: "invalid_request",
  [closeCodes.unauthenticated]: "unauthenticated",
  [closeCodes.forbidden]: "forbidden",
  [closeCodes.bucketGone]: "bucket_not_found",
  [closeCodes.tooManyWatches]: "rate_limited",
};

/** What the socket of a single watch would be closed with. */
function closeCodeOf(code: string): number {
  const [found] = Object.entries(codeOfClose).find((entry) => entry[1] === code) ?? [];
  return Number(found ?? closeCodes.badRequest);
}

function errorOfClose(code: number, reason: string): JetbucketError {
  const message = `the server ended the watch with ${code}${reason === "" ? "" : `: ${reason}`}`;
  return new JetbucketError(codeOfClose[code] ?? "network", message, {
    retryable: !isFinalCloseCode(code),
  });
}
