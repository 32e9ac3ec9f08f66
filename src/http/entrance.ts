import type { Authenticator } from "../auth/authenticator.ts";
import { nobody, type Principal } from "../auth/principal.ts";
import type { Edge } from "./answer.ts";
import { credentialsOf, type Incoming } from "./credentials.ts";
import { admit, isPreflight } from "./cross-origin.ts";
import { noteOf } from "./note.ts";
import type { OriginPolicy } from "./origins.ts";
import { systemPaths } from "./routes/system.ts";

/** By what it is decided who comes in. */
export interface Gate {
  origins: OriginPolicy;
  authenticator: Authenticator;
}

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
  { origins, authenticator }: Gate,
  incoming: Incoming,
  method: string,
  serve: (edge: Edge) => T,
  refuse: (error: unknown, crossOrigin: Edge["crossOrigin"]) => T,
): T | Promise<Awaited<T>> {
  let crossOrigin: Edge["crossOrigin"];
  try {
    crossOrigin = admit(origins, method, incoming.headers);
  } catch (error) {
    return refuse(error, undefined);
  }
  // A browser asks without credentials whether a page may send some.
  if (crossOrigin !== undefined && isPreflight(method, incoming.headers))
    return serve({ principal: nobody, crossOrigin });
  const serveKnown = (principal: Principal): T => {
    const note = noteOf(incoming);
    if (note !== undefined) note.principal = principal;
    return serve({ principal, crossOrigin });
  };
  const serveUnknown = (error: unknown): T =>
    isOpenToAll(incoming) ? serve({ principal: nobody, crossOrigin }) : refuse(error, crossOrigin);
  let principal: Principal | Promise<Principal>;
  try {
    principal = authenticator.authenticate(credentialsOf(incoming));
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
