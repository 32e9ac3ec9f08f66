import { KvError } from "../protocol/errors.ts";
import type { Keyring } from "./keyring.ts";

/** What a rotation did. */
export interface Rotation {
  /** Secrets that there are. */
  total: number;
  /** Secrets that were encrypted anew. */
  renewed: number;
  /** Secrets that are as they were, because they cannot be read. */
  failed: FailedSecret[];
}

export interface FailedSecret {
  name: string;
  /** A sentence for people. */
  why: string;
}

export type RotationProgress = (done: number, due: number) => void;

/** What a rotation needs to be able to do. */
export interface Rotatable {
  /** Brings the data keys under the primary master key; undefined when there are none. */
  turn(): Promise<Keyring | undefined>;
  /** All secrets, with the ids of their data keys as far as those can be read. */
  stored(): Promise<{ name: string; keyId: string | undefined }[]>;
  /** Encrypts a secret anew unless it is under a fresh data key by now. @returns whether it was */
  renew(name: string, isFresh: (keyId: string) => boolean): Promise<boolean>;
}

/** Each pass looks for what was written with an old key during the one before; writers need milliseconds for that. */
const PASSES = 4;

/**
 * Carries out a rotation.
 *
 * The keyring is turned first and in one step: from then on nothing depends on the old master key, at whichever secret the
 * rest is cut off. What is left to do is seen from the secrets themselves, so nothing has to be remembered to go on.
 */
export async function rotate(
  secrets: Rotatable,
  onProgress: RotationProgress = () => undefined,
): Promise<Rotation> {
  let renewed = 0;
  for (let pass = 1; ; pass++) {
    const keyring = await secrets.turn();
    const stored = await secrets.stored();
    const fresh = new Set(keyring?.keys.filter((key) => key.retired !== true).map(({ id }) => id));
    // One without a key that is known counts as due, too: why it cannot be read is found out by trying.
    const due = stored.filter(({ keyId }) => keyId === undefined || !fresh.has(keyId));
    const failed: FailedSecret[] = [];
    const before = renewed;
    for (const [index, { name }] of due.entries()) {
      try {
        if (await secrets.renew(name, (keyId) => fresh.has(keyId))) renewed += 1;
      } catch (error) {
        if (!(error instanceof KvError && error.code === "secret_unreadable")) throw error;
        failed.push({ name, why: error.message });
      }
      onProgress(index + 1, due.length);
    }
    if (renewed === before || pass === PASSES) return { total: stored.length, renewed, failed };
  }
}
