import { KvError } from "../protocol/errors.ts";
import { encodeKey } from "../protocol/keys.ts";
import { limits } from "../protocol/limits.ts";
import type { Value } from "../protocol/values.ts";
import { maxValueSizeOf } from "./bucket-settings.ts";
import { capabilitiesOf } from "./capabilities.ts";
import type { StoreConnection } from "./connection.ts";
import { needsServer } from "./errors.ts";
import type { StreamConfig } from "./jetstream.ts";
import type { Message } from "./requests.ts";
import {
  CARRIER,
  carrierHeaders,
  setCheck,
  tombstoneHeaders,
  valueHeaders,
  type ValueExtras,
} from "./stored-message.ts";

const NOTHING = new Uint8Array(0);

/** The messages that write to a bucket, checked against what the bucket takes. */
export class WriteMessages {
  readonly #connection: StoreConnection;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #keepsHistory: boolean;
  readonly #maxValueSize: number | undefined;
  readonly #allowsTtl: boolean;

  /**
   * @param bucket its name, for errors
   * @param prefix what the subjects of its keys begin with
   */
  constructor(connection: StoreConnection, bucket: string, prefix: string, config: StreamConfig) {
    this.#connection = connection;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#keepsHistory = config.max_msgs_per_subject !== 1;
    this.#maxValueSize = maxValueSizeOf(config);
    this.#allowsTtl = config.allow_msg_ttl === true;
  }

  /**
   * A value.
   *
   * @param expected revision at which its key must stand; 0 for a key that was never written
   * @throws KvError `value_too_large`, `unsupported`, `config_differs`
   */
  value(key: string, value: Value, extras: ValueExtras, expected?: number): Message {
    this.check(value, extras.ttl);
    const headers = valueHeaders(value, extras, this.#keepsHistory, expected);
    return { subject: this.#prefix + encodeKey(key), payload: value.bytes, headers };
  }

  /** A tombstone; a purge takes the key's history with it. */
  tombstone(key: string, purge: boolean, expected?: number): Message {
    const headers = tombstoneHeaders(purge, expected);
    return { subject: this.#prefix + encodeKey(key), payload: NOTHING, headers };
  }

  /** A message that is there only to carry a condition on some key. It looks deleted, and goes by itself. */
  carrier(): Message {
    return { subject: this.#prefix + CARRIER, payload: NOTHING, headers: carrierHeaders() };
  }

  /** Makes a message depend on the revision of a key that the batch does not write. */
  addCheck({ headers }: Message, key: string, revision: number): void {
    setCheck(headers, this.#prefix + encodeKey(key), revision);
  }

  /**
   * Checks a value before anything is asked of the store.
   *
   * @param ttl seconds
   * @throws KvError `value_too_large`, `unsupported`, `config_differs`
   */
  check(value: Value, ttl: number | undefined): void {
    this.#checkSize(value);
    if (ttl !== undefined && !this.#allowsTtl) throw this.#withoutTtl();
  }

  #checkSize(value: Value): void {
    const { length } = value.bytes;
    const room = this.#connection.maxPayload - limits.valueHeaders;
    const limit = Math.min(this.#maxValueSize ?? room, room);
    if (length <= limit) return;
    const who = limit === room ? "the NATS server" : `bucket "${this.#bucket}"`;
    throw new KvError(
      "value_too_large",
      `the value has ${length} bytes, ${who} takes at most ${limit}`,
      { details: { max_value_size: limit } },
    );
  }

  #withoutTtl(): KvError {
    const { serverVersion } = this.#connection;
    if (!capabilitiesOf(serverVersion).messageTtl)
      return needsServer("a time to live of single keys", "2.11", serverVersion);
    return new KvError(
      "config_differs",
      `bucket "${this.#bucket}" was created without support for times to live of single keys (allow_msg_ttl)`,
    );
  }
}
