import type { Incoming } from "./credentials.ts";

/** Where a request comes from; undefined when its connection is gone already. */
export type AddressOf = (incoming: Pick<Incoming, "headers" | "socket">) => string | undefined;

/**
 * Tells addresses.
 *
 * @param proxies how many proxies stand before the gateway. Each of them appends to `X-Forwarded-For` whom it was called by, so with two
 * the last but one is whom the first of them saw; what stands before that, anybody can have made up
 * @example
 * const addressOf = addressReader(1);
 */
export function addressReader(proxies: number): AddressOf {
  return ({ headers, socket }) => {
    const { remoteAddress } = socket;
    const forwarded = proxies === 0 ? undefined : headers["x-forwarded-for"];
    if (forwarded === undefined) return plain(remoteAddress);
    const hops = String(forwarded).split(",");
    const hop = hops.at(-proxies)?.trim();
    // Who comes past the proxies, or through fewer, is who is at the other end.
    return plain(hop === undefined || !isAddress.test(hop) ? remoteAddress : hop);
  };
}

const isAddress = /^[0-9a-fA-F.:]{2,45}$/;

/** IPv4 as it is written where there is no IPv6. */
function plain(address: string | undefined): string | undefined {
  return address?.startsWith("::ffff:") === true ? address.slice("::ffff:".length) : address;
}

const loopback = /^(?:::1$|127\.)/;

/** Whether somebody on this machine asks: a proxy, say, that speaks for many. */
export function isLoopback(address: string): boolean {
  return loopback.test(address);
}

/** Groups of an IPv6 address that say which network it is of; a subscriber has all that follows. */
const NETWORK = 4;

/** Whom an address belongs to: itself, or with IPv6 the network of its first 64 bits. */
export function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("::");
  const front = head === "" ? [] : head.split(":");
  const back = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  const groups = [...front, ...Array<string>(zeros).fill("0"), ...back];
  const network = groups
    .slice(0, NETWORK)
    .map((group) => group.replace(/^0+(?=.)/, "").toLowerCase());
  return `${network.join(":")}::/64`;
}
