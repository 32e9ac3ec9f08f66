/**
 * The data keys of an environment, each wrapped by a master key: one JSON document in the environment's bucket, changed by
 * compare-and-swap, so that all gateways agree on it.
 *
 * A key is never taken out: a gateway that read the document before may be about to store something encrypted with it.
 */
import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  randomBytes,
  type KeyObject,
} from "node:crypto";
import { z } from "zod";
import { KvError } from "../protocol/errors.ts";
import { jsonValue, utf8, type Value } from "../protocol/values.ts";
import type { MasterKey, MasterKeys } from "./master-keys.ts";

const hex = (bytes: number): z.ZodString =>
  z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));

const KEY = 32;
const NONCE = 12;
const TAG = 16;

const dataKeySchema = z.object({
  id: hex(8),
  /** Id of the master key that wraps it. */
  master: hex(4),
  nonce: hex(NONCE),
  wrapped: hex(KEY + TAG),
  /** Encryptions that gateways have been allowed; those that were made are as many or fewer. */
  reserved: z.int().min(0),
  created_at: z.string(),
  /** Its master key was replaced: what is encrypted with it is to be encrypted anew. */
  retired: z.literal(true).optional(),
});

const keyringSchema = z.object({
  version: z.literal(1),
  /** Id of the key that encrypts. */
  active: hex(8),
  keys: z.array(dataKeySchema).min(1),
});

/** A data key as it is stored. */
export type WrappedKey = z.infer<typeof dataKeySchema>;
export type Keyring = z.infer<typeof keyringSchema>;

/** Reads a stored keyring. @throws KvError `secret_unreadable` */
export function parseKeyring(environment: string, bytes: Uint8Array): Keyring {
  const parsed = keyringSchema.safeParse(jsonOf(bytes));
  if (parsed.success && activeKey(parsed.data) !== undefined) return parsed.data;
  throw new KvError(
    "secret_unreadable",
    `the keyring of environment "${environment}" is damaged, or a newer jetbucket wrote it`,
    { details: { reason: "damaged_keyring" } },
  );
}

export function keyringValue(keyring: Keyring): Value {
  return jsonValue(keyring);
}

/** The key that encrypts. */
export function activeKey({ active, keys }: Keyring): WrappedKey | undefined {
  return keys.find(({ id }) => id === active);
}

/** A keyring with one more key, which is the active one from now on. */
export function withNewKey(
  keyring: Keyring | undefined,
  environment: string,
  master: MasterKey,
): Keyring {
  const id = randomBytes(8).toString("hex");
  const raw = randomBytes(KEY);
  const key: WrappedKey = {
    id,
    ...wrap(raw, environment, id, master),
    reserved: 0,
    created_at: new Date().toISOString(),
  };
  raw.fill(0);
  return { version: 1, active: id, keys: [...(keyring?.keys ?? []), key] };
}

/**
 * A keyring that depends on the primary master key alone: every other key that can be unwrapped is wrapped by it, and
 * retired; if the active key is among them, a new one takes its place. The same keyring when there is nothing to do.
 */
export function underPrimary(keyring: Keyring, environment: string, masters: MasterKeys): Keyring {
  const { primary } = masters;
  const keys = keyring.keys.map((key): WrappedKey => {
    if (key.master === primary.id) return key;
    const master = masters.find(key.master);
    const raw = master && unwrapRaw(key, environment, master);
    if (raw === undefined) return key.retired === true ? key : { ...key, retired: true };
    const rewrapped = wrap(raw, environment, key.id, primary);
    raw.fill(0);
    return { ...key, ...rewrapped, retired: true };
  });
  if (keys.every((key, i) => key === keyring.keys[i])) return keyring;
  const next = { ...keyring, keys };
  return activeKey(next)?.retired === true ? withNewKey(next, environment, primary) : next;
}

/** The key itself; undefined when it was changed, or belongs to another environment. */
export function unwrap(
  key: WrappedKey,
  environment: string,
  master: MasterKey,
): KeyObject | undefined {
  const raw = unwrapRaw(key, environment, master);
  if (raw === undefined) return undefined;
  // Held outside of JavaScript's heap, and not shown when it is printed.
  const unwrapped = createSecretKey(raw);
  raw.fill(0);
  return unwrapped;
}

function wrap(
  raw: Buffer,
  environment: string,
  id: string,
  master: MasterKey,
): Pick<WrappedKey, "master" | "nonce" | "wrapped"> {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv("aes-256-gcm", master.key, nonce, { authTagLength: TAG });
  cipher.setAAD(additionalData(environment, id, master.id));
  const wrapped = Buffer.concat([cipher.update(raw), cipher.final(), cipher.getAuthTag()]);
  return { master: master.id, nonce: nonce.toString("hex"), wrapped: wrapped.toString("hex") };
}

function unwrapRaw(
  { id, nonce, wrapped }: WrappedKey,
  environment: string,
  master: MasterKey,
): Buffer | undefined {
  const bytes = Buffer.from(wrapped, "hex");
  const decipher = createDecipheriv("aes-256-gcm", master.key, Buffer.from(nonce, "hex"), {
    authTagLength: TAG,
  });
  decipher.setAAD(additionalData(environment, id, master.id));
  decipher.setAuthTag(bytes.subarray(-TAG));
  const raw = decipher.update(bytes.subarray(0, -TAG));
  try {
    decipher.final();
    return raw;
  } catch {
    raw.fill(0);
    return undefined;
  }
}

/** None of the parts can hold a zero byte. */
function additionalData(environment: string, id: string, master: string): Buffer {
  return Buffer.from(["jetbucket data key 1", environment, id, master].join("\0"));
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8(bytes) ?? "");
  } catch {
    return undefined;
  }
}
