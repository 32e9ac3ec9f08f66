/** What is stored of a secret beside its value. */
import type { Entry, LiveEntry } from "../protocol/entry.ts";
import type { SecretInfo } from "../protocol/messages.ts";
import type { Bucket } from "../store/bucket.ts";
import type { ValueExtras } from "../store/stored-message.ts";
import { remaining } from "../store/updates.ts";
import { headerOf } from "./envelope.ts";

/** What the keys of secrets begin with in their bucket, which holds the keyring as well. */
export const PREFIX = "secret.";

export function nameOf({ key }: Entry): string {
  return key.slice(PREFIX.length);
}

/** When the value was set, in milliseconds since 1970. */
export function setAtOf(entry: LiveEntry): number {
  return headerOf(entry.value)?.setAt ?? Date.parse(entry.createdAt);
}

/** What a new value leaves as it was. */
export function keptByNewValue(entry: LiveEntry, description?: string): ValueExtras {
  return {
    firstCreatedAt: entry.firstCreatedAt ?? entry.createdAt,
    ...described(description ?? entry.description),
  };
}

/** What goes along when the same value is stored again. */
export function keptWithValue(bucket: Bucket, entry: LiveEntry, description?: string): ValueExtras {
  return {
    ...keptByNewValue(entry, description),
    ...(entry.label === undefined ? {} : { label: entry.label }),
    ...remaining(bucket, entry),
  };
}

export function described(description: string | undefined): { description?: string } {
  return description === undefined || description === "" ? {} : { description };
}

export function infoOf(entry: LiveEntry): SecretInfo {
  return infoFrom(nameOf(entry), entry.revision, setAtOf(entry), {
    ...keptByNewValue(entry),
    ...(entry.expiresAt === undefined ? {} : { expiresAt: entry.expiresAt }),
  });
}

export function infoFrom(
  name: string,
  revision: number,
  setAt: number,
  { firstCreatedAt, description, expiresAt }: ValueExtras,
): SecretInfo {
  const updatedAt = new Date(setAt).toISOString();
  return {
    name,
    revision,
    ...(description === undefined ? {} : { description }),
    created_at: firstCreatedAt ?? updatedAt,
    updated_at: updatedAt,
    ...(expiresAt === undefined ? {} : { expires_at: expiresAt }),
  };
}
