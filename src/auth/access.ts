/** Who may come in: API keys, tokens, tickets and the root key, as one {@link Authenticator}. */
import { setTimeout as delay } from "node:timers/promises";
import type {
  CreatedTicket,
  CreatedToken,
  CreateTicketRequest,
  CreateTokenRequest,
} from "../protocol/access.ts";
import { parseTtl } from "../protocol/durations.ts";
import type { LiveEntry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { verbs, type Scope } from "../protocol/scopes.ts";
import { jsonValue } from "../protocol/values.ts";
import type { Buckets } from "../store/buckets.ts";
import {
  ApiKeys,
  hashedText,
  isHashOf,
  KEYS,
  recordOf,
  REQUIRED,
  usedAtOf,
  USES,
} from "./api-keys.ts";
import type { Authenticator, Credentials } from "./authenticator.ts";
import { bearerOf } from "./bearer.ts";
import { CredentialCache } from "./credential-cache.ts";
import { Grants } from "./grants.ts";
import { idOfKeyText, KEY_PREFIX } from "./key-text.ts";
import { LiveKeys, type LiveKey } from "./live-keys.ts";
import { Mirror, type MirrorListener } from "./mirror.ts";
import { anonymous, type Principal } from "./principal.ts";
import { root, type RootKey } from "./root-key.ts";
import { looksLikeToken, Tokens, unauthenticated, type TokenClaims } from "./tokens.ts";
import { AUTH_BUCKET, VAULT, type Vault } from "./vault.ts";

export interface AccessOptions {
  rootKey?: RootKey | undefined;
  /** Milliseconds between two notes of a key's last use in the store. Default: a minute. */
  useInterval?: number;
  /** For how long keys that were known hold while nobody can say whether they were revoked, in milliseconds. Default: a minute. */
  staleLimit?: number;
  /** Told of what an operator should know. */
  onProblem?: (error: unknown, message: string) => void;
}

/** Why sockets have to end. */
export type Dismissal = "revoked" | "closed to strangers";

/** Told whose sockets have to end. */
export type OnDismiss = (isMeant: (principal: Principal) => boolean, why: Dismissal) => void;

/** Credentials that are remembered. */
const CACHE = 10_000;
const MINUTE = 60_000;
const TOKEN_LIFE = 15 * MINUTE;
const TICKET_LIFE = MINUTE;
/** For how long a used ticket is remembered, in seconds: until no gateway, whatever its clock says, takes it for a fresh one. */
const TICKET_MEMORY = 600;
/** What the keys of the bucket begin with under which used tickets are remembered. */
const TICKETS = "ticket.";
/** How long a shutdown waits until last uses are written down, in milliseconds. */
const LAST_NOTES = 500;

export class Access implements Authenticator, MirrorListener {
  readonly keys: ApiKeys;
  readonly #buckets: Buckets;
  readonly #vault: Vault;
  readonly #tokens: Tokens;
  readonly #rootKey: RootKey | undefined;
  readonly #useInterval: number;
  readonly #staleLimit: number;
  readonly #onProblem: (error: unknown, message: string) => void;
  readonly #live = new LiveKeys();
  readonly #cache = new CredentialCache<{ principal: Principal; key: LiveKey | undefined }>(CACHE);
  readonly #dismissers = new Set<OnDismiss>();
  #mirror!: Mirror;
  #isRequired: boolean;
  #notes!: NodeJS.Timeout;
  #isNoting = false;
  #refreshing: Promise<void> | undefined;
  #nextRefresh: Promise<void> | undefined;

  private constructor(buckets: Buckets, vault: Vault, options: AccessOptions) {
    this.#buckets = buckets;
    this.#vault = vault;
    this.#tokens = new Tokens(vault);
    this.#rootKey = options.rootKey;
    this.#isRequired = options.rootKey !== undefined;
    this.#useInterval = options.useInterval ?? MINUTE;
    this.#staleLimit = options.staleLimit ?? MINUTE;
    this.#onProblem = options.onProblem ?? (() => undefined);
    this.keys = new ApiKeys(buckets, vault, (bucket, revision) =>
      // It is stored: that this gateway does not know of it yet is no reason to say that it failed.
      this.#mirror.reach(bucket, revision).catch(() => undefined),
    );
  }

  /**
   * Resolves when all keys are known that there are.
   *
   * @throws KvError `store_unavailable`
   */
  static async open(buckets: Buckets, vault: Vault, options: AccessOptions = {}): Promise<Access> {
    const access = new Access(buckets, vault, options);
    access.#mirror = await Mirror.open(buckets, AUTH_BUCKET, access);
    const every = Math.max(10, access.#useInterval / 4);
    access.#notes = setInterval(() => void access.#noteUses(access.#useInterval), every).unref();
    return access;
  }

  /** Whether nobody gets in without credentials: there is a root key, or there is or was an API key. */
  get isRequired(): boolean {
    return this.#isRequired;
  }

  /** Calls back when sockets have to end before their credentials expire. Returns a function that ends it. */
  onDismiss(listener: OnDismiss): () => void {
    this.#dismissers.add(listener);
    return () => this.#dismissers.delete(listener);
  }

  authenticate({ authorization, protocols, ticket }: Credentials): Principal | Promise<Principal> {
    if (authorization !== undefined) {
      const known = this.#cache.get(authorization);
      if (known !== undefined) return this.#admit(authorization, known.principal, known.key);
    }
    const bearer = bearerOf(authorization, protocols);
    if (bearer !== undefined) return this.#find(`Bearer ${bearer}`, bearer);
    if (ticket !== undefined) return this.#redeem(ticket);
    if (!this.#isRequired) return anonymous;
    throw unauthenticated(
      authorization === undefined
        ? "this gateway wants credentials: send Authorization: Bearer with an API key or a token"
        : "the header Authorization has to be: Bearer, a space, and an API key or a token",
    );
  }

  isValid({ kind, parent, expiresAt = Infinity }: Principal): boolean {
    if (expiresAt <= Date.now()) return false;
    if (kind === "anonymous" || parent === anonymous.id) return !this.#isRequired;
    if (parent === undefined) return false;
    return parent === root.id || this.#live.find(parent) !== undefined;
  }

  /**
   * Makes a token that may do what its maker may, or less.
   *
   * @throws KvError `forbidden`, `invalid_ttl`, `invalid_request`, `store_unavailable`
   */
  async createToken(request: CreateTokenRequest, by: Principal): Promise<CreatedToken> {
    const life = request.ttl === undefined ? TOKEN_LIFE : parseTtl(request.ttl) * 1000;
    if (life > limits.tokenLife) {
      throw new KvError("invalid_ttl", "a token lives for at most 24 hours", {
        details: { field: "ttl" },
      });
    }
    const { subject = subjectOf(by) } = request;
    if (by.kind === "token" && subject !== subjectOf(by)) {
      throw new KvError("forbidden", "a token does not make tokens for somebody else");
    }
    return this.#tokens.sign("token", {
      parent: await this.#parentOf(by),
      subject,
      scopes: handedOn(request.scopes, by),
      environment: request.environment ?? by.environment,
      expiresAt: Math.min(Date.now() + life, by.expiresAt ?? Infinity),
      sessionUntil: undefined,
    });
  }

  /**
   * Makes a ticket: it opens one socket or stream of events, soon, which lasts for as long as the credentials of its maker.
   *
   * @throws as {@link createToken}
   */
  async createTicket(request: CreateTicketRequest, by: Principal): Promise<CreatedTicket> {
    const { token, expires_at } = await this.#tokens.sign("ticket", {
      parent: await this.#parentOf(by),
      subject: subjectOf(by),
      scopes: handedOn(request.scopes, by),
      environment: by.environment,
      expiresAt: Math.min(Date.now() + TICKET_LIFE, by.expiresAt ?? Infinity),
      sessionUntil: by.expiresAt,
    });
    return { ticket: token, expires_at };
  }

  /** Writes down what is known of last uses, and ends. */
  async close(): Promise<void> {
    clearInterval(this.#notes);
    await Promise.race([this.#noteUses(1), delay(LAST_NOTES, undefined, { ref: false })]);
    this.#mirror.close();
  }

  /** @internal */
  onSet(key: string, entry: LiveEntry): void {
    if (key === VAULT) {
      try {
        this.#vault.take(entry);
      } catch (error) {
        this.#onProblem(error, "the keys of this gateway's tokens cannot be read");
      }
    } else if (key === REQUIRED) {
      this.#require();
    } else if (key.startsWith(KEYS)) {
      const id = key.slice(KEYS.length);
      const record = recordOf(entry);
      if (record === undefined) {
        this.#onProblem(undefined, `what is stored of API key ${id} is damaged: it does not hold`);
        this.#revoke(id);
        return;
      }
      const before = this.#live.set(id, record);
      if (before !== undefined) this.#dismissAllOf(id);
      this.#require();
    } else if (key.startsWith(USES)) {
      this.#live.setNoted(key.slice(USES.length), Date.parse(usedAtOf(entry) ?? "") || 0);
    }
  }

  /** @internal */
  onGone(key: string): void {
    if (key === VAULT) this.#vault.take(undefined);
    else if (key.startsWith(KEYS)) this.#revoke(key.slice(KEYS.length));
    else if (key.startsWith(USES)) this.#live.setNoted(key.slice(USES.length), 0);
  }

  #require(): void {
    if (this.#isRequired) return;
    this.#isRequired = true;
    this.#cache.forget(({ key }) => key === undefined);
    const isStranger = ({ kind, parent }: Principal): boolean =>
      kind === "anonymous" || parent === anonymous.id;
    for (const dismiss of this.#dismissers) dismiss(isStranger, "closed to strangers");
  }

  #revoke(id: string): void {
    if (this.#live.delete(id)) this.#dismissAllOf(id);
  }

  #dismissAllOf(id: string): void {
    this.#cache.forget(({ principal }) => principal.parent === id);
    for (const dismiss of this.#dismissers) dismiss(({ parent }) => parent === id, "revoked");
  }

  #find(header: string, credential: string): Principal | Promise<Principal> {
    if (this.#rootKey?.matches(credential) === true) return this.#admit(header, root, undefined);
    if (credential.startsWith(KEY_PREFIX)) return this.#findKey(header, credential);
    if (looksLikeToken(credential)) {
      return this.#findToken(header, credential).catch((error: unknown) =>
        this.#stranger(error as KvError),
      );
    }
    return this.#stranger(unauthenticated("these credentials are not known here"));
  }

  #findKey(header: string, text: string): Principal | Promise<Principal> {
    const id = idOfKeyText(text);
    if (id === undefined) {
      return this.#stranger(
        unauthenticated("the API key is not complete: it was mistyped or cut off"),
      );
    }
    const check = (key: LiveKey | undefined): Principal => {
      if (key === undefined) {
        return this.#stranger(
          unauthenticated(`there is no API key ${id}: it was revoked, or belongs to another place`),
        );
      }
      const hash = this.#vault.hash(hashedText(text, key.record));
      if (hash === undefined || !isHashOf(hash, key.hash))
        throw unauthenticated("the API key is wrong");
      return this.#admit(header, key.principal, key);
    };
    const key = this.#live.find(id);
    if (key !== undefined) return check(key);
    // Another gateway may have made it just now.
    return this.#refresh().then(() => check(this.#live.find(id)));
  }

  async #findToken(header: string, token: string): Promise<Principal> {
    const known = this.#cache.get(header);
    if (known !== undefined) return this.#admit(header, known.principal, known.key);
    const claims = await this.#tokens.verify("token", token);
    const { principal, key } = await this.#bearerOf(claims, claims.expiresAt);
    return this.#admit(header, principal, key);
  }

  async #redeem(ticket: string): Promise<Principal> {
    if (ticket.startsWith(KEY_PREFIX) || this.#rootKey?.matches(ticket) === true) {
      throw unauthenticated(
        "an API key does not belong into an address, where logs keep it: revoke it, and send a ticket",
      );
    }
    const claims = await this.#tokens.verify("ticket", ticket);
    const { principal, key } = await this.#bearerOf(claims, claims.sessionUntil ?? Infinity);
    try {
      await this.#buckets.writeSystem(AUTH_BUCKET, (bucket) =>
        bucket.put(TICKETS + claims.id, jsonValue({}), {
          condition: { kind: "absent" },
          ttl: TICKET_MEMORY,
        }),
      );
    } catch (error) {
      if (!(error instanceof KvError && error.code === "key_exists")) throw error;
      throw unauthenticated("the ticket was used already: each one is good for one connection");
    }
    if (!this.isValid(principal)) throw unauthenticated("the credentials have just been revoked");
    return this.#admit(undefined, principal, key);
  }

  /** Whoever has a token, as long as what it was made with is in force. */
  async #bearerOf(
    { parent, subject, scopes, environment }: TokenClaims,
    until: number,
  ): Promise<{ principal: Principal; key: LiveKey | undefined }> {
    const isOfRoot = parent.startsWith(ROOT_PARENT);
    let key: LiveKey | undefined;
    if (isOfRoot) {
      if (this.#rootKey === undefined || parent !== this.#rootParent())
        throw unauthenticated("the root key that the token was made with is another one by now");
    } else if (parent === anonymous.id) {
      if (this.#isRequired)
        throw unauthenticated("the token was made before this gateway wanted credentials");
    } else {
      key = this.#live.find(parent) ?? (await this.#refresh(), this.#live.find(parent));
      if (key === undefined)
        throw unauthenticated("the API key that the token was made with was revoked");
    }
    const maker = isOfRoot ? root.id : parent;
    const expiresAt = Math.min(until, key?.expiresAt ?? Infinity);
    return {
      key,
      principal: {
        kind: "token",
        id: `${maker}/${subject ?? "token"}`,
        parent: maker,
        grants: new Grants(scopes),
        ...(environment === undefined ? {} : { environment }),
        ...(expiresAt === Infinity ? {} : { expiresAt }),
      },
    };
  }

  /**
   * Lets somebody in whose credentials are right, if they still hold.
   *
   * @param header what they are remembered by; undefined for what holds only once
   */
  #admit(header: string | undefined, principal: Principal, key: LiveKey | undefined): Principal {
    const { expiresAt } = principal;
    const now = Date.now();
    if (expiresAt !== undefined && expiresAt <= now) {
      if (header !== undefined) this.#cache.delete(header);
      throw unauthenticated(
        principal.kind === "key" ? "the API key has expired" : "the token has expired",
      );
    }
    if (key !== undefined) {
      const since = this.#mirror.staleSince;
      if (since !== undefined && now - since > this.#staleLimit) {
        throw new KvError(
          "store_unavailable",
          "this gateway has not heard for a while whether credentials were revoked",
          { retryAfter: 1 },
        );
      }
      key.usedAt = now;
    }
    if (header !== undefined && this.#cache.get(header) === undefined)
      this.#cache.set(header, { principal, key });
    return principal;
  }

  /** What becomes of credentials that are not good: where none are needed, they do not matter. */
  #stranger(error: KvError): Principal {
    if (this.#isRequired) throw error;
    return anonymous;
  }

  /** Resolves when everything is known that was stored before the call. However many ask, the store is asked once at a time. */
  #refresh(): Promise<void> {
    if (this.#refreshing === undefined) {
      this.#refreshing = this.#readUp().finally(() => (this.#refreshing = undefined));
      return this.#refreshing;
    }
    this.#nextRefresh ??= this.#refreshing
      .catch(() => undefined)
      .then(() => {
        this.#nextRefresh = undefined;
        return this.#refresh();
      });
    return this.#nextRefresh;
  }

  async #readUp(): Promise<void> {
    await this.#buckets.readSystem(AUTH_BUCKET, async (bucket) =>
      this.#mirror.reach(bucket, await bucket.lastRevision()),
    );
  }

  async #parentOf({ kind, parent }: Principal): Promise<string> {
    if (parent === undefined) return anonymous.id;
    if (parent !== root.id) return parent;
    if (kind === "root") await this.#vault.firstHash("");
    return this.#rootParent() ?? root.id;
  }

  #rootParent(): string | undefined {
    const fingerprint = this.#rootKey?.fingerprint((text) => this.#vault.hash(text));
    return fingerprint === undefined ? undefined : ROOT_PARENT + fingerprint;
  }

  async #noteUses(interval: number): Promise<void> {
    if (this.#isNoting) return;
    this.#isNoting = true;
    try {
      for (const key of this.#live.unnoted(interval)) {
        const { usedAt } = key;
        await this.keys.noteUse(key.id, usedAt);
        key.notedAt = usedAt;
      }
    } catch {
      // The next round tries again.
    } finally {
      this.#isNoting = false;
    }
  }
}

const ROOT_PARENT = "root:";

/** The scopes of a token or ticket. @throws KvError `forbidden` when its maker has less */
function handedOn(wanted: readonly Scope[] | undefined, { grants }: Principal): Scope[] {
  if (wanted === undefined)
    return grants.isUnlimited ? [{ verbs: [...verbs] }] : [...grants.scopes];
  if (!grants.includes(wanted))
    throw new KvError("forbidden", "the scopes allow more than your own credentials do");
  return [...wanted];
}

/** Whom a token was made for that makes another one. */
function subjectOf({ kind, id, parent }: Principal): string | undefined {
  if (kind !== "token" || parent === undefined) return undefined;
  const subject = id.slice(parent.length + 1);
  return subject === "token" ? undefined : subject;
}
