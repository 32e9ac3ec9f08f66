import { Grants } from "./grants.ts";

/** Who sends a request. */
export interface Principal {
  /**
   * `anonymous` where no credentials are configured at all, `root` with the root key, `nobody` for whoever has no valid
   * credentials and asks for what is open to all.
   */
  kind: "anonymous" | "root" | "key" | "token" | "nobody";
  /** Stable and not secret: what audit and limits know it by, for instance an API key's id. */
  id: string;
  grants: Grants;
  /** What its credentials stand and fall with: an API key's id, also where a token is what was sent. */
  parent?: string;
  /** The environment of config and secrets that is meant where a request names none. */
  environment?: string;
  /** From when on its credentials are void, in milliseconds since 1970. */
  expiresAt?: number;
}

/** Everybody, as long as no credentials are configured. */
export const anonymous: Principal = { kind: "anonymous", id: "anonymous", grants: Grants.all };

/** Whoever is not known. May do nothing. */
export const nobody: Principal = { kind: "nobody", id: "nobody", grants: new Grants([]) };
