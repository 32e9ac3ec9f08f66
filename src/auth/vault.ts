/**
 * The secrets of the gateway itself, in one document that all gateways share and change by compare-and-swap: the pepper of the hashes
 * of API keys, and the keys that sign tokens.
 */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  randomBytes,
  type KeyObject,
} from "node:crypto";
import { z } from "zod";
import { KvError } from "../protocol/errors.ts";
import { isLive, type Entry } from "../protocol/entry.ts";
import { jsonValue, utf8 } from "../protocol/values.ts";
import { sealedSchema, type Sealed, type Sealer } from "../secrets/sealer.ts";
import type { Bucket } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";

/** The bucket of all that access is about. */
export const AUTH_BUCKET = "SYS_auth";
/** The key of it that this document has. */
export const VAULT = "vault";

const DAY = 24 * 60 * 60 * 1000;
/** For how long a key signs before the next one takes its place, in milliseconds. */
const SIGNING_PERIOD = 7 * DAY;
/** For how long it is known after that: longer than any token that it has signed lives. */
const SIGNING_REST = 2 * DAY;
/** Nobody makes this gateway read the store more often than this by unknown key ids, in milliseconds. */
const LOOK_INTERVAL = 1_000;

const signingKeySchema = z.object({
  kid: z.string(),
  /** PKCS #8. The public key is read out of it: one that lay open could be somebody else's. */
  private: sealedSchema,
  created_at: z.string(),
});
const vaultSchema = z.object({
  version: z.literal(1),
  pepper: sealedSchema,
  /** The oldest first. The last one signs. */
  signing: z.array(signingKeySchema),
});
type Document = z.infer<typeof vaultSchema>;
type StoredSigningKey = z.infer<typeof signingKeySchema>;

/** A key that signs tokens. */
export interface SigningKey {
  kid: string;
  key: KeyObject;
}

export interface VaultOptions {
  /** Milliseconds for which a signing key is used. Default: a week. */
  signingPeriod?: number;
}

/** All methods reject with KvError `store_unavailable` when NATS is away. */
export class Vault {
  readonly #buckets: Buckets;
  readonly #sealer: Sealer;
  readonly #signingPeriod: number;
  #document: Document | undefined;
  #pepper: { sealed: Sealed; key: KeyObject } | undefined;
  readonly #publicKeys = new Map<string, KeyObject>();
  #signer: SigningKey | undefined;
  #lastLook = 0;
  #looking: Promise<void> | undefined;

  constructor(buckets: Buckets, sealer: Sealer, options: VaultOptions = {}) {
    this.#buckets = buckets;
    this.#sealer = sealer;
    this.#signingPeriod = options.signingPeriod ?? SIGNING_PERIOD;
  }

  /** Takes note of the document as it is in the store now; undefined when there is none. */
  take(entry: Entry | undefined): void {
    this.#adopt(isLive(entry) ? parse(entry.value) : undefined);
  }

