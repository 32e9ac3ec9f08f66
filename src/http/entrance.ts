import type { Authenticator } from "../auth/authenticator.ts";
import { nobody, type Principal } from "../auth/principal.ts";
import { KvError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { Edge } from "./answer.ts";
import type { AddressOf } from "./address.ts";
import { credentialsOf, type Incoming } from "./credentials.ts";
import { admit, isPreflight } from "./cross-origin.ts";
import { noteOf } from "./note.ts";
import type { OriginPolicy } from "./origins.ts";
import type { RateLimits } from "./rate-limits.ts";
import { systemPaths } from "./routes/system.ts";

/** By what it is decided who comes in. */
export interface Gate {
  origins: OriginPolicy;
  authenticator: Authenticator;
  rates: RateLimits;
  addressOf: AddressOf;
}

type Headers = Readonly<Record<string, string>>;

/** What is stored is data: no browser is to guess that it is something else. */
const always: Headers = { "X-Content-Type-Options": "nosniff" };
/** Where there are credentials, what they give access to is for their owner: no cache keeps it, no page shows it in a frame. */
const whenProtected: Headers = {
  ...always,
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Referrer-Policy": "no-referrer",
};

/** What answers everybody, whatever credentials they have or have not. */
const openToAll: ReadonlySet<string> = new Set(systemPaths);

/**
 * Lets a request in: from where it is sent is looked at first, then who sends it. Every request comes through here, on whatever way it
 * is answered. Not as the framework's middleware, which would make every request a chain of promises.
 *
 * @param serve answers a request that comes in
 * @param refuse answers one that does not, with headers that its answer must have as well
 * @returns what they return
 */
export function enter<T>(
  { origins, authenticator, rates, addressOf }: Gate,
  incoming: Incoming,
  method: string,
  serve: (edge: Edge) => T,
  refuse: (error: unknown, common: Edge["common"]) => T,
): T | Promise<Awaited<T>> {
  let crossOrigin: Edge["crossOrigin"];
  try {
    checkAddress(incoming);
    crossOrigin = admit(origins, method, incoming.headers);
  } catch (error) {
    return refuse(error, always);
  }
  // A browser asks without credentials whether a page may send some.
  if (crossOrigin !== undefined && isPreflight(method, incoming.headers))
    return serve({ principal: nobody, crossOrigin, common: crossOrigin });
  const address = addressOf(incoming);
  const serveKnown = (principal: Principal): T => {
    const note = noteOf(incoming);
    if (note !== undefined) note.principal = principal;
    const { headers, refusal } = rates.take(principal, address);
    const basic = principal.kind === "anonymous" ? always : whenProtected;
    const common =
      headers === undefined && crossOrigin === undefined
        ? basic
        : { ...basic, ...headers, ...crossOrigin };
    return refusal === undefined
      ? serve({ principal, crossOrigin, common })
      : refuse(refusal, common);
  };
  const serveUnknown = (error: unknown): T =>
    isOpenToAll(incoming)
      ? serveKnown(nobody)
      : refuse(rates.failed(error, address), { ...whenProtected, ...crossOrigin });
  let principal: Principal | Promise<Principal>;
  try {
    principal = authenticator.authenticate(credentialsOf(incoming, method));
  } catch (error) {
    return serveUnknown(error);
  }
  return principal instanceof Promise
    ? (principal.then(serveKnown, serveUnknown) as Promise<Awaited<T>>)
    : serveKnown(principal);
}

function isOpenToAll({ url = "" }: Incoming): boolean {
  const query = url.indexOf("?");
  return openToAll.has(query === -1 ? url : url.slice(0, query));
}

/** @throws KvError `address_too_long` */
export function checkAddress({ url = "" }: Pick<Incoming, "url">): void {
  if (url.length > limits.url)
    throw new KvError("address_too_long", `an address has at most ${limits.url} characters`);
}
