const loopback = /^https?:\/\/(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/i;

/** Which web pages may talk to the gateway, by their origin. */
export interface OriginPolicy {
  /** @param host the name that the gateway is asked by: its own pages may */
  allows(origin: string, host: string | undefined): boolean;
  /** Whether a request may be for this name: the `Host` header. */
  allowsHost(host: string): boolean;
}

const loopbackName = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/i;

/**
 * Without a list, pages of this machine may: those that were loaded from a loopback address, on whatever port.
 * A list names origins in full (`https://app.example.com`), or is `*` for all.
 *
 * @param isAnyHost whether the gateway may be reached by any name. A page that was led here by a false one (DNS rebinding) gets
 * nowhere without credentials, which it cannot have
 * @param isProtected whether the gateway wants credentials: then pages that it, or a proxy before it, serves itself may use it
 * @param isExposed whether the gateway listens for others than this machine, with credentials: a page of the machine that somebody
 * browses on is none of its own then
 */
export function originPolicy(
  list: readonly string[],
  isAnyHost: () => boolean = () => false,
  isProtected: () => boolean = () => false,
  isExposed = false,
): OriginPolicy {
  if (list.includes("*")) return { allows: () => true, allowsHost: () => true };
  const named = new Set(list.map((origin) => origin.toLowerCase().replace(/\/$/, "")));
  const hosts = new Set(Array.from(named, (origin) => origin.replace(/^https?:\/\//, "")));
  return {
    allows: (origin, host) =>
      named.has(origin.toLowerCase()) ||
      (named.size === 0 && !isExposed && loopback.test(origin)) ||
      (isProtected() && origin.toLowerCase().replace(/^https?:\/\//, "") === host?.toLowerCase()),
    allowsHost: (host) => isAnyHost() || loopbackName.test(host) || hosts.has(host.toLowerCase()),
  };
}