  /**
   * A keyed hash, to be compared with one that is stored.
   *
   * @returns undefined as long as nothing was ever hashed
   * @throws KvError `secrets_disabled` when this gateway lacks the master key that is needed
   */
  hash(text: string): Buffer | undefined {
    if (this.#document === undefined) return undefined;
    const { pepper } = this.#document;
    if (this.#pepper?.sealed !== pepper) {
      const opened = this.#sealer.open("pepper", pepper);
      if (opened === undefined) throw unreadable(pepper);
      this.#pepper = { sealed: pepper, key: createSecretKey(opened) };
      opened.fill(0);
    }
    return createHmac("sha256", this.#pepper.key).update(text).digest();
  }

  /** As {@link hash}, also when it is the first one. */
  async firstHash(text: string): Promise<Buffer> {
    if (this.#document === undefined) await this.#change((document) => document);
    return this.hash(text)!;
  }

  /** The key that signs now. One that has served its time is replaced here. */
  async signer(): Promise<SigningKey> {
    const last = this.#document?.signing.at(-1);
    if (last !== undefined && !this.#isSpent(last)) {
      if (this.#signer?.kid === last.kid) return this.#signer;
      const opened = this.#open(last);
      if (opened !== undefined) return (this.#signer = opened);
    }
    await this.#change((document) => {
      const latest = document.signing.at(-1);
      const isGood =
        latest !== undefined && !this.#isSpent(latest) && this.#open(latest) !== undefined;
      if (isGood) return document;
      return { ...document, signing: [...this.#stillNeeded(document.signing), this.#newKey()] };
    });
    const made = this.#document?.signing.at(-1);
    const opened = made && this.#open(made);
    if (opened === undefined) throw damaged();
    return (this.#signer = opened);
  }

  /** A key to verify with. One that is not known here may have been made by another gateway just now. */
  async publicKey(kid: string): Promise<KeyObject | undefined> {
    if (!this.#publicKeys.has(kid)) await this.#look();
    return this.#publicKeys.get(kid);
  }

  /** Encrypts everything that can be read by the primary master key. @returns whether there was anything to do */
  async reseal(): Promise<boolean> {
    await this.#look(true);
    const document = this.#document;
    if (document === undefined || this.#isFresh(document)) return false;
    await this.#change((latest) => (this.#isFresh(latest) ? latest : this.#resealed(latest)));
    return true;
  }

  /** Changes the document, which is made when there is none, unless somebody else has done so already. */
  async #change(make: (document: Document) => Document): Promise<void> {
    let entry: Document | undefined;
    await this.#buckets.writeSystem(AUTH_BUCKET, async (bucket: Bucket) => {
      const latest = await bucket.latest(VAULT);
      const before = isLive(latest) ? parse(latest.value) : undefined;
      const first = before ?? this.#newDocument();
      if (before !== undefined && make(before) === before) {
        entry = before;
        return;
      }
      await bucket.replace(VAULT, (found) => {
        entry = make(isLive(found) ? parse(found.value) : first);
        return { value: jsonValue(entry) };
      });
    });
    this.#adopt(entry);
  }

  /** Reads the document anew, not too often. */
  async #look(now = false): Promise<void> {
    if (this.#looking === undefined) {
      if (!now && Date.now() - this.#lastLook < LOOK_INTERVAL) return;
      this.#lastLook = Date.now();
      this.#looking = this.#buckets
        .readSystem(AUTH_BUCKET, (bucket) => bucket.latest(VAULT))
        .then((entry) => this.take(entry))
        .finally(() => (this.#looking = undefined));
    }
    await this.#looking;
  }

  #adopt(document: Document | undefined): void {
    this.#document = document;
    this.#signer = undefined;
    this.#publicKeys.clear();
    for (const stored of document?.signing ?? []) {
      const opened = this.#open(stored);
      if (opened !== undefined) this.#publicKeys.set(stored.kid, createPublicKey(opened.key));
    }
  }

  #newDocument(): Document {
    return { version: 1, pepper: this.#sealer.seal("pepper", randomBytes(32)), signing: [] };
  }

  #newKey(): StoredSigningKey {
    const { privateKey } = generateKeyPairSync("ed25519");
    const kid = randomBytes(8).toString("hex");
    const der = privateKey.export({ format: "der", type: "pkcs8" });
    const sealed = this.#sealer.seal(`signing ${kid}`, der);
    der.fill(0);
    return {
      kid,
      private: sealed,
      created_at: new Date().toISOString(),
    };
  }

  #open({ kid, private: sealed }: StoredSigningKey): SigningKey | undefined {
    const der = this.#sealer.open(`signing ${kid}`, sealed);
    if (der === undefined) return undefined;
    const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    der.fill(0);
    return { kid, key };
  }

  #isSpent({ created_at: createdAt }: StoredSigningKey): boolean {
    return Date.now() - Date.parse(createdAt) >= this.#signingPeriod;
  }

  /** Those with which a token may have been signed that has not expired yet. */
  #stillNeeded(keys: readonly StoredSigningKey[]): StoredSigningKey[] {
    return keys.filter((_, i) => {
      const next = keys[i + 1];
      return next === undefined || Date.now() - Date.parse(next.created_at) < SIGNING_REST;
    });
  }

  #isFresh({ pepper, signing }: Document): boolean {
    return [pepper, ...signing.map((key) => key.private)].every((each) =>
      this.#sealer.isFresh(each),
    );
  }

  #resealed(document: Document): Document {
    const reseal = (name: string, sealed: Sealed): Sealed => {
      const bytes = this.#sealer.isFresh(sealed) ? undefined : this.#sealer.adopt(name, sealed);
      return bytes === undefined ? sealed : this.#sealer.seal(name, bytes);
    };
    return {
      ...document,
      pepper: reseal("pepper", document.pepper),
      signing: document.signing.map((key) => ({
        ...key,
        private: reseal(`signing ${key.kid}`, key.private),
      })),
    };
  }
}

function parse(bytes: Uint8Array): Document {
  try {
    return vaultSchema.parse(JSON.parse(utf8(bytes) ?? ""));
  } catch {
    throw damaged();
  }
}

function damaged(): KvError {
  return new KvError(
    "store_unavailable",
    `the key "${VAULT}" of ${AUTH_BUCKET} is damaged, or a newer jetbucket wrote it`,
  );
}

function unreadable(sealed: Sealed): KvError {
  const [reason, message] =
    "master" in sealed
      ? [
          "no_master_key",
          `API keys are protected by master key ${sealed.master}, or were tampered with: give this gateway the same JETBUCKET_MASTER_KEY as the others`,
        ]
      : [
          "not_encrypted",
          "API keys were made while there was no master key: bring them under the one that there is now by jetbucket secrets rotate",
        ];
  return new KvError("secrets_disabled", message, { details: { reason } });
}
