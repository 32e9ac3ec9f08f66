/** Secrets: keys of another space, stored as the gateway's own secrets are. */
import type { Context } from "hono";
import { KvError } from "../../protocol/errors.ts";
import { utf8 } from "../../protocol/values.ts";
import type { OpenSecret, Secrets } from "../../secrets/secrets.ts";
import { keyNotFound, shownJson, type ForgeRequest } from "./keys.ts";
import {
  checkKey,
  deleteSchema,
  forgeLimits,
  getSchema,
  parse,
  setSchema,
  ttlOf,
  jsonOf,
  type MetadataField,
} from "./requests.ts";

/** How a secret that is not plain text is labelled. */
const JSON_LABEL = "json";

/** The environment in which the secrets of a bucket lie, and by which rights to them are given. */
export function secretsEnvironment(bucket: string): string {
  return `forge_${bucket}`;
}

/** Decides whether the sender of a request may see the value of a secret, and throws when not. */
export type RevealPolicy = (c: Context, environment: string, name: string) => void | Promise<void>;

/** Reads and writes secrets. Where there is no master key all of it fails with `secrets_disabled`. */
export class ForgeSecrets {
  readonly #given: Secrets | undefined;
  readonly #mayReveal: RevealPolicy;

  constructor(secrets: Secrets | undefined, mayReveal: RevealPolicy) {
    this.#given = secrets;
    this.#mayReveal = mayReveal;
  }

  async get(request: ForgeRequest, c: Context): Promise<string> {
    const secrets = this.#secrets();
    const { key, options } = parse(getSchema, request.body);
    checkKey(key);
    const environment = await this.#allowReveal(request, key, c);
    try {
      return secretJson(await secrets.open(environment, key), options?.metadataFields);
    } catch (error) {
      if (error instanceof KvError && error.code === "secret_not_found") throw keyNotFound(key);
      throw error;
    }
  }

  async set(request: ForgeRequest, c: Context): Promise<string | undefined> {
    const secrets = this.#secrets();
    const { key, value, options = {} } = parse(setSchema, request.body);
    checkKey(key);
    const { keyPolicy, returnValue, returnMetadataFields: fields } = options;
    const environment = secretsEnvironment(request.bucket);
    request.grants.require("secrets", environment, key);
    const { text, label, json } = textOf(value);
    const stored = { ...ttlOf(options.ttl), label };
    if (returnValue === "PREVIOUS") {
      await this.#allowReveal(request, key, c);
      const previous = await secrets.exchange(environment, key, text, stored);
      return previous && secretJson(previous, fields);
    }
    const info =
      keyPolicy === "FAIL_IF_EXISTS"
        ? await secrets.create(environment, key, text, stored)
        : await secrets.set(environment, key, text, stored);
    return returnValue === "LATEST" ? infoJson(info, json, fields) : undefined;
  }

  async delete({ bucket, body, grants }: ForgeRequest): Promise<undefined> {
    const secrets = this.#secrets();
    const { key } = parse(deleteSchema, body);
    checkKey(key);
    const environment = secretsEnvironment(bucket);
    grants.require("secrets", environment, key);
    await secrets.delete(environment, key);
  }

  async #allowReveal({ bucket, grants }: ForgeRequest, key: string, c: Context): Promise<string> {
    const environment = secretsEnvironment(bucket);
    grants.require("secrets:reveal", environment, key);
    await this.#mayReveal(c, environment, key);
    return environment;
  }

  #secrets(): Secrets {
    if (this.#given !== undefined) return this.#given;
    throw new KvError(
      "secrets_disabled",
      "this gateway has no master key for secrets: set JETBUCKET_MASTER_KEY or JETBUCKET_MASTER_KEY_FILE",
    );
  }
}

/** A string is stored as it is, so that it is the same to whoever reveals it elsewhere; all else is stored as JSON. */
function textOf(value: unknown): { text: string; label: string | undefined; json: string } {
  const json = utf8(jsonOf(value, forgeLimits.secret).bytes)!;
  return typeof value === "string" && value.isWellFormed()
    ? { text: value, label: undefined, json }
    : { text: json, label: JSON_LABEL, json };
}

function secretJson({ info, value, label }: OpenSecret, fields?: readonly MetadataField[]): string {
  return infoJson(info, label === JSON_LABEL ? value : JSON.stringify(value), fields);
}

function infoJson(
  { name: key, created_at: createdAt, updated_at: updatedAt, expires_at }: OpenSecret["info"],
  value: string,
  fields?: readonly MetadataField[],
): string {
  return shownJson({ key, value, createdAt, updatedAt, expiresAt: expires_at }, fields);
}
