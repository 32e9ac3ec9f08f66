import { isLive, type LiveEntry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { everyKey } from "../protocol/keys.ts";
import type { ConfigInfo } from "../protocol/messages.ts";
import type { Bucket, GetOptions } from "../store/bucket.ts";
import type { Buckets } from "../store/buckets.ts";
import { checkCondition, type Condition } from "../store/conditions.ts";
import { documentJson, mergeShallow, parseDocument } from "./document.ts";
import { Turns } from "../store/turns.ts";

/** What the names of the environments' buckets begin with. */
export const CONFIG_BUCKET = "SYS_config_";

/** A config document, its data as JSON text. */
export interface ConfigDocument extends ConfigInfo {
  json: string;
}

/**
 * Config documents: JSON objects by environment and name. An environment's bucket is made with its first document, and made
 * again when somebody deleted it.
 *
 * All methods reject with KvError `store_unavailable` when NATS is away.
 */
export class Configs {
  readonly #buckets: Buckets;
  readonly #turns = new Turns();

  constructor(buckets: Buckets) {
    this.#buckets = buckets;
  }

  /** Largest document, in bytes. */
  get maxSize(): number {
    return this.#buckets.maxValueSize;
  }

  /** @throws KvError `config_not_found` */
  async get(environment: string, name: string, options?: GetOptions): Promise<ConfigDocument> {
    const entry = await this.#read(environment, (bucket) =>
      bucket.get(name, options).catch(asAbsent),
    );
    if (isLive(entry)) return { ...infoOf(entry), json: documentJson(entry) };
    throw new KvError("config_not_found", `config document "${name}" does not exist`);
  }

  /** All documents without their data, sorted by name. */
  async list(environment: string): Promise<ConfigInfo[]> {
    const options = { headersOnly: true };
    return (await this.#buckets.systemEntries(CONFIG_BUCKET + environment, everyKey, options)).map(
      infoOf,
    );
  }

  /**
   * Stores a document, whatever was there before.
   *
   * @param body a JSON object as it was sent, which is how it is stored
   * @returns its revision
   * @throws KvError `invalid_json`, `invalid_request`, `value_too_large`; `key_exists` or `revision_mismatch` when the
   * condition does not hold
   */
  async set(
    environment: string,
    name: string,
    body: Uint8Array,
    condition?: Condition,
  ): Promise<number> {
    const { value } = parseDocument(body);
    const { revision } = await this.#write(environment, (bucket) =>
      bucket.put(name, value, condition && { condition }),
    );
    return revision;
  }

  /**
   * Replaces single fields of a document, each as a whole, however many do so at once. A document that does not exist is made
   * of these fields.
   *
   * @param body a JSON object of the fields
   * @returns the document's revision
   * @throws KvError as {@link set}
   */
  async patch(
    environment: string,
    name: string,
    body: Uint8Array,
    condition?: Condition,
  ): Promise<number> {
    const { fields } = parseDocument(body);
    const patch = (bucket: Bucket): Promise<{ revision: number }> =>
      bucket.replace(name, (latest) => {
        checkCondition(name, condition, latest);
        return { value: mergeShallow(name, latest, fields) };
      });
    // Those of this gateway wait for each other, so that they lose races against other gateways only.
    const { revision } = await this.#turns.take(`${environment}/${name}`, () =>
      this.#write(environment, patch),
    );
    return revision;
  }

  /** Deletes a document. Nothing happens when there is none, unless a condition asks for it. @throws KvError as {@link set} */
  async delete(environment: string, name: string, condition?: Condition): Promise<void> {
    const deleted = await this.#read(environment, (bucket) =>
      bucket.delete(name, condition && { condition }),
    );
    // Without a bucket no document is there.
    if (deleted === undefined) checkCondition(name, condition, undefined);
  }

  #read<T>(environment: string, read: (bucket: Bucket) => Promise<T>): Promise<T | undefined> {
    return this.#buckets.readSystem(CONFIG_BUCKET + environment, read);
  }

  #write<T>(environment: string, write: (bucket: Bucket) => Promise<T>): Promise<T> {
    return this.#buckets.writeSystem(CONFIG_BUCKET + environment, write);
  }
}

function asAbsent(error: unknown): undefined {
  if (error instanceof KvError && error.code === "key_not_found") return undefined;
  throw error;
}

function infoOf({ key, revision, createdAt }: LiveEntry): ConfigInfo {
  return { name: key, revision, updatedAt: createdAt };
}
