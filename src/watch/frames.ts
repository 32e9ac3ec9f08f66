/**
 * Frames: messages to watchers, ready for their sockets. One is made once, however many sockets it goes to.
 */
import type { Entry } from "../protocol/entry.ts";
import type {
  BookmarkFrame,
  ReadyFrame,
  ResetFrame,
  ResetReason,
  StaleFrame,
} from "../protocol/messages.ts";
import { encode, encodeAsBase64 } from "../protocol/values.ts";
import type { Format, ValueForm, Wording } from "./watch.ts";

export interface Frame {
  /** Ready for the socket. */
  readonly bytes: Buffer;
  /** The keys whose state this is: later frames of the same keys replace it in an outbox that is not empty. */
  readonly keys: readonly string[];
  /** As how many entries it counts. */
  readonly entries: number;
  /** Bytes at the beginning that tell an event's position, and can be left out. */
  readonly idLength: number;
  /** A mark that a watch can do without, and has to where others still wait. */
  readonly isBookmark?: true;
}

/** How frames are written for a watch: watches with the same dialect share them. */
export interface Dialect {
  readonly format: Format;
  readonly values: ValueForm;
  /** With what every frame begins on a multiplexed socket. */
  readonly id: string | undefined;
  /** How changes are told; undefined for `kv_update`. */
  readonly wording: Wording | undefined;
  /** The same for equal dialects. */
  readonly key: string;
}

export function dialectOf(
  format: Format,
  values: ValueForm,
  id: string | undefined,
  wording?: Wording,
): Dialect {
  return { format, values, id, wording, key: JSON.stringify([format, values, id, wording?.name]) };
}

const FIN_TEXT = 0x81;
const NO_KEYS: readonly string[] = [];

/**
 * A WebSocket text frame of a server: not masked, whole, without compression.
 *
 * @example
 * socket.write(wsText('{"type":"kv_stale","reason":"…"}'));
 */
export function wsText(json: string): Buffer {
  const length = Buffer.byteLength(json);
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
  bytes.write(json, header, "utf8");
  return bytes;
}

/**
 * A server-sent event.
 *
 * @param json one JSON document; line breaks between its tokens do not matter
 * @param id what the client sends as `Last-Event-ID` when it comes again; empty makes it forget; without one it keeps the last
 */
export function sse(json: string, id?: string): Buffer {
  return Buffer.from(`${idLine(id)}data: ${json.replace(/[\r\n]+/g, " ")}\n\n`);
}

function idLine(id: string | undefined): string {
  if (id === undefined) return "";
  return id === "" ? "id:\n" : `id: ${id}\n`;
}

/**
 * A frame in a dialect.
 *
 * @param members the JSON object's members, without the braces and without the id of the watch
 * @param position what the event is called in a stream of server-sent events, if it has a name
 */
export function frameOf(
  { format, id }: Dialect,
  members: string,
  keys: readonly string[] = NO_KEYS,
  position?: string,
): Frame {
  const json = id === undefined ? `{${members}}` : `{"id":${JSON.stringify(id)},${members}}`;
  const entries = keys.length;
  if (format !== "sse") return { bytes: wsText(json), keys, entries, idLength: 0 };
  return { bytes: sse(json, position), keys, entries, idLength: idLine(position).length };
}

/** The members of a change that `kv_update` and the events of `kv_transaction` have in common. A JSON value is spliced in as stored. */
export function changeMembers(entry: Entry & { isLate?: true }, values: ValueForm): string {
  let json = `"key":${JSON.stringify(entry.key)}`;
  if (entry.operation === "put") {
    if (values !== false) {
      const value =
        values === "base64" ? encodeAsBase64(entry.value) : encode(entry.valueType, entry.value);
      json += `,"value":${value.json},"encoding":"${value.encoding}"`;
    } else {
      json += `,"size":${entry.size}`;
    }
  }
  json += `,"operation":"${entry.operation}","revision":${entry.revision},"created_at":"${entry.createdAt}"`;
  if (entry.expiresAt !== undefined) json += `,"expires_at":${JSON.stringify(entry.expiresAt)}`;
  if (entry.contentType !== undefined)
    json += `,"content_type":${JSON.stringify(entry.contentType)}`;
  if (entry.reason !== undefined) json += `,"reason":"${entry.reason}"`;
  if (entry.isLate === true) json += `,"inferred":true`;
  return json;
}

export function readyFrame(dialect: Dialect, position: string, count: number): Frame {
  const frame: ReadyFrame = { type: "kv_ready", position, count };
  return frameOf(dialect, membersOf(frame), NO_KEYS, position);
}

export function bookmarkFrame(dialect: Dialect, position: string): Frame {
  const frame: BookmarkFrame = { type: "kv_bookmark", position };
  return { ...frameOf(dialect, membersOf(frame), NO_KEYS, position), isBookmark: true };
}

/** Says that a snapshot follows. What a stream of events was called before means nothing any more. */
export function resetFrame(dialect: Dialect, reason: ResetReason): Frame {
  return frameOf(
    dialect,
    membersOf({ type: "kv_reset", reason } satisfies ResetFrame),
    NO_KEYS,
    "",
  );
}

export function staleFrame(dialect: Dialect, reason: string): Frame {
  return frameOf(dialect, membersOf({ type: "kv_stale", reason } satisfies StaleFrame));
}

function membersOf(frame: object): string {
  return JSON.stringify(frame).slice(1, -1);
}

/** The bytes of a frame that also says how many frames were replaced before it. */
export function withConflated({ bytes }: Frame, { format }: Dialect, conflated: number): Buffer {
  const member = `,"conflated":${conflated}}`;
  if (format === "sse") {
    const end = "}\n\n".length;
    return Buffer.concat([bytes.subarray(0, -end), Buffer.from(`${member}\n\n`)]);
  }
  const header = bytes[1]! < 126 ? 2 : bytes[1] === 126 ? 4 : 10;
  return wsText(bytes.toString("utf8", header, bytes.length - 1) + member);
}

/** The bytes of some frames, one behind the other. */
export function joined(frames: readonly Frame[]): Buffer {
  return frames.length === 1 ? frames[0]!.bytes : Buffer.concat(frames.map(({ bytes }) => bytes));
}
