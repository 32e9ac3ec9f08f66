/** How long to wait between attempts, in milliseconds. */
export interface Backoff {
  base: number;
  cap: number;
}

/**
 * Full jitter: any time between nothing and a bound that doubles with every attempt, so that clients that lost the
 * same server do not come back together.
 *
 * @param attempt 1 for the first retry
 * @param random a number in [0, 1)
 */
export function backoffDelay(attempt: number, random: number, { base, cap }: Backoff): number {
  return random * Math.min(cap, base * 2 ** (attempt - 1));
}
