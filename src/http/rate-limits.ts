/** How much may be asked in a time: by whom somebody is, and by where a request comes from. */
import type { Principal } from "../auth/principal.ts";
import { KvError } from "../protocol/errors.ts";
import { isLoopback, networkOf } from "./address.ts";

/** What may be asked: so many requests a second, and so many at once when little was asked before. */
export interface Rate {
  perSecond: number;
  burst: number;
}

/** Failed attempts to authenticate that an address has; more are told to wait. */
const FAILURES: Rate = { perSecond: 1, burst: 30 };
/** Those whose requests are counted at a time. */
const COUNTED = 20_000;

interface Bucket {
  tokens: number;
  at: number;
}

/**
 * Token buckets, one for each of those who ask. Their number is bounded: whoever has asked for nothing the longest is forgotten first,
 * and has a full one then.
 */
export class TokenBuckets {
  readonly rate: Rate;
  readonly #max: number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param max buckets that are kept */
  constructor(rate: Rate, max: number = COUNTED) {
    this.rate = rate;
    this.#max = max;
  }

  /**
   * Takes a token.
   *
   * @param now milliseconds of a clock that does not go back
   * @returns how many are left; below zero, and nothing taken, when there was none: -2 means that two are missing
   */
  take(id: string, now: number): number {
    const { perSecond, burst } = this.rate;
    let bucket = this.#buckets.get(id);
    if (bucket === undefined) {
      this.#makeRoom(now);
      bucket = { tokens: burst, at: now };
    }
    // Whoever asked last stands last.
    this.#buckets.delete(id);
    this.#buckets.set(id, bucket);
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) * perSecond) / 1000);
    bucket.at = now;
    if (bucket.tokens < 1) return bucket.tokens - 1;
    bucket.tokens -= 1;
    return bucket.tokens;
  }

  #makeRoom(now: number): void {
    if (this.#buckets.size < this.#max) return;
    const { perSecond, burst } = this.rate;
    const full = (burst / perSecond) * 1000;
    // The oldest first: those that are full again, and one in any case.
    for (const [id, { at }] of this.#buckets) {
      if (this.#buckets.size < this.#max && now - at < full) break;
      this.#buckets.delete(id);
    }
  }
}

/** What becomes of a request. */
export interface Counted {
  /** Headers that tell how much is left; undefined where nothing is limited. */
  headers: Readonly<Record<string, string>> | undefined;
  /** Why it is not answered. */
  refusal?: KvError;
}

const unlimited: Counted = { headers: undefined };

/** The limits of a gateway. They are its own: several gateways allow so much each. */
export class RateLimits {
  readonly #principals: TokenBuckets | undefined;
  readonly #addresses: TokenBuckets | undefined;
  readonly #failures = new TokenBuckets(FAILURES);
  readonly #policy: string;
  #refused = 0;

  /** @param rate of each principal, and of each address; undefined for no limit */
  constructor(rate: Rate | undefined) {
    if (rate !== undefined) {
      this.#principals = new TokenBuckets(rate);
      this.#addresses = new TokenBuckets(rate);
    }
    const { perSecond = 1, burst = 1 } = rate ?? {};
    this.#policy = `"default";q=${burst};w=${Math.max(1, Math.ceil(burst / perSecond))}`;
  }

  /** Requests that were refused, since the start. */
  get refused(): number {
    return this.#refused;
  }

  /**
   * Counts a request.
   *
   * @param address where it comes from. Those of this machine are not counted: a proxy speaks for many
   */
  take({ kind, id }: Principal, address: string | undefined): Counted {
    if (this.#principals === undefined || kind === "anonymous") return unlimited;
    const { perSecond, burst } = this.#principals.rate;
    const now = performance.now();
    // Whoever is not known is counted by address only.
    let left = kind === "nobody" ? burst : this.#principals.take(id, now);
    if (address !== undefined && !isLoopback(address)) {
      left = Math.min(left, this.#addresses!.take(networkOf(address), now));
    }
    const headers = {
      "RateLimit-Policy": this.#policy,
      RateLimit: `"default";r=${Math.max(0, Math.floor(left))};t=${Math.ceil((burst - left) / perSecond)}`,
    };
    if (left >= 0) return { headers };
    this.#refused += 1;
    const message = `more than ${perSecond} requests a second: wait a little`;
    const retryAfter = Math.max(1, Math.ceil(-left / perSecond));
    return { headers, refusal: new KvError("rate_limited", message, { retryAfter }) };
  }

  /**
   * Counts a failed attempt to authenticate, of addresses as {@link take} does.
   *
   * @returns what to answer: the error itself, or after many of them `rate_limited`
   */
  failed(error: unknown, address: string | undefined): unknown {
    if (!(error instanceof KvError && error.code === "unauthenticated")) return error;
    if (address === undefined || isLoopback(address)) return error;
    const left = this.#failures.take(networkOf(address), performance.now());
    if (left >= 0) return error;
    this.#refused += 1;
    return new KvError("rate_limited", "too many attempts without valid credentials: wait", {
      retryAfter: Math.max(1, Math.ceil(-left / FAILURES.perSecond)),
    });
  }
}
