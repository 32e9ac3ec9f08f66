import type { WatchFrame } from "../../protocol/messages.ts";

/** Continuity cannot be proven: a snapshot follows, and every key that it does not name is gone. */
interface ResetFrame {
  type: "kv_reset";
  reason: string;
}

/** What a gateway may send. */
export type ServerFrame = WatchFrame | ResetFrame;

const known: ReadonlySet<string> = new Set<ServerFrame["type"]>([
  "kv_update",
  "kv_ready",
  "kv_stale",
  "kv_reset",
  "error",
]);

/** The frames in a message: several for a transaction, none when the message is of a kind that is not known yet. */
export function parseFrames(text: string): ServerFrame[] {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return [];
  }
  if (typeof message !== "object" || message === null || !("type" in message)) return [];
  if (message.type === "kv_transaction" && "events" in message && Array.isArray(message.events)) {
    return message.events.map((event: object) => ({ ...event, type: "kv_update" }) as ServerFrame);
  }
  return known.has(message.type as string) ? [message as ServerFrame] : [];
}
