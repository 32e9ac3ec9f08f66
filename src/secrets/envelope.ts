/**
 * How a secret is stored. Version 1, in bytes:
 *
 *     0   3   "JBS"
 *     3   1   version: 1
 *     4   8   id of the data key
 *    12   6   when the value was set: milliseconds since 1970, big-endian
 *    18  12   nonce
 *    30   n   ciphertext, AES-256-GCM
 *  30+n  16   tag
 *
 * Additional data: the bytes before the nonce, the environment in UTF-8, a zero byte, the name in UTF-8; where the value has a
 * label, a zero byte and that in UTF-8. So every byte is authenticated, and so is the place where they lie.
 */
import { createCipheriv, createDecipheriv, randomBytes, type KeyObject } from "node:crypto";

/** Where a secret belongs. No part has a zero byte, so that they cannot be confused when they are joined. */
export interface Place {
  environment: string;
  name: string;
  /** What its writer calls the value, where it does. */
  label?: string | undefined;
}

/** What can be said of a stored secret without its key. */
export interface EnvelopeHeader {
  /** Sixteen hex digits. */
  keyId: string;
  /** When the value was set, in milliseconds since 1970. */
  setAt: number;
}

const MAGIC = Buffer.from([...Buffer.from("JBS"), 1]);
const KEY_ID = { start: MAGIC.length, length: 8 };
const SET_AT = { start: KEY_ID.start + KEY_ID.length, length: 6 };
const HEADER = SET_AT.start + SET_AT.length;
const NONCE = 12;
const TAG = 16;

/** Encrypts a value for a place, with a nonce that is drawn for it. */
export function seal(
  key: KeyObject,
  header: EnvelopeHeader,
  place: Place,
  value: Uint8Array,
): Uint8Array {
  return sealWith(randomBytes(NONCE), key, header, place, value);
}

/** As {@link seal}, with a given nonce. Only for test vectors: a nonce that is used twice gives the key away. */
export function sealWith(
  nonce: Uint8Array,
  key: KeyObject,
  { keyId, setAt }: EnvelopeHeader,
  place: Place,
  value: Uint8Array,
): Uint8Array {
  const header = Buffer.alloc(HEADER);
  MAGIC.copy(header);
  header.write(keyId, KEY_ID.start, KEY_ID.length, "hex");
  header.writeUIntBE(setAt, SET_AT.start, SET_AT.length);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG });
  cipher.setAAD(additionalData(header, place));
  return Buffer.concat([header, nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
}

/** Reads what stands before the nonce; undefined when it is no envelope of a known version. */
export function headerOf(bytes: Uint8Array): EnvelopeHeader | undefined {
  const buffer = view(bytes);
  if (buffer.length < HEADER + NONCE + TAG) return undefined;
  if (!buffer.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  return {
    keyId: buffer.toString("hex", KEY_ID.start, SET_AT.start),
    setAt: buffer.readUIntBE(SET_AT.start, SET_AT.length),
  };
}

/**
 * Decrypts an envelope whose header could be read.
 *
 * @returns undefined when it was changed, comes from another place, or was encrypted with another key
 */
export function unseal(key: KeyObject, place: Place, bytes: Uint8Array): Buffer | undefined {
  const buffer = view(bytes);
  const header = buffer.subarray(0, HEADER);
  const nonce = buffer.subarray(HEADER, HEADER + NONCE);
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG });
  decipher.setAAD(additionalData(header, place));
  decipher.setAuthTag(buffer.subarray(-TAG));
  const value = decipher.update(buffer.subarray(HEADER + NONCE, -TAG));
  try {
    decipher.final();
    return value;
  } catch {
    value.fill(0);
    return undefined;
  }
}

function additionalData(header: Uint8Array, { environment, name, label }: Place): Buffer {
  const place = label === undefined ? [environment, name] : [environment, name, label];
  return Buffer.concat([header, Buffer.from(place.join("\0"))]);
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
