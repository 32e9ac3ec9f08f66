import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  randomBytes,
  type KeyObject,
} from "node:crypto";
import { z } from "zod";
import type { MasterKey, MasterKeys } from "./master-keys.ts";

const NONCE = 12;
const TAG = 16;

const base64 = z.string().regex(/^[A-Za-z0-9_-]*$/);

/** Bytes as they are stored: encrypted under the master key that `master` names, or, where there is none, as they are. */
export const sealedSchema = z.union([
  z.object({ master: z.string(), nonce: base64, box: base64 }),
  z.object({ plain: base64 }),
]);
export type Sealed = z.infer<typeof sealedSchema>;

/**
 * Keeps single small things of the gateway's own in the store, encrypted where there is a master key. What encrypts them is
 * derived from it for one purpose, so that no key ever encrypts for two.
 */
export class Sealer {
  readonly #masters: MasterKeys | undefined;
  readonly #purpose: string;
  readonly #derived = new Map<string, KeyObject>();

  /** @param masters undefined where there is no master key: nothing is encrypted then */
  constructor(masters: MasterKeys | undefined, purpose: string) {
    this.#masters = masters;
    this.#purpose = purpose;
  }

  /** @param name what it is: it cannot be read as something else */
  seal(name: string, bytes: Uint8Array): Sealed {
    const primary = this.#masters?.primary;
    if (primary === undefined) return { plain: textOf(bytes) };
    const nonce = randomBytes(NONCE);
    const cipher = createCipheriv("aes-256-gcm", this.#keyFor(primary), nonce, {
      authTagLength: TAG,
    });
    cipher.setAAD(additionalData(name, primary.id));
    const box = Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
    return { master: primary.id, nonce: textOf(nonce), box: textOf(box) };
  }

  /**
   * @returns undefined when its master key is missing, or it was changed or moved; also when there is a master key and it is not
   * encrypted, because anybody who can write to the store could have made it
   */
  open(name: string, sealed: Sealed): Buffer | undefined {
    return "plain" in sealed && this.#masters !== undefined ? undefined : this.adopt(name, sealed);
  }

  /** As {@link open}, and takes what was stored before there was a master key: for an operator who says so. */
  adopt(name: string, sealed: Sealed): Buffer | undefined {
    if ("plain" in sealed) return Buffer.from(sealed.plain, "base64url");
    const master = this.#masters?.find(sealed.master);
    if (master === undefined) return undefined;
    const box = Buffer.from(sealed.box, "base64url");
    if (box.length < TAG) return undefined;
    const nonce = Buffer.from(sealed.nonce, "base64url");
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#keyFor(master), nonce, {
        authTagLength: TAG,
      });
      decipher.setAAD(additionalData(name, master.id));
      decipher.setAuthTag(box.subarray(-TAG));
      return Buffer.concat([decipher.update(box.subarray(0, -TAG)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  /** Whether something is stored as it would be stored now. */
  isFresh(sealed: Sealed): boolean {
    const primary = this.#masters?.primary;
    return primary === undefined || ("master" in sealed && sealed.master === primary.id);
  }

  #keyFor({ id, key }: MasterKey): KeyObject {
    let derived = this.#derived.get(id);
    if (derived === undefined) {
      derived = createSecretKey(Buffer.from(hkdfSync("sha256", key, "", this.#purpose, 32)));
      this.#derived.set(id, derived);
    }
    return derived;
  }
}

/** Neither part can hold a zero byte. */
function additionalData(name: string, master: string): Buffer {
  return Buffer.from(`jetbucket sealed 1\0${name}\0${master}`);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64url");
}
