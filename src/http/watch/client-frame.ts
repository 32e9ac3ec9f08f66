import { limits } from "../../protocol/limits.ts";

/** A frame of a client, of which so much is sure: what it wants, and for which watch. */
export type ClientFrame =
  | { type: "watch"; id: string; /** All of it, to be checked. */ request: unknown }
  | { type: "unwatch"; id: string };

const acceptableId = new RegExp(`^[\\x20-\\x7e]{1,${limits.watchId}}$`);

/**
 * Reads a frame of a multiplexed socket's client.
 *
 * @returns undefined when it has no id to answer to, or is of a type that is not known
 */
export function parseClientFrame(text: string): ClientFrame | undefined {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof frame !== "object" || frame === null) return undefined;
  const { type, id } = frame as { type?: unknown; id?: unknown };
  if (typeof id !== "string" || !acceptableId.test(id)) return undefined;
  if (type === "watch") return { type, id, request: frame };
  return type === "unwatch" ? { type, id } : undefined;
}
