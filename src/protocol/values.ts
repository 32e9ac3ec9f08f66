import type { Encoding, ValueType } from "./entry.ts";
import { KvError } from "./errors.ts";
import { limits } from "./limits.ts";

/** A value as a writer hands it over: its bytes and what they are. */
export interface Value {
  bytes: Uint8Array;
  /** Undefined leaves it to the reader, as values of other NATS clients do. */
  type: ValueType | undefined;
  /** The writer's media type, where it says more than the type does. */
  contentType?: string;
}

// Strict, and a byte order mark is kept: it would make stored JSON invalid when spliced into a response.
const strictUtf8 = /* @__PURE__ */ new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of valid UTF-8 bytes, else undefined. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * The value that an item of a batch or a transaction gives in JSON.
 *
 * @param encoding what `value` is: `json` (default) itself, `text` a string, `base64` bytes as a string
 * @throws KvError `invalid_request`
 */
export function valueFromJson(value: unknown, encoding: Encoding = "json"): Value {
  if (encoding === "json") return jsonValue(value);
  if (typeof value !== "string")
    throw new KvError("invalid_request", `a value with encoding "${encoding}" is a string`);
  if (encoding === "text") return { bytes: new TextEncoder().encode(value), type: "text" };
  try {
    return { bytes: bytesOfBase64(value), type: "bytes" };
  } catch (cause) {
    throw new KvError("invalid_request", "the value is not base64", { cause });
  }
}

/** A value of JSON. @throws KvError `invalid_request` when it is nested more deeply than can be written */
export function jsonValue(value: unknown): Value {
  try {
    return { bytes: new TextEncoder().encode(JSON.stringify(value)), type: "json" };
  } catch (cause) {
    throw new KvError("invalid_request", "the value is nested too deeply", { cause });
  }
}

/** A media type without its parameters, in lower case: `Text/Plain; charset=utf-8` is `text/plain`. */
function essence(mediaType: string): string {
  const end = mediaType.indexOf(";");
  return (end === -1 ? mediaType : mediaType.slice(0, end)).trim().toLowerCase();
}

/**
 * Turns a request body into a value, by its content type: `application/json` must parse and is kept as sent,
 * `text/*` is text, anything else or nothing is bytes.
 *
 * @throws KvError `invalid_json` when a JSON body does not parse, `unsupported_media_type` when the content type is
 * too long to be kept beside the value
 */
export function valueFromBody(
  bytes: Uint8Array,
  contentType: string | undefined,
): Value & { type: ValueType } {
  const declared = contentType === undefined ? "" : essence(contentType);
  // What curl says of any body when it is told nothing: it declares nothing.
  const type = declared === "application/x-www-form-urlencoded" ? "" : declared;
  if (type === "application/json") {
    const text = utf8(bytes);
    if (text === undefined) throw new KvError("invalid_json", "the value is not valid UTF-8");
    try {
      JSON.parse(text);
    } catch (cause) {
      throw new KvError(
        "invalid_json",
        "the value is not valid JSON: send text with the content type text/plain, bytes with application/octet-stream",
        { cause },
      );
    }
    return { bytes, type: "json" };
  }
  if (contentType !== undefined && contentType.length > limits.contentType) {
    throw new KvError(
      "unsupported_media_type",
      `a content type has at most ${limits.contentType} characters`,
    );
  }
  if (type.startsWith("text/")) {
    return {
      bytes,
      type: "text",
      ...(contentType === "text/plain" ? {} : { contentType: contentType! }),
    };
  }
  return {
    bytes,
    type: "bytes",
    ...(type === "" || contentType === "application/octet-stream"
      ? {}
      : { contentType: contentType! }),
  };
}

/** A media type that may stand in an HTTP header: another NATS client could have stored anything. */
const printable = /^[\x20-\x7e]+$/;

/** The media type under which a stored value is served as it is. */
export function mediaTypeOf(
  type: ValueType | undefined,
  contentType: string | undefined,
  bytes: Uint8Array,
): string {
  if (contentType !== undefined && printable.test(contentType)) return contentType;
  switch (type) {
    case "json":
      return "application/json";
    case "text":
      return "text/plain; charset=utf-8";
    case "bytes":
      return "application/octet-stream";
    case undefined:
      switch (encode(undefined, bytes).encoding) {
        case "json":
          return "application/json";
        case "text":
          return "text/plain; charset=utf-8";
        case "base64":
          return "application/octet-stream";
      }
  }
}

/** A value as a piece of JSON text, ready to be spliced into a larger document. */
export interface EncodedValue {
  encoding: Encoding;
  json: string;
}

/**
 * Writes a stored value as JSON text. Values that were declared JSON were checked when they were written and are
 * taken as they are; a value without a declared type is JSON if it parses, else text if it is UTF-8, else base64.
 */
export function encode(type: ValueType | undefined, bytes: Uint8Array): EncodedValue {
  const text = utf8(bytes);
  if (text === undefined) return encodeAsBase64(bytes);
  if (type === "json") return { encoding: "json", json: text };
  if (type === undefined && parses(text)) return { encoding: "json", json: text };
  return { encoding: "text", json: JSON.stringify(text) };
}

/** Writes any value as base64, for readers that expect it so. */
export function encodeAsBase64(bytes: Uint8Array): EncodedValue {
  return { encoding: "base64", json: `"${base64(bytes)}"` };
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Standard base64 with padding. */
export function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(binary);
}

/** The bytes of standard base64. */
export function bytesOfBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
