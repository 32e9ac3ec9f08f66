import { createHmac, type KeyObject } from "node:crypto";

/** A key that encrypts data keys, and nothing else. */
export interface MasterKey {
  /** Eight hex digits that follow from the key, so that a wrong key cannot go by a right one's name. */
  id: string;
  key: KeyObject;
}

/** The master keys that a gateway was given. */
export class MasterKeys {
  /** The one that new data keys are wrapped with. */
  readonly primary: MasterKey;
  readonly #byId: ReadonlyMap<string, MasterKey>;

  /** @param keys of 32 bytes, at least one; the first is the primary, the others are for what is wrapped with them still */
  constructor(keys: readonly [KeyObject, ...KeyObject[]]) {
    this.primary = masterKeyOf(keys[0]);
    this.#byId = new Map(keys.map(masterKeyOf).map((key) => [key.id, key]));
  }

  find(id: string): MasterKey | undefined {
    return this.#byId.get(id);
  }
}

function masterKeyOf(key: KeyObject): MasterKey {
  const id = createHmac("sha256", key).update("jetbucket master key id").digest("hex").slice(0, 8);
  return { id, key };
}
