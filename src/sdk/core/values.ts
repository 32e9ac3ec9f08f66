import type { Encoding } from "../../protocol/entry.ts";
import { bytesOfBase64 } from "../../protocol/values.ts";

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
  // The type of stringify hides that it returns undefined for what it cannot say.
  const json = JSON.stringify(value) as string | undefined;
  if (json === undefined) {
    const hint = value === undefined ? "; use null, or delete the key" : "";
    throw new TypeError(`${typeof value} cannot be stored as a value${hint}`);
  }
  return { body: json, contentType: "application/json" };
}

function bytesIn(value: unknown): Uint8Array<ArrayBuffer> | undefined {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (!ArrayBuffer.isView(value)) return undefined;
  // Shared memory cannot be sent, and somebody may be writing to it.
  return value.buffer instanceof ArrayBuffer
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
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
