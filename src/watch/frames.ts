import type { Entry } from "../protocol/entry.ts";
import type { ErrorCode } from "../protocol/errors.ts";
import type { ErrorFrame, ReadyFrame, StaleFrame } from "../protocol/messages.ts";
import { encode } from "../protocol/values.ts";

/**
 * A message to watchers as the bytes of one WebSocket text frame. It is made once, however many sockets it goes to.
 */
export interface Frame {
  /** Header and payload, ready for the socket. */
  readonly bytes: Buffer;
  /** The key whose state this is: a later frame of the same key replaces it in a full outbox. */
  readonly key: string | undefined;
}

const FIN_TEXT = 0x81;

function frame(payload: string, key?: string): Frame {
  const length = Buffer.byteLength(payload);
  const header = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const bytes = Buffer.allocUnsafe(header + length);
  bytes[0] = FIN_TEXT;
  if (header === 2) {
    bytes[1] = length;
  } else if (header === 4) {
    bytes[1] = 126;
    bytes.writeUInt16BE(length, 2);
  } else {
    bytes[1] = 127;
    bytes.writeBigUInt64BE(BigInt(length), 2);
  }
  bytes.write(payload, header, "utf8");
  return { bytes, key };
}

/** The `kv_update` of an entry. A JSON value is spliced in as it is stored, without parsing it. */
export function updateFrame(bucket: string, entry: Entry): Frame {
  let json = `{"type":"kv_update","bucket":"${bucket}","key":${JSON.stringify(entry.key)}`;
  if (entry.operation === "put") {
    const value = encode(entry.valueType, entry.value);
    json += `,"value":${value.json},"encoding":"${value.encoding}"`;
  }
  json += `,"operation":"${entry.operation}","revision":${entry.revision},"created_at":"${entry.createdAt}"`;
  if (entry.expiresAt !== undefined) json += `,"expires_at":${JSON.stringify(entry.expiresAt)}`;
  if (entry.contentType !== undefined)
    json += `,"content_type":${JSON.stringify(entry.contentType)}`;
  if (entry.reason !== undefined) json += `,"reason":"${entry.reason}"`;
  return frame(`${json}}`, entry.key);
}

export function readyFrame(position: string, count: number): Frame {
  return frame(JSON.stringify({ type: "kv_ready", position, count } satisfies ReadyFrame));
}

export function staleFrame(reason: string): Frame {
  return frame(JSON.stringify({ type: "kv_stale", reason } satisfies StaleFrame));
}

export function errorFrame(code: ErrorCode, message: string): Frame {
  return frame(JSON.stringify({ type: "error", message, code } satisfies ErrorFrame));
}
