import type { SecretInfo as SecretBody, SecretValue } from "../../protocol/messages.ts";
import { environmentHeaders, namedPath, type EnvironmentOptions } from "./configs.ts";
import { camelFields } from "./fields.ts";
import type { CallOptions } from "./options.ts";
import type { ApiRequest, Transport } from "./transport.ts";
import { jsonBodyOf } from "./values.ts";

const SECRETS = "/api/v1/secrets";

/** What is known of a secret beside its value. */
export interface SecretInfo {
  name: string;
  revision: number;
  description?: string;
  /** When it was first set, ISO 8601. */
  createdAt: string;
  /** When its value was set last, ISO 8601. */
  updatedAt: string;
  /** When it goes by itself, ISO 8601; undefined when it does not. */
  expiresAt?: string;
}

/** Options of {@link SecretsClient.set}. */
export interface SecretOptions extends CallOptions {
  /** What it is for, up to 256 characters; not encrypted. Default: as it is. */
  description?: string | undefined;
}

/**
 * Secrets: texts that the server stores encrypted, those of one environment.
 *
 * Every method rejects with a {@link JetbucketError}: beside the codes that it names, with `secrets_disabled` when the server
 * has no key for them, `unauthenticated`, `forbidden`, `store_unavailable`, `timeout`, `network` and `aborted`.
 */
export class SecretsClient {
  readonly #transport: Transport;
  readonly #headers: Record<string, string>;

  /** @internal */
  constructor(transport: Transport, options: EnvironmentOptions) {
    this.#transport = transport;
    this.#headers = environmentHeaders(options);
  }

  /**
   * Sets the value of a secret, whether there is one of that name or not.
   *
   * @param value up to 64 KiB in UTF-8
   * @example
   * await client.secrets().set("db-password", password, { description: "of the orders database" });
   */
  async set(name: string, value: string, options: SecretOptions = {}): Promise<SecretInfo> {
    const { description } = options;
    return this.#info("PUT", name, options, { value, description });
  }

  /**
   * What is known of all secrets, sorted by name.
   *
   * @example
   * for (const { name, updatedAt } of await client.secrets().list()) console.log(name, updatedAt);
   */
  async list(options: CallOptions = {}): Promise<SecretInfo[]> {
    const infos = await this.#send({ method: "GET", path: SECRETS }, options);
    return (infos as SecretBody[]).map(infoOf);
  }

  /**
   * What is known of a secret.
   *
   * Rejects with `secret_not_found`.
   *
   * @example
   * const { updatedAt } = await client.secrets().info("db-password");
   */
  async info(name: string, options: CallOptions = {}): Promise<SecretInfo> {
    return this.#info("GET", name, options);
  }

  /**
   * Gives a secret another name, in one step.
   *
   * Rejects with `secret_not_found`, and with `secret_exists` when the new name is taken.
   *
   * @example
   * await client.secrets().rename("db-password", "orders-db-password");
   */
  async rename(name: string, newName: string, options: CallOptions = {}): Promise<SecretInfo> {
    return this.#info("PATCH", name, options, { name: newName });
  }

  /**
   * Says what a secret is for.
   *
   * Rejects with `secret_not_found`.
   *
   * @param description up to 256 characters, not encrypted; an empty one takes it away
   * @example
   * await client.secrets().describe("db-password", "of the orders database");
   */
  async describe(
    name: string,
    description: string,
    options: CallOptions = {},
  ): Promise<SecretInfo> {
    return this.#info("PATCH", name, options, { description });
  }

  /**
   * Deletes a secret. Nothing happens when there is none.
   *
   * @example
   * await client.secrets().delete("db-password");
   */
  async delete(name: string, options: CallOptions = {}): Promise<void> {
    await this.#send({ method: "DELETE", path: namedPath(SECRETS, name) }, options);
  }

  /**
   * The value of a secret.
   *
   * Rejects with `secret_not_found`, and with `secret_unreadable` when the server lacks the key for it.
   *
   * @example
   * const password = await client.secrets().reveal("db-password");
   */
  async reveal(name: string, options: CallOptions = {}): Promise<string> {
    const path = `${namedPath(SECRETS, name)}/value`;
    return ((await this.#send({ method: "GET", path }, options)) as SecretValue).value;
  }

  /**
   * The values of all secrets that a program needs, read at once, so that a missing one is found when it starts.
   *
   * Rejects as {@link reveal} does, for the first one that fails.
   *
   * @example
   * const secrets = await client.secrets().resolve(["db-password", "api-key"]);
   * connect(secrets.get("db-password"));
   */
  async resolve<Name extends string>(
    names: readonly Name[],
    options: CallOptions = {},
  ): Promise<ResolvedSecrets<Name>> {
    const values = await Promise.all(
      names.map(async (name) => [name, await this.reveal(name, options)] as const),
    );
    return new ResolvedSecrets(new Map(values));
  }

  async #info(
    method: "GET" | "PUT" | "PATCH",
    name: string,
    call: CallOptions,
    fields?: object,
  ): Promise<SecretInfo> {
    const body = fields === undefined ? {} : { body: jsonBodyOf(fields) };
    const info = await this.#send({ method, path: namedPath(SECRETS, name), ...body }, call);
    return infoOf(info as SecretBody);
  }

  #send(request: ApiRequest, call: CallOptions): Promise<unknown> {
    return this.#transport.send({ ...request, headers: this.#headers }, call);
  }
}

/** Secrets that were resolved, by name. Their values do not show when it is printed or written as JSON. */
export class ResolvedSecrets<Name extends string = string> {
  readonly #values: ReadonlyMap<string, string>;

  /** @internal */
  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  /**
   * The value of a secret.
   *
   * @throws TypeError for a name that was not among those that were resolved
   * @example
   * const password = secrets.get("db-password");
   */
  get(name: Name): string {
    const value = this.#values.get(name);
    if (value === undefined) {
      throw new TypeError(`secret ${JSON.stringify(name)} was not resolved: add it to the names`);
    }
    return value;
  }

  /**
   * Whether a secret was resolved.
   *
   * @example
   * if (secrets.has("api-key")) useApi(secrets.get("api-key"));
   */
  has(name: string): name is Name {
    return this.#values.has(name);
  }
}

function infoOf(body: SecretBody): SecretInfo {
  return camelFields(body) as SecretInfo;
}
