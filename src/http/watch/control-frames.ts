/** Frames that come from the edge itself rather than from the hub. */
import type { ErrorFrame, UnwatchedFrame } from "../../protocol/messages.ts";
import { sse, wsText } from "../../watch/frames.ts";

export type EdgeError = Pick<ErrorFrame, "id" | "code" | "message" | "retryable">;

/** Says why a watch ends; with the id of the watch, which comes first, on a multiplexed socket. */
export function errorFrame(error: EdgeError): Buffer {
  return wsText(errorJson(error));
}

/** The same as a server-sent event. */
export function errorEvent(error: EdgeError): Buffer {
  return sse(errorJson(error));
}

export function unwatchedFrame(id: string): Buffer {
  return wsText(JSON.stringify({ id, type: "unwatched" } satisfies UnwatchedFrame));
}

function errorJson({ id, code, message, retryable }: EdgeError): string {
  const frame: ErrorFrame = {
    ...(id === undefined ? {} : { id }),
    type: "error",
    code,
    message,
    retryable,
  };
  return JSON.stringify(frame);
}
