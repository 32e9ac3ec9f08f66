import { anonymous, type Principal } from "./principal.ts";

/** What a request says about who sends it. */
export interface Credentials {
  /** The header `Authorization`. */
  authorization: string | undefined;
  /** The subprotocols that a WebSocket offers, as one header: browsers have no other place for a token (`bearer.<token>`). */
  protocols: string | undefined;
  /** `?ticket=` of a watch, which is looked for nowhere else. */
  ticket: string | undefined;
  /** Where it comes from; undefined when the connection is gone already. */
  address: string | undefined;
}

/** Finds out who sends a request. */
export interface Authenticator {
  /**
   * Called once per request, before anything else is done for it. An answer that is there at once costs a request nothing but the
   * call; a promise costs it a turn.
   *
   * @throws KvError `unauthenticated`
   */
  authenticate(credentials: Credentials): Principal | Promise<Principal>;
  /**
   * Whether credentials that were good still are: asked before a watch begins whose bucket took a while to open, so that a
   * revocation in that time is not missed by the socket.
   */
  isValid(principal: Principal): boolean;
}

/** Takes everybody for {@link anonymous}: there are no credentials to ask for. */
export const openToAll: Authenticator = {
  authenticate: () => anonymous,
  isValid: () => true,
};
