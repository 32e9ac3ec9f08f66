import { isLive, type Entry, type LiveEntry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { parsePattern } from "../protocol/keys.ts";
import type { SecretInfo, SecretValue } from "../protocol/messages.ts";
import { utf8, type Value } from "../protocol/values.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import { isWrongRevision } from "../store/errors.ts";
import type { ValueExtras } from "../store/stored-message.ts";
import { turnsOf } from "../store/turns.ts";
import { DataKeys, type DataKeyLimits } from "./data-keys.ts";
import { headerOf, seal, unseal, type Place } from "./envelope.ts";
import type { MasterKeys } from "./master-keys.ts";
import { rotate, type Rotation, type RotationProgress } from "./rotation.ts";
import {
  described,
  infoFrom,
  infoOf,
  keptByNewValue,
  keptWithValue,
  nameOf,
  PREFIX,
  setAtOf,
} from "./stored-secret.ts";

const BUCKET = "SYS_secrets_";
const everySecret = parsePattern(`${PREFIX}>`);
/** Attempts to rename a secret that others change meanwhile. */
const ATTEMPTS = 32;

/** What is stored with the value of a secret. */
export interface SecretOptions {
  /** Not encrypted. Without one, that of the secret stays; an empty one is none. */
  description?: string | undefined;
  /** Seconds, whole, after which the secret is gone. Without it it stays for good. */
  ttl?: number | undefined;
  /** A writer's own name for what the text is, `json` for instance. Not encrypted, but the value cannot be read under another. */
  label?: string | undefined;
}

/** A secret with its value. */
export interface OpenSecret {
  info: SecretInfo;
  value: string;
  label?: string;
}

/** What a secret is changed to; what is not named stays. */
export interface SecretChange {
  name?: string | undefined;
  /** An empty one is none. */
  description?: string | undefined;
}

/**
 * Secrets: texts that are stored encrypted, by environment and name. Whoever manages them sees what is known of them; their
 * values come out of {@link reveal} alone.
 *
 * All methods reject with KvError `store_unavailable` when NATS is away, those that write also with `secrets_disabled` when
 * this gateway lacks the master key that is in use.
 */
export class Secrets {
  readonly #buckets: Buckets;
  readonly #keys: DataKeys;

  constructor(buckets: Buckets, masters: MasterKeys, limits?: DataKeyLimits) {
    this.#buckets = buckets;
    this.#keys = new DataKeys(masters, limits);
  }

  /** The environments that have had a secret, sorted. */
  async environments(): Promise<string[]> {
    const names = await this.#buckets.systemNames(BUCKET);
    return names.map((name) => name.slice(BUCKET.length));
  }

  /** What is known of all secrets, sorted by name. Needs no key. */
  async list(environment: string): Promise<SecretInfo[]> {
    return (await this.#entries(environment)).map(infoOf);
  }

  /** What is known of a secret. Needs no key. @throws KvError `secret_not_found` */
  async info(environment: string, name: string): Promise<SecretInfo> {
    return infoOf(await this.#find(environment, name));
  }

  /**
   * The value of a secret.
   *
   * @throws KvError `secret_not_found`, `secret_unreadable` when the key for it is missing, or it was tampered with
   */
  async reveal(environment: string, name: string): Promise<SecretValue> {
    const { value, info } = await this.open(environment, name);
    return { name, value, revision: info.revision };
  }

  /** The value of a secret, and what is known of it. @throws KvError as {@link reveal} */
  async open(environment: string, name: string): Promise<OpenSecret> {
    const found = await this.#read(environment, async (bucket) => {
      const entry = await bucket.latest(PREFIX + name);
      return isLive(entry) ? await this.#openText(bucket, environment, entry) : undefined;
    });
    if (found === undefined) throw notFound(name);
    return found;
  }

  /** Stores a secret under a name that is free. @throws KvError `secret_exists` */
  async create(
    environment: string,
    name: string,
    value: string,
    options: SecretOptions = {},
  ): Promise<SecretInfo> {
    const { info } = await this.#store(environment, name, value, options, (latest) => {
      if (isLive(latest)) throw exists(name);
    });
    return info;
  }

  /** Stores a secret, whether there is one of that name or not. */
  async set(
    environment: string,
    name: string,
    value: string,
    options: SecretOptions = {},
  ): Promise<SecretInfo> {
    return (await this.#store(environment, name, value, options)).info;
  }

  /**
   * As {@link set}, and gives what the new secret replaced; undefined when there was none.
   *
   * @throws KvError `secret_unreadable` when that cannot be read; the new one is stored all the same
   */
  async exchange(
    environment: string,
    name: string,
    value: string,
    options: SecretOptions = {},
  ): Promise<OpenSecret | undefined> {
    const { bucket, previous } = await this.#store(environment, name, value, options);
    return isLive(previous) ? this.#openText(bucket, environment, previous) : undefined;
  }

  #store(
    environment: string,
    name: string,
    value: string,
    { description, ttl, label }: SecretOptions,
    check?: (latest: Entry | undefined) => void,
  ): Promise<{ bucket: Bucket; info: SecretInfo; previous: Entry | undefined }> {
    return this.#write(environment, async (bucket) => {
      const setAt = Date.now();
      const sealed = await this.#seal(bucket, { environment, name, label }, setAt, value);
      let extras: ValueExtras = {};
      const { revision, expiresAt, previous } = await turnsOf(bucket).take(name, () =>
        bucket.replace(PREFIX + name, (latest) => {
          check?.(latest);
          extras = isLive(latest)
            ? keptByNewValue(latest, description)
            : { firstCreatedAt: new Date(setAt).toISOString(), ...described(description) };
          if (ttl !== undefined) extras.ttl = ttl;
          if (label !== undefined) extras.label = label;
          return { value: sealed, extras };
        }),
      );
      if (expiresAt !== undefined) extras.expiresAt = expiresAt;
      return { bucket, info: infoFrom(name, revision, setAt, extras), previous };
    });
  }

  /**
   * Gives a secret another name or description; the value stays. A rename is one step: at no time is there no secret, or two.
   *
   * @throws KvError `secret_not_found`, `secret_exists` when the new name is taken, `secret_unreadable`; `unsupported` for a
   * rename when the NATS server is too old for transactions
   */
  async change(environment: string, name: string, change: SecretChange): Promise<SecretInfo> {
    const { name: newName = name, description } = change;
    const changed = await this.#read(environment, (bucket) =>
      newName === name
        ? this.#describe(bucket, name, description)
        : this.#rename(bucket, environment, name, newName, description),
    );
    if (changed === undefined) throw notFound(name);
    return changed;
  }

  /** Deletes a secret with what is stored of it. Nothing happens when there is none. */
  async delete(environment: string, name: string): Promise<void> {
    await this.#read(environment, (bucket) => bucket.delete(PREFIX + name, { purge: true }));
  }

  /**
   * Brings an environment under the primary master key: its data keys are wrapped by it, in one step, and every secret under a
   * data key from before is encrypted anew, while others read and write. It can be ended at any time and run again, also by
   * several at once; when it is complete nothing depends on any other master key.
   *
   * @param onProgress called after each secret; what it throws ends the rotation
   */
  async rotate(environment: string, onProgress?: RotationProgress): Promise<Rotation> {
    const rotation = await this.#read(environment, (bucket) =>
      rotate(
        {
          turn: () => this.#keys.turn(bucket, environment),
          stored: async () =>
            (await this.#entries(environment)).map((entry) => ({
              name: nameOf(entry),
              keyId: headerOf(entry.value)?.keyId,
            })),
          renew: (name, isFresh) => this.#renew(bucket, environment, name, isFresh),
        },
        onProgress,
      ),
    );
    return rotation ?? { total: 0, renewed: 0, failed: [] };
  }

  /** Encrypts a secret anew unless it is under a fresh data key. @returns whether it was */
  async #renew(
    bucket: Bucket,
    environment: string,
    name: string,
    isFresh: (keyId: string) => boolean,
  ): Promise<boolean> {
    for (;;) {
      const entry = await bucket.latest(PREFIX + name);
      if (!isLive(entry)) return false;
      const header = headerOf(entry.value);
      if (header !== undefined && isFresh(header.keyId)) return false;
      const value = await this.#open(bucket, environment, entry);
      const place = { environment, name, label: entry.label };
      const sealed = await this.#seal(bucket, place, setAtOf(entry), value);
      try {
        await bucket.put(PREFIX + name, sealed, {
          ...keptWithValue(bucket, entry),
          condition: { kind: "revision", revision: entry.revision },
        });
        return true;
      } catch (error) {
        // Somebody has set it meanwhile: look at what it is now.
        if (!(error instanceof KvError && error.code === "revision_mismatch")) throw error;
      }
    }
  }

  async #describe(
    bucket: Bucket,
    name: string,
    description: string | undefined,
  ): Promise<SecretInfo | undefined> {
    let info: SecretInfo | undefined;
    const { revision } = await bucket.replace(PREFIX + name, (latest) => {
      if (!isLive(latest)) throw notFound(name);
      const extras = keptWithValue(bucket, latest, description);
      info = infoFrom(name, 0, setAtOf(latest), extras);
      return { value: { bytes: latest.value, type: "bytes" }, extras };
    });
    return info && { ...info, revision };
  }

  async #rename(
    bucket: Bucket,
    environment: string,
    name: string,
    newName: string,
    description: string | undefined,
  ): Promise<SecretInfo | undefined> {
    for (let attempt = 1; ; attempt++) {
      const [entry, target] = await Promise.all([
        bucket.latest(PREFIX + name),
        bucket.latest(PREFIX + newName),
      ]);
      if (!isLive(entry)) return undefined;
      if (isLive(target)) throw exists(newName);
      const value = await this.#open(bucket, environment, entry);
      const setAt = setAtOf(entry);
      // The name is a part of what is authenticated.
      const place = { environment, name: newName, label: entry.label };
      const sealed = await this.#seal(bucket, place, setAt, value);
      const extras = keptWithValue(bucket, entry, description);
      try {
        const revision = await bucket.publishBatch([
          bucket.messages.value(PREFIX + newName, sealed, extras, target?.revision ?? 0),
          bucket.messages.tombstone(PREFIX + name, true, entry.revision),
        ]);
        return infoFrom(newName, revision, setAt, extras);
      } catch (error) {
        if (!isWrongRevision(error)) throw error;
        if (attempt === ATTEMPTS) {
          throw new KvError("store_unavailable", "others change the secret all the time", {
            retryAfter: 1,
            cause: error,
          });
        }
      }
    }
  }

  /** Encrypts a value; one that is given as bytes is wiped. */
  async #seal(bucket: Bucket, place: Place, setAt: number, value: string | Buffer): Promise<Value> {
    const { id: keyId, key } = await this.#keys.take(bucket, place.environment);
    const plain = typeof value === "string" ? Buffer.from(value) : value;
    const bytes = seal(key, { keyId, setAt }, place, plain);
    plain.fill(0);
    return { bytes, type: "bytes" };
  }

  async #open(bucket: Bucket, environment: string, entry: LiveEntry): Promise<Buffer> {
    const name = nameOf(entry);
    const header = headerOf(entry.value);
    if (header === undefined) throw unreadable(name, "it is not in a format that is known here");
    let value: Buffer | undefined;
    try {
      const key = await this.#keys.find(bucket, environment, header.keyId);
      value = unseal(key, { environment, name, label: entry.label }, entry.value);
    } catch (cause) {
      if (!(cause instanceof KvError && cause.code === "secret_unreadable")) throw cause;
      throw unreadable(name, cause.message, cause.details);
    }
    if (value === undefined) {
      throw unreadable(name, "it was changed or moved outside of jetbucket", {
        reason: "tampered",
      });
    }
    return value;
  }

  async #openText(bucket: Bucket, environment: string, entry: LiveEntry): Promise<OpenSecret> {
    const bytes = await this.#open(bucket, environment, entry);
    const value = utf8(bytes);
    bytes.fill(0);
    if (value === undefined) throw unreadable(nameOf(entry), "it is not text");
    const { label } = entry;
    return { info: infoOf(entry), value, ...(label === undefined ? {} : { label }) };
  }

  async #find(environment: string, name: string): Promise<LiveEntry> {
    const entry = await this.#read(environment, (bucket) => bucket.latest(PREFIX + name));
    if (!isLive(entry)) throw notFound(name);
    return entry;
  }

  #entries(environment: string): Promise<LiveEntry[]> {
    return this.#buckets.systemEntries(BUCKET + environment, everySecret);
  }

  #read<T>(environment: string, read: (bucket: Bucket) => Promise<T>): Promise<T | undefined> {
    return this.#buckets.readSystem(BUCKET + environment, read);
  }

  #write<T>(environment: string, write: (bucket: Bucket) => Promise<T>): Promise<T> {
    return this.#buckets.writeSystem(BUCKET + environment, write);
  }
}

function notFound(name: string): KvError {
  return new KvError("secret_not_found", `secret "${name}" does not exist`);
}

function exists(name: string): KvError {
  return new KvError("secret_exists", `secret "${name}" exists already`);
}

function unreadable(
  name: string,
  why: string,
  details: Record<string, unknown> = { reason: "unknown_format" },
): KvError {
  return new KvError("secret_unreadable", `secret "${name}" cannot be read: ${why}`, {
    details: { name, ...details },
  });
}
