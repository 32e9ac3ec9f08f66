import { randomUUID } from "node:crypto";
import { errors, jwtVerify, SignJWT, type JWTVerifyGetKey } from "jose";
import { z } from "zod";
import type { CreatedToken } from "../protocol/access.ts";
import { KvError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { scopesSchema, type Scope } from "../protocol/scopes.ts";
import type { Vault } from "./vault.ts";

/** What a token is for: it can be used again and again, a ticket once. Neither goes for the other. */
export type TokenUse = "token" | "ticket";

const ISSUER = "jetbucket";
const audiences = { token: "jetbucket", ticket: "jetbucket:ticket" } as const;
const ALGORITHM = "EdDSA";
/** How far the clocks of gateways may be apart, in seconds. */
const CLOCK_TOLERANCE = 5;

/** What a token says. */
export interface TokenClaims {
  /** A name of its own. */
  id: string;
  /** The credentials that it was made with, and that it ends with: an API key's id, or what {@link TokenParent} knows. */
  parent: string;
  subject: string | undefined;
  scopes: Scope[];
  environment: string | undefined;
  /** From when on it is void, in milliseconds since 1970. */
  expiresAt: number;
  /** For a ticket: from when on that is void which it is exchanged for. */
  sessionUntil: number | undefined;
}

const claimsSchema = z.object({
  jti: z.string().min(1).max(64),
  exp: z.number(),
  key: z.string().min(1),
  sub: z.string().optional(),
  scopes: scopesSchema,
  env: z.string().optional(),
  until: z.number().optional(),
});

/** Makes and reads signed tokens: JWTs with EdDSA, whose keys are the vault's. */
export class Tokens {
  readonly #vault: Vault;
  readonly #findKey: JWTVerifyGetKey;

  constructor(vault: Vault) {
    this.#vault = vault;
    this.#findKey = async ({ kid }) => {
      const key = kid === undefined ? undefined : await vault.publicKey(kid);
      if (key === undefined)
        throw unauthenticated("the token was signed by a key that is not known here");
      return key;
    };
  }

  /** @throws KvError `invalid_request` when it would be too long, `store_unavailable` */
  async sign(use: TokenUse, claims: Omit<TokenClaims, "id">): Promise<CreatedToken> {
    const { parent, subject, scopes, environment, expiresAt, sessionUntil } = claims;
    const { kid, key } = await this.#vault.signer();
    const exp = Math.floor(expiresAt / 1000);
    const now = Math.floor(Date.now() / 1000);
    const token = await new SignJWT({
      key: parent,
      scopes,
      ...(environment === undefined ? {} : { env: environment }),
      ...(sessionUntil === undefined ? {} : { until: sessionUntil }),
    })
      .setProtectedHeader({ alg: ALGORITHM, kid, typ: "JWT" })
      .setIssuer(ISSUER)
      .setAudience(audiences[use])
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(exp)
      .setSubject(subject ?? parent)
      .sign(key);
    if (token.length > limits.token) {
      throw new KvError(
        "invalid_request",
        `with these scopes a ${use} has ${token.length} characters, ${limits.token} is the limit: name fewer`,
        { details: { field: "scopes", limit: limits.token } },
      );
    }
    return { token, expires_at: new Date(exp * 1000).toISOString() };
  }

  /** @throws KvError `unauthenticated` that says why, `store_unavailable` */
  async verify(use: TokenUse, token: string): Promise<TokenClaims> {
    if (token.length > limits.token) throw unauthenticated(`the ${use} is too long to be one`);
    let payload: unknown;
    try {
      ({ payload } = await jwtVerify(token, this.#findKey, {
        algorithms: [ALGORITHM],
        issuer: ISSUER,
        audience: audiences[use],
        clockTolerance: CLOCK_TOLERANCE,
        requiredClaims: ["exp", "nbf", "iat", "jti", "sub"],
      }));
    } catch (error) {
      throw error instanceof KvError ? error : unauthenticated(reasonOf(use, error), error);
    }
    const claims = claimsSchema.safeParse(payload);
    if (!claims.success) throw unauthenticated(`the ${use} does not say what it has to say`);
    const { jti, exp, key, sub, scopes, env, until } = claims.data;
    // Tolerance is for clocks that are behind; the end of a token's life is its end.
    if (exp * 1000 <= Date.now()) throw unauthenticated(`the ${use} has expired`);
    return {
      id: jti,
      parent: key,
      subject: sub === key ? undefined : sub,
      scopes,
      environment: env,
      expiresAt: exp * 1000,
      sessionUntil: until,
    };
  }
}

/** Whether a credential looks like a token, and not like a key. */
export function looksLikeToken(text: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text);
}

function reasonOf(use: TokenUse, error: unknown): string {
  if (error instanceof errors.JWTExpired) return `the ${use} has expired`;
  if (error instanceof errors.JWTClaimValidationFailed) {
    switch (error.claim) {
      case "aud":
        return `the ${use} is for something else: its audience is not ${audiences[use]}`;
      case "nbf":
        return `the ${use} is not valid yet`;
      default:
        return `the ${use} does not have the "${error.claim}" that it has to have`;
    }
  }
  if (error instanceof errors.JOSEAlgNotAllowed)
    return `the ${use} is signed by another algorithm than ${ALGORITHM}`;
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return `the signature of the ${use} is wrong`;
  return `this is no ${use}`;
}

export function unauthenticated(message: string, cause?: unknown): KvError {
  return new KvError("unauthenticated", message, cause === undefined ? {} : { cause });
}
