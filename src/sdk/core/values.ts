import type { Encoding } from "../../protocol/entry.ts";
import { base64, bytesOfBase64 } from "../../protocol/values.ts";

/** A value as a request carries it. */
export interface ValueBody {
  body: string | Uint8Array<ArrayBuffer>;
  contentType: string;
}

/**
 * Text goes as `text/plain`, bytes go as `application/octet-stream`, everything else as JSON.
 *
 * @throws TypeError for what JSON cannot say: undefined, functions, symbols, BigInt, cycles
 */
export function bodyOf(value: unknown): ValueBody {
  if (typeof value === "string") return { body: value, contentType: "text/plain" };
  const bytes = bytesIn(value);
  if (bytes !== undefined) return { body: bytes, contentType: "application/octet-stream" };
  return jsonBodyOf(value);
}

/** A request's parameters as JSON. @throws TypeError as {@link bodyOf} does */
export function jsonBodyOf(value: unknown, contentType = "application/json"): ValueBody {
  return jsonBody(jsonTextOf(value), contentType);
}

/** JSON that is written already. */
export function jsonBody(json: string, contentType = "application/json"): ValueBody {
  return { body: json, contentType };
}

/**
 * The JSON of an item that carries a value of any kind among its fields.
 *
 * @throws TypeError as {@link bodyOf} does
 */
export function jsonOf(fields: object, value: unknown): string {
  const { body, contentType } = bodyOf(value);
  let encoding: Encoding | undefined;
  let json = body;
  if (typeof json !== "string") {
    encoding = "base64";
    json = JSON.stringify(base64(json));
  } else if (contentType === "text/plain") {
    encoding = "text";
    json = JSON.stringify(json);
  }
  return `${JSON.stringify({ ...fields, encoding }).slice(0, -1)},"value":${json}}`;
}

/** @throws TypeError for what JSON cannot say */
function jsonTextOf(value: unknown): string {
  // The type of stringify hides that it returns undefined for what it cannot say.
  const json = JSON.stringify(value) as string | undefined;
  if (json === undefined) {
    const hint = value === undefined ? "; use null, or delete the key" : "";
    throw new TypeError(`${typeof value} cannot be stored as a value${hint}`);
  }
  return json;
}

function bytesIn(value: unknown): Uint8Array<ArrayBuffer> | undefined {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (!ArrayBuffer.isView(value)) return undefined;
  const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  // Shared memory cannot be sent, and somebody may be writing to it.
  return value.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : bytes.slice();
}

/** The value of an entry, from the form in which it travels in JSON. */
export function valueOf(value: unknown, encoding: Encoding | undefined): unknown {
  return encoding === "base64" ? bytesOfBase64(value as string) : value;
}

/**
 * The bytes of a value, however it was read: bytes that happen to be valid UTF-8 are read back as text, since the
 * server cannot tell them from it. For a value stored as JSON these are the bytes of equal JSON.
 *
 * @example
 * await bucket.put("logo", bytes);
 * const logo = bytesOf(await bucket.get("logo"));
 */
export function bytesOf(entry: { value: unknown; encoding: Encoding }): Uint8Array {
  if (entry.value instanceof Uint8Array) return entry.value;
  const text = entry.encoding === "text" ? (entry.value as string) : JSON.stringify(entry.value);
  return new TextEncoder().encode(text);
}
