import type { Principal } from "../../auth/principal.ts";

/** Shortest time between two looks, in milliseconds: sockets whose credentials expire one by one must not cost a look each. */
const REST = 250;
/** Longest time that a timer takes, in milliseconds. */
const LONGEST = 2 ** 31 - 1;

/** Sees to it that nobody stays for longer than their credentials hold. One timer for all, and nothing to keep for each. */
export class Expiry {
  readonly #onExpired: (now: number) => void;
  #timer: NodeJS.Timeout | undefined;
  #due = Infinity;
  #isStopped = false;

  /** @param onExpired called when somebody's credentials have expired; adds who stays, and expires later, again */
  constructor(onExpired: (now: number) => void) {
    this.#onExpired = onExpired;
  }

  add({ expiresAt }: Principal): void {
    if (expiresAt === undefined || expiresAt >= this.#due || this.#isStopped) return;
    this.#due = expiresAt;
    clearTimeout(this.#timer);
    const wait = Math.min(Math.max(expiresAt - Date.now(), REST), LONGEST);
    this.#timer = setTimeout(() => this.#look(), wait).unref();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    this.#due = Infinity;
    this.#onExpired(Date.now());
  }
}

/** Whether credentials are void at a time, in milliseconds since 1970. */
export function isExpired({ expiresAt = Infinity }: Principal, now: number): boolean {
  return expiresAt <= now;
}
