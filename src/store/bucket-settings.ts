import { randomInt } from "node:crypto";
import { nuid } from "nats";
import { APP_PREFIX, streamOfBucket } from "../protocol/bucket-names.ts";
import { limits } from "../protocol/limits.ts";
import type { BucketInfo, CreateBucketRequest, UpdateBucketRequest } from "../protocol/messages.ts";
import { versionNeeded, type Capabilities } from "./capabilities.ts";
import { needsServer } from "./errors.ts";
import type { StreamConfig, StreamInfo } from "./jetstream.ts";

const NANOS = 1_000_000_000;
/** JetStream's default window for duplicate message ids; it must not exceed the age of messages. */
const DUPLICATE_WINDOW = 120 * NANOS;
/** With a history, a marker's life is the shortest TTL that a key can have, so it is the shortest there is. */
const MARKER_TTL = 1 * NANOS;

/**
 * The size that users see. A stream's own limit counts the headers that jetbucket stores beside a value, so it is
 * higher, and the exact one is kept here.
 */
const MAX_VALUE_SIZE = "jetbucket-max-value-size";

/**
 * JetStream answers a second creation with the same settings like the first. An id that no other creation has makes
 * the second one differ, and so fail.
 */
const CREATION_ID = "jetbucket-creation-id";

/**
 * A server that keeps no such texts (before 2.10) keeps a window for duplicates that falls short of a whole millisecond
 * by some nanoseconds. They are the creation's id there, and say that the stream's limit leaves room for headers.
 */
const MILLISECOND = 1_000_000;

/**
 * The stream behind a new bucket: an ordinary JetStream KV bucket.
 *
 * @throws KvError `unsupported`
 */
export function streamConfigOf(request: CreateBucketRequest, can: Capabilities): StreamConfig {
  if (request.compression === true && !can.compression)
    throw needsServer("compression", versionNeeded("compression"), can.version);
  const stream: StreamConfig = {
    name: streamOfBucket(request.name),
    subjects: [`$KV.${APP_PREFIX}${request.name}.>`],
    retention: "limits",
    discard: "new",
    max_consumers: -1,
    max_msgs: -1,
    max_msgs_per_subject: request.history ?? 1,
    max_bytes: -1,
    max_age: 0,
    storage: request.storage ?? "file",
    compression: request.compression === true ? "s2" : "none",
    num_replicas: request.replicas ?? 1,
    allow_rollup_hdrs: true,
    deny_delete: true,
    deny_purge: false,
    ...(can.metadata
      ? { metadata: { [CREATION_ID]: nuid.next() } }
      : { duplicate_window: DUPLICATE_WINDOW - randomInt(1, MILLISECOND) }),
    allow_direct: true,
    ...(can.messageTtl ? { allow_msg_ttl: true, subject_delete_marker_ttl: MARKER_TTL } : {}),
    ...(can.atomicBatch ? { allow_atomic: true } : {}),
  };
  return withSettings(stream, { ...request, ttl_seconds: request.ttl_seconds ?? 0 });
}

/** A stream's configuration with some of its bucket's settings changed. */
export function withSettings(stream: StreamConfig, change: UpdateBucketRequest): StreamConfig {
  const next = { ...stream };
  if (change.description !== undefined) next.description = change.description;
  if (change.history !== undefined) next.max_msgs_per_subject = change.history;
  if (change.replicas !== undefined) next.num_replicas = change.replicas;
  if (change.max_bytes !== undefined)
    next.max_bytes = change.max_bytes === 0 ? -1 : change.max_bytes;
  if (change.ttl_seconds !== undefined) {
    next.max_age = change.ttl_seconds * NANOS;
    const window = next.max_age === 0 ? DUPLICATE_WINDOW : Math.min(DUPLICATE_WINDOW, next.max_age);
    next.duplicate_window = window - missingNanos(stream);
  }
  if (change.max_value_size !== undefined) {
    const metadata = { ...stream.metadata };
    if (change.max_value_size === 0) {
      next.max_msg_size = -1;
      Reflect.deleteProperty(metadata, MAX_VALUE_SIZE);
    } else {
      next.max_msg_size = change.max_value_size + limits.valueHeaders;
      metadata[MAX_VALUE_SIZE] = String(change.max_value_size);
    }
    next.metadata = metadata;
  }
  return next;
}

/** Largest value of a bucket in bytes, or undefined without a limit of its own. */
export function maxValueSizeOf(config: StreamConfig): number | undefined {
  const own = config.metadata?.[MAX_VALUE_SIZE];
  if (own !== undefined && /^\d+$/.test(own)) return Number(own);
  const size = config.max_msg_size ?? -1;
  if (size <= 0) return undefined;
  return missingNanos(config) === 0 ? size : size - limits.valueHeaders;
}

/** The nanoseconds by which a stream's window for duplicates falls short of a whole millisecond. */
function missingNanos({ duplicate_window: window = 0 }: StreamConfig): number {
  return (MILLISECOND - (window % MILLISECOND)) % MILLISECOND;
}

/** A bucket as users see it, from its stream. */
export function bucketInfoOf(name: string, info: StreamInfo, keys: number): BucketInfo {
  const { config, state } = info;
  const maxValueSize = maxValueSizeOf(config);
  return {
    name,
    ...(config.description === undefined || config.description === ""
      ? {}
      : { description: config.description }),
    ...(config.max_age > 0 ? { ttl_seconds: config.max_age / NANOS } : {}),
    ...(maxValueSize === undefined ? {} : { max_value_size: maxValueSize }),
    ...(config.max_bytes > 0 ? { max_bytes: config.max_bytes } : {}),
    history: config.max_msgs_per_subject,
    replicas: config.num_replicas,
    storage: config.storage,
    compression: config.compression === "s2",
    values: state.messages,
    keys,
    bytes: state.bytes,
    created_at: new Date(info.created).toISOString(),
  };
}
