/**
 * The life of a watch, as a pure function of state and event.
 *
 *                 ┌────────────────────────── retry ◄──────────────────────────┐
 *                 ▼                                                            │
 *     ●──► connecting ── opened ──► catching-up ── ready ──► live              │
 *                 │                   │      ▲                │ │              │
 *                 │                   │      └─ stale, reset ─┘ │              │
 *                 │                   │                         │              │
 *      refused, lost, timed out      lost                      lost            │
 *                 └───────────────────┴─────────┬───────────────┘              │
 *                                               ▼                              │
 *                                            waiting ──────────────────────────┘
 *
 *     from everywhere: stopped by the caller, or ended for good by the server ──► closed
 *
 * `attempt` counts the connections in a row that ended before they were ready: it stretches the backoff and decides when
 * the caller hears of an outage. The machine holds no entries: what of them the caller has seen is the ledger's.
 */
import { closeCodes, isFinalCloseCode } from "../../protocol/close-codes.ts";
import type { ErrorFrame, ReadyFrame, UpdateFrame } from "../../protocol/messages.ts";
import { JetbucketError } from "./errors.ts";
import { ABNORMAL_CLOSE } from "./socket.ts";
import type { ServerFrame } from "./watch-frames.ts";

/** What a watch is doing: `waiting` is between two connections, `closed` is the end. */
export type WatchStateName = "connecting" | "catching-up" | "live" | "waiting" | "closed";

export interface WatchState {
  readonly name: WatchStateName;
  /** Connections that ended since the last one that was ready. */
  readonly attempt: number;
  /** Whether any connection was ready so far: from then on there is something to resume. */
  readonly resumes: boolean;
  /** What the server said before it closes the socket, or why the last connection failed. */
  readonly error: JetbucketError | undefined;
}

export const initialState: WatchState = {
  name: "connecting",
  attempt: 0,
  resumes: false,
  error: undefined,
};

export type WatchEvent =
  | { type: "opened" }
  | { type: "frame"; frame: ServerFrame }
  /** The socket is gone, with or without goodbye. */
  | { type: "lost"; code: number; reason: string }
  /** There never was a socket, and why is known. */
  | { type: "refused"; error: JetbucketError }
  /** The connection did not open in time. */
  | { type: "timed-out" }
  /** The wait is over. */
  | { type: "retry" }
  /** What a plain request learned about connections that fail without a reason; nothing when it found no fault. */
  | { type: "diagnosed"; error: JetbucketError | undefined }
  | { type: "stopped" };

/** How a watch ended. */
export interface CloseInfo {
  /** WebSocket close code: 1000 after `stop()`, 1006 when no connection could be made. */
  code: number;
  /** A word or a sentence, may be empty. */
  reason: string;
  /** Why the watch could not go on; undefined after `stop()`. */
  error?: JetbucketError;
}

export type WatchEffect =
  | { type: "connect"; resumes: boolean }
  /** Close the socket, if there is one, and listen to it no longer. */
  | { type: "disconnect" }
  /** Wait before the next connection: `attempt` 0 means hardly at all. */
  | { type: "wait"; attempt: number }
  /** A snapshot begins. */
  | { type: "begin" }
  | { type: "deliver"; frame: UpdateFrame }
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

/** The state after an event, and what has to be done. Events that a state does not expect change nothing. */
export function transition(state: WatchState, event: WatchEvent): Step {
  if (state.name === "closed") return [state, []];
  const hasSocket = state.name !== "waiting";
  switch (event.type) {
    case "stopped":
      return finish(state, { code: closeCodes.normal, reason: "stopped" });
    case "opened":
      return state.name === "connecting"
        ? [{ ...state, name: "catching-up" }, [{ type: "begin" }]]
        : [state, []];
    case "frame":
      return state.name === "catching-up" || state.name === "live"
        ? onFrame(state, event.frame)
        : [state, []];
    case "lost":
      return hasSocket ? onLost(state, event.code, event.reason) : [state, []];
    case "refused":
      if (state.name !== "connecting") return [state, []];
      return isFinal(event.error)
        ? finish(state, { code: ABNORMAL_CLOSE, reason: "refused", error: event.error })
        : waitAfterFailure({ ...state, error: event.error });
    case "timed-out":
      return state.name === "connecting" ? waitAfterFailure(state) : [state, []];
    case "retry":
      return state.name === "waiting"
        ? [
            { ...state, name: "connecting", error: undefined },
            [{ type: "connect", resumes: state.resumes }],
          ]
        : [state, []];
    case "diagnosed":
      return state.name === "waiting" || state.name === "connecting"
        ? onDiagnosed(state, event.error)
        : [state, []];
  }
}

function onFrame(state: WatchState, frame: ServerFrame): Step {
  switch (frame.type) {
    case "kv_update":
      return [state, [{ type: "deliver", frame }]];
    case "kv_ready":
      return [
        { name: "live", attempt: 0, resumes: true, error: undefined },
        [{ type: "complete", frame }],
      ];
    case "kv_stale":
      return [{ ...state, name: "catching-up" }, []];
    case "kv_reset":
      return [{ ...state, name: "catching-up" }, [{ type: "begin" }]];
    case "error":
      return [{ ...state, error: errorOfFrame(frame) }, []];
  }
}

function onLost(state: WatchState, code: number, reason: string): Step {
  if (isFinalCloseCode(code)) {
    const error = state.error ?? errorOfClose(code, reason);
    return finish(state, { code, reason, error });
  }
  if (code === closeCodes.goingAway && state.attempt === 0 && state.name !== "connecting") {
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
  );
}

function waitAfterFailure(state: WatchState): Step {
  const attempt = state.attempt + 1;
  const effects: WatchEffect[] = [{ type: "disconnect" }, { type: "wait", attempt }];
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
    new JetbucketError("network", "the server answers, but no WebSocket to it can be opened", {
      retryable: true,
    });
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

/** Whether trying again would get the same answer: the request is at fault, by the server's word or by our own. */
function isFinal({ status, code }: JetbucketError): boolean {
  return status === undefined
    ? code === "invalid_bucket_name" || code === "invalid_request"
    : status >= 400 && status < 500 && status !== 408 && status !== 429;
}

function errorOfFrame({ code, message }: ErrorFrame): JetbucketError {
  return new JetbucketError(code, message);
}

const codeOfClose: Record<number, string> = {
  [closeCodes.badRequest]: "invalid_request",
  [closeCodes.unauthenticated]: "unauthenticated",
  [closeCodes.forbidden]: "forbidden",
  [closeCodes.bucketGone]: "bucket_not_found",
  [closeCodes.tooManyWatches]: "rate_limited",
};

function errorOfClose(code: number, reason: string): JetbucketError {
  const message = `the server ended the watch with ${code}${reason === "" ? "" : `: ${reason}`}`;
  return new JetbucketError(codeOfClose[code] ?? "network", message, {
    retryable: !isFinalCloseCode(code),
  });
}
