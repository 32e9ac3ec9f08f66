import type { ConfigBody, ConfigInfo, ConfigList } from "../../protocol/messages.ts";
import type { Connection } from "./access.ts";
import { watchConfig, type ConfigWatchCallbacks, type ConfigWatchOptions } from "./config-watch.ts";
import { JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";
import { queryOf } from "./paths.ts";
import { revisionText } from "./points.ts";
import type { Transport } from "./transport.ts";
import { jsonBodyOf } from "./values.ts";
import type { Watcher } from "./watch.ts";

export type { ConfigInfo } from "../../protocol/messages.ts";
export type { ConfigChange, ConfigWatchCallbacks, ConfigWatchOptions } from "./config-watch.ts";

const CONFIGS = "/api/v1/config";

/** Options of {@link NodeClient.config} and {@link NodeClient.secrets}. */
export interface EnvironmentOptions {
  /** Whose documents and secrets: 1 to 64 letters, digits, `_` and `-`. Default: the key's own, or `default`. */
  environment?: string | undefined;
}

/** A config document. */
export interface ConfigDocument<T> extends ConfigInfo {
  data: T;
}

/** Options of writes to config documents. */
export interface ConfigWriteOptions extends CallOptions {
  /** Only when the document is at this revision; 0 means that it must not exist. Default: whatever is there. */
  ifRevision?: number | undefined;
}

/** What a write made. */
export interface ConfigWritten {
  name: string;
  revision: number;
}

/**
 * Config documents: JSON objects by name, those of one environment.
 *
 * Every method rejects with a {@link JetbucketError}: beside the codes that it names, with `unauthenticated`, `forbidden`,
 * `store_unavailable`, `timeout`, `network` and `aborted`.
 */
export class ConfigClient {
  readonly #connection: Connection;
  readonly #options: EnvironmentOptions;
  readonly #transport: Transport;
  readonly #headers: Record<string, string>;

  /** @internal */
  constructor(connection: Connection, options: EnvironmentOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#transport = connection.transport;
    this.#headers = environmentHeaders(options);
  }

  /**
   * Stores a document as a whole, whatever was there before.
   *
   * Rejects with `revision_mismatch` when `ifRevision` does not hold, `value_too_large`.
   *
   * @example
   * await client.config().set("app", { theme: "dark", maxUsers: 10 });
   */
  async set(name: string, data: object, options: ConfigWriteOptions = {}): Promise<ConfigWritten> {
    return this.#write("POST", name, data, options);
  }

  /**
   * Replaces single fields of a document, each as a whole, in one step however many do so at once. A document that does not
   * exist is made of these fields.
   *
   * Rejects as {@link set} does.
   *
   * @example
   * await client.config().patch("app", { maxUsers: 20 });
   */
  async patch(
    name: string,
    fields: object,
    options: ConfigWriteOptions = {},
  ): Promise<ConfigWritten> {
    return this.#write("PATCH", name, fields, options);
  }

  /**
   * Reads a document.
   *
   * Rejects with `config_not_found`.
   *
   * @typeParam T what its data are; the SDK takes your word for it
   * @example
   * const { data, revision } = await client.config().get<{ theme: string }>("app");
   */
  async get<T = Record<string, unknown>>(
    name: string,
    options: CallOptions = {},
  ): Promise<ConfigDocument<T>> {
    const path = namedPath(CONFIGS, name);
    const body = await this.#transport.send(
      { method: "GET", path, headers: this.#headers },
      options,
    );
    return body as ConfigBody as ConfigDocument<T>;
  }

  /**
   * All documents without their data, sorted by name.
   *
   * @example
   * for (const { name, updatedAt } of await client.config().list()) console.log(name, updatedAt);
   */
  async list(options: CallOptions = {}): Promise<ConfigInfo[]> {
    const request = { method: "GET", path: CONFIGS, headers: this.#headers } as const;
    return ((await this.#transport.send(request, options)) as ConfigList).configs;
  }

  /**
   * Deletes a document. Nothing happens when there is none.
   *
   * Rejects with `revision_mismatch` when `ifRevision` does not hold.
   *
   * @example
   * await client.config().delete("app");
   */
  async delete(name: string, options: ConfigWriteOptions = {}): Promise<void> {
    const headers = { ...this.#headers, ...conditionOf(options) };
    const path = namedPath(CONFIGS, name);
    await this.#transport.send({ method: "DELETE", path, headers }, options);
  }

  /**
   * Watches a document: tells what it is now, unless there is none, and then every change, through whatever happens to the
   * connection. When many changes come at once, some may be left out, but never the last one. The watch may begin before there is
   * a document, and goes on when it is deleted.
   *
   * @param callbacks `onUpdate` has `data: null` when the document was deleted; what happens to the watch, and when it ends, as
   * for those of buckets
   * @param options a signal that ends the watch as `stop()` does
   * @throws TypeError without `onUpdate`
   * @example
   * const watch = client.config().watch<{ theme: string }>("app", {
   *   onUpdate: ({ data }) => applyTheme(data?.theme ?? "light"),
   * });
   * watch.stop();
   */
  watch<T = Record<string, unknown>>(
    name: string,
    callbacks: ConfigWatchCallbacks<T>,
    options: ConfigWatchOptions = {},
  ): Watcher {
    const path = namedPath(CONFIGS, name);
    const { environment } = this.#options;
    const probe = async (): Promise<void> => {
      try {
        await this.#transport.send({ method: "GET", path, headers: this.#headers });
      } catch (error) {
        // Not to be there yet is no reason not to be watched.
        if (!(error instanceof JetbucketError && error.code === "config_not_found")) throw error;
      }
    };
    const url = `${path}/watch${queryOf({ environment })}`;
    return watchConfig({ name, url, probe, connection: this.#connection }, callbacks, options);
  }

  async #write(
    method: "POST" | "PATCH",
    name: string,
    data: object,
    options: ConfigWriteOptions,
  ): Promise<ConfigWritten> {
    const request = {
      method,
      path: namedPath(CONFIGS, name),
      headers: { ...this.#headers, ...conditionOf(options) },
      body: jsonBodyOf(data),
    };
    return (await this.#transport.send(request, options)) as ConfigWritten;
  }
}

function conditionOf({ ifRevision }: ConfigWriteOptions): Record<string, string> {
  return ifRevision === undefined ? {} : { "if-match": revisionText(ifRevision) };
}

/** Headers that say which environment a request is about. */
export function environmentHeaders({ environment }: EnvironmentOptions): Record<string, string> {
  return environment === undefined ? {} : { "x-ironflow-environment": environment };
}

/** Path of something with a name. The server judges the name; refused here is only what would make it another path. */
export function namedPath(base: string, name: string): string {
  if (name === "" || name === "." || name === ".." || !name.isWellFormed()) {
    throw new JetbucketError("invalid_request", `${JSON.stringify(name)} cannot be a name`);
  }
  return `${base}/${encodeURIComponent(name)}`;
}
