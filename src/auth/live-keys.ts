import { Grants } from "./grants.ts";
import type { Principal } from "./principal.ts";
import type { KeyRecord } from "./api-keys.ts";

/** An API key that is in force. */
export interface LiveKey {
  readonly id: string;
  readonly record: KeyRecord;
  readonly hash: Buffer;
  readonly expiresAt: number | undefined;
  readonly principal: Principal;
  /** When it was used last, here, and when it was as far as the store knows; milliseconds since 1970, 0 for never. */
  usedAt: number;
  notedAt: number;
}

/** All API keys that are in force, in memory. */
export class LiveKeys {
  readonly #keys = new Map<string, LiveKey>();
  /** When keys were used, where that became known before the key did. */
  readonly #uses = new Map<string, number>();

  get size(): number {
    return this.#keys.size;
  }

  find(id: string): LiveKey | undefined {
    return this.#keys.get(id);
  }

  /** Takes note of a key. @returns the one that it takes the place of, if that was another */
  set(id: string, record: KeyRecord): LiveKey | undefined {
    const before = this.#keys.get(id);
    const hash = Buffer.from(record.hash, "base64url");
    const expiresAt = record.expires_at === undefined ? undefined : Date.parse(record.expires_at);
    // It is read again after each interruption; who uses it is not to notice.
    if (before !== undefined && JSON.stringify(before.record) === JSON.stringify(record))
      return undefined;
    const principal: Principal = {
      kind: "key",
      id,
      parent: id,
      grants: new Grants(record.scopes),
      ...(record.environment === undefined ? {} : { environment: record.environment }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
    };
    const notedAt = this.#uses.get(id) ?? 0;
    this.#keys.set(id, { id, record, hash, expiresAt, principal, usedAt: notedAt, notedAt });
    return before;
  }

  /** @returns whether it was there */
  delete(id: string): boolean {
    return this.#keys.delete(id);
  }

  /** Takes note of a use that the store knows; 0 when it does not any more. */
  setNoted(id: string, at: number): void {
    if (at === 0) this.#uses.delete(id);
    else this.#uses.set(id, at);
    const key = this.#keys.get(id);
    if (key !== undefined) key.notedAt = at;
  }

  /** Keys whose last use the store does not know and that were not written down lately. */
  *unnoted(interval: number): Generator<LiveKey> {
    for (const key of this.#keys.values()) {
      if (key.usedAt > key.notedAt && key.usedAt - key.notedAt >= interval) yield key;
    }
  }
}
