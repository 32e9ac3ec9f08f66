import { createHmac, randomBytes, timingSafeEqual, type KeyObject } from "node:crypto";
import { Grants } from "./grants.ts";
import type { Principal } from "./principal.ts";

/** Whoever has the root key. */
export const root: Principal = { kind: "root", id: "root", parent: "root", grants: Grants.all };

/** The key that the operator gave the gateway. It is held as a key object, which shows nobody what is in it. */
export class RootKey {
  readonly #digest: Buffer;
  readonly #comparing = randomBytes(32);
  readonly #key: KeyObject;

  constructor(key: KeyObject) {
    this.#key = key;
    this.#digest = this.#digestOf(key.export());
  }

  /** Takes as long for a key that is almost right as for any other. */
  matches(text: string): boolean {
    return timingSafeEqual(this.#digestOf(Buffer.from(text)), this.#digest);
  }

  /** What tells it from another one to whoever has the same pepper. */
  fingerprint(hash: (text: string) => Buffer | undefined): string | undefined {
    const digest = createHmac("sha256", this.#key).update("jetbucket root key").digest("hex");
    return hash(digest)?.toString("hex").slice(0, 16);
  }

  #digestOf(bytes: Uint8Array): Buffer {
    return createHmac("sha256", this.#comparing).update(bytes).digest();
  }
}
