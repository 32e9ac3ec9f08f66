const loopback = /^https?:\/\/(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/i;

/** Which web pages may talk to the gateway, by their origin. */
export interface OriginPolicy {
  allows(origin: string): boolean;
}

/**
 * Without a list, pages of this machine may: those that were loaded from a loopback address, on whatever port.
 * A list names origins in full (`https://app.example.com`), or is `*` for all.
 */
export function originPolicy(list: readonly string[]): OriginPolicy {
  if (list.includes("*")) return { allows: () => true };
  const named = new Set(list.map((origin) => origin.toLowerCase().replace(/\/$/, "")));
  return {
    allows: (origin) =>
      named.has(origin.toLowerCase()) || (named.size === 0 && loopback.test(origin)),
  };
}
