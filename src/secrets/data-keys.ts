import type { KeyObject } from "node:crypto";
import { isLive } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import type { Bucket } from "../store/bucket.ts";
import {
  activeKey,
  keyringValue,
  parseKeyring,
  underPrimary,
  unwrap,
  withNewKey,
  type Keyring,
  type WrappedKey,
} from "./keyring.ts";
import type { MasterKeys } from "./master-keys.ts";

/** Key of the bucket under which its keyring is stored. */
export const KEYRING = "keyring";

/** A data key, ready for use. */
export interface DataKey {
  id: string;
  key: KeyObject;
}

/** How much is encrypted with one data key. */
export interface DataKeyLimits {
  /**
   * Encryptions with one key, after which another takes its place. Random nonces allow 2^32; the default, 2^20, leaves room
   * for a keyring that was set back to an old copy.
   */
  encryptions?: number;
  /** Encryptions that a gateway reserves at a time. Default 1024. */
  block?: number;
}

const ENCRYPTIONS = 2 ** 20;
const BLOCK = 1024;

/**
 * The data keys of all environments, which gateways share through the store. Unwrapped keys are remembered; which one encrypts
 * is asked each time, so that a rotation is followed at once.
 */
export class DataKeys {
  readonly #masters: MasterKeys;
  readonly #limit: number;
  readonly #block: number;
  readonly #unwrapped = new Map<string, KeyObject>();
  /** What is left of what was reserved, by environment. */
  readonly #reserved = new Map<string, { id: string; left: number }>();

  constructor(masters: MasterKeys, limits: DataKeyLimits = {}) {
    this.#masters = masters;
    this.#limit = limits.encryptions ?? ENCRYPTIONS;
    this.#block = limits.block ?? BLOCK;
  }

  /**
   * The key to encrypt with, once. The first one of an environment is made here.
   *
   * @throws KvError `secrets_disabled` when this gateway lacks the master key that wraps it
   */
  async take(bucket: Bucket, environment: string): Promise<DataKey> {
    const keyring = await this.read(bucket, environment);
    const active = keyring && activeKey(keyring);
    const reserved = this.#reserved.get(environment);
    if (active !== undefined && reserved?.id === active.id && reserved.left > 0) {
      reserved.left -= 1;
      return { id: active.id, key: this.#forWriting(active, environment) };
    }
    return this.#reserve(bucket, environment);
  }

  /**
   * A key to decrypt with.
   *
   * @throws KvError `secret_unreadable`
   */
  async find(bucket: Bucket, environment: string, id: string): Promise<KeyObject> {
    const known = this.#unwrapped.get(`${environment}/${id}`);
    if (known !== undefined) return known;
    const keyring = await this.read(bucket, environment);
    const key = keyring?.keys.find((each) => each.id === id);
    if (key === undefined) {
      throw new KvError("secret_unreadable", `data key ${id} is not in the keyring`, {
        details: { reason: "no_data_key", data_key: id },
      });
    }
    return this.#unwrap(key, environment);
  }

  /** Makes a keyring depend on the primary master key alone, as far as possible. Gives it as it is then. */
  async turn(bucket: Bucket, environment: string): Promise<Keyring | undefined> {
    const before = await this.read(bucket, environment);
    if (before === undefined || underPrimary(before, environment, this.#masters) === before) {
      return before;
    }
    return this.#change(bucket, environment, (keyring = before) =>
      underPrimary(keyring, environment, this.#masters),
    );
  }

  /** The keyring as it is now; undefined before the first secret. @throws KvError `secret_unreadable` */
  async read(bucket: Bucket, environment: string): Promise<Keyring | undefined> {
    const entry = await bucket.latest(KEYRING);
    return isLive(entry) ? parseKeyring(environment, entry.value) : undefined;
  }

  async #reserve(bucket: Bucket, environment: string): Promise<DataKey> {
    const keyring = await this.#change(bucket, environment, (before) => {
      const active = before && activeKey(before);
      const isSpent = active === undefined || active.reserved + this.#block > this.#limit;
      const next = isSpent ? withNewKey(before, environment, this.#masters.primary) : before!;
      // Before anything is promised to a gateway that could not make use of it.
      this.#forWriting(activeKey(next)!, environment);
      return {
        ...next,
        keys: next.keys.map((key) =>
          key.id === next.active ? { ...key, reserved: key.reserved + this.#block } : key,
        ),
      };
    });
    const active = activeKey(keyring)!;
    this.#reserved.set(environment, { id: active.id, left: this.#block - 1 });
    return { id: active.id, key: this.#forWriting(active, environment) };
  }

  async #change(
    bucket: Bucket,
    environment: string,
    make: (keyring: Keyring | undefined) => Keyring,
  ): Promise<Keyring> {
    let made: Keyring | undefined;
    await bucket.replace(KEYRING, (latest) => {
      made = make(isLive(latest) ? parseKeyring(environment, latest.value) : undefined);
      return { value: keyringValue(made) };
    });
    return made!;
  }

  #forWriting(key: WrappedKey, environment: string): KeyObject {
    try {
      return this.#unwrap(key, environment);
    } catch (cause) {
      if (!(cause instanceof KvError)) throw cause;
      // To encrypt with a key of its own would make secrets that the other gateways cannot read.
      throw new KvError(
        "secrets_disabled",
        `secrets of environment "${environment}" cannot be written: ${cause.message}`,
        { ...(cause.details === undefined ? {} : { details: cause.details }), cause },
      );
    }
  }

  #unwrap(key: WrappedKey, environment: string): KeyObject {
    const place = `${environment}/${key.id}`;
    const known = this.#unwrapped.get(place);
    if (known !== undefined) return known;
    const master = this.#masters.find(key.master);
    if (master === undefined) {
      throw new KvError(
        "secret_unreadable",
        `this gateway does not have master key ${key.master}`,
        { details: { reason: "no_master_key", master_key: key.master } },
      );
    }
    const unwrapped = unwrap(key, environment, master);
    if (unwrapped === undefined) {
      throw new KvError("secret_unreadable", `data key ${key.id} was changed`, {
        details: { reason: "damaged_data_key", data_key: key.id },
      });
    }
    this.#unwrapped.set(place, unwrapped);
    return unwrapped;
  }
}
