/** Frames as the checker keeps them: values are digested, everything else is as it came. */
import type { WatchFrame } from "../../../src/protocol/messages.ts";
import { digestOf } from "./values.ts";

export interface SeenChange {
  key: string;
  operation: string;
  reason: string | undefined;
  /** Of its value; undefined when it came without. */
  digest: string | undefined;
  size: number | undefined;
  revision: number;
  at: number;
  isInferred: boolean;
}

/** A frame, with the time at which it arrived, in milliseconds since 1970, and the id of the server-sent event that it was. */
export type Seen = { arrived: number; conflated: number; id?: string } & (
  | { type: "changes"; isTransaction: boolean; revision: number; changes: SeenChange[] }
  | { type: "ready"; position: string; count: number }
  | { type: "bookmark"; position: string }
  | { type: "reset"; reason: string }
  | { type: "stale" }
  | { type: "error"; code: string; message: string; retryable: boolean | undefined }
  | { type: "unknown"; what: string }
);

interface RawChange {
  key: string;
  value?: unknown;
  encoding?: string;
  operation: string;
  reason?: string;
  revision: number;
  created_at: string;
  size?: number;
  inferred?: true;
}

function changeOf(raw: RawChange): SeenChange {
  return {
    key: raw.key,
    operation: raw.operation,
    reason: raw.reason,
    digest:
      "value" in raw || "encoding" in raw ? digestOf(raw.encoding ?? "?", raw.value) : undefined,
    size: raw.size,
    revision: raw.revision,
    at: Date.parse(raw.created_at),
    isInferred: raw.inferred === true,
  };
}

/** Takes in one frame. */
export function seenFrame(frame: WatchFrame, arrived: number): Seen {
  const base = { arrived, conflated: ("conflated" in frame ? frame.conflated : undefined) ?? 0 };
  switch (frame.type) {
    case "kv_update":
      return {
        ...base,
        type: "changes",
        isTransaction: false,
        revision: frame.revision,
        changes: [changeOf(frame)],
      };
    case "kv_transaction":
      return {
        ...base,
        type: "changes",
        isTransaction: true,
        revision: frame.revision,
        changes: frame.events.map(changeOf),
      };
    case "kv_ready":
      return { ...base, type: "ready", position: frame.position, count: frame.count };
    case "kv_bookmark":
      return { ...base, type: "bookmark", position: frame.position };
    case "kv_reset":
      return { ...base, type: "reset", reason: frame.reason };
    case "kv_stale":
      return { ...base, type: "stale" };
    case "error":
      return {
        ...base,
        type: "error",
        code: frame.code,
        message: frame.message,
        retryable: frame.retryable,
      };
    default:
      return { ...base, type: "unknown", what: JSON.stringify(frame).slice(0, 200) };
  }
}
