import type { Msg, MsgHdrs } from "nats";

/** What is read of a message's headers. */
export type MessageHeaders = Pick<MsgHdrs, "get" | "code">;

/** What every header block begins with. */
const VERSION = "NATS/1.0";
const COLON = 0x3a;
const LINE_FEED = 0x0a;

/**
 * The headers of a message as they came, searched and not taken apart: the client's own make a map and check every
 * character, which costs more than all else that is done with a small message, and throw for what some clients write.
 */
class RawHeaders implements MessageHeaders {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The first value of a header, written exactly so; empty when there is none. */
  get(name: string): string {
    const text = this.#text;
    let at = text.indexOf(name);
    for (; at !== -1; at = text.indexOf(name, at + 1)) {
      const colon = at + name.length;
      if (text.charCodeAt(colon) !== COLON || text.charCodeAt(at - 1) !== LINE_FEED) continue;
      const end = text.indexOf("\r\n", colon);
      return text.slice(colon + 1, end === -1 ? undefined : end).trim();
    }
    return "";
  }

  /** The status that the message is, such as 404; 0 for none. */
  get code(): number {
    if (this.#text.charCodeAt(VERSION.length) !== 0x20) return 0;
    const code = Number.parseInt(this.#text.slice(VERSION.length, VERSION.length + 5), 10);
    return Number.isNaN(code) ? 0 : code;
  }
}

/** The client's messages know their size, but its types do not say so. */
interface SizedMessage extends Msg {
  /** Bytes of subject, reply subject, headers and payload. */
  size?(): number;
}

/** Reads a header block from its bytes. */
export function headersOfBytes(bytes: Uint8Array): MessageHeaders {
  return new RawHeaders(textOf(bytes.buffer, bytes.byteOffset, bytes.length));
}

/**
 * A message's headers; undefined when it has none, or some that cannot be read.
 *
 * The client does not give their bytes away, but they lie right before the payload's, and their length is what is left of
 * the message's. Should that ever be different, the client decodes them.
 */
export function headersOf(message: Msg): MessageHeaders | undefined {
  const { data, subject, reply = "" } = message;
  const size = (message as SizedMessage).size?.() ?? 0;
  const length = size - subject.length - reply.length - data.length;
  if (length === 0) return undefined;
  // A subject that is not ASCII has more bytes than characters.
  const headers =
    headersBefore(data, length) ??
    headersBefore(data, length + subject.length - Buffer.byteLength(subject));
  if (headers !== undefined) return headers;
  try {
    return message.headers;
  } catch {
    return undefined;
  }
}

function headersBefore(data: Uint8Array, length: number): MessageHeaders | undefined {
  if (length <= 0 || length > data.byteOffset) return undefined;
  const text = textOf(data.buffer, data.byteOffset - length, length);
  return text.startsWith(VERSION) ? new RawHeaders(text) : undefined;
}

function textOf(buffer: ArrayBufferLike, offset: number, length: number): string {
  return Buffer.from(buffer, offset, length).toString();
}
