import { KvError } from "../protocol/errors.ts";
import { codes, JetStreamError } from "./jetstream.ts";

/**
 * What a failure of JetStream means to the user of a bucket. Anything that has no meaning of its own comes back as
 * it was and ends as an internal error.
 */
export function kvErrorOf(error: unknown, bucket: string): unknown {
  if (!(error instanceof JetStreamError)) return error;
  switch (error.code) {
    case codes.streamNotFound:
      return bucketNotFound(bucket, error);
    case codes.streamNameInUse:
      return new KvError("bucket_exists", `bucket "${bucket}" exists already`, { cause: error });
    case codes.maximumBytes:
    case codes.maximumMessages:
      return new KvError(
        "bucket_full",
        `bucket "${bucket}" is full: raise its max_bytes, or purge keys and compact it`,
        { cause: error },
      );
    case codes.storageResources:
    case codes.memoryResources:
    case codes.insufficientResources:
      return new KvError("bucket_full", "the NATS server has no room left for this", {
        cause: error,
      });
    case codes.batchIncomplete:
    case codes.tooManyBatches:
      // What killed writers left unfinished counts for another ten seconds.
      return new KvError(
        "store_unavailable",
        `bucket "${bucket}" has too many unfinished transactions now`,
        { retryAfter: 1, cause: error },
      );
    case codes.messageTooLarge:
      return new KvError("value_too_large", `the value is larger than bucket "${bucket}" takes`, {
        cause: error,
      });
    case codes.noPeers:
    case codes.replicasWithoutCluster:
      return new KvError(
        "invalid_request",
        `"replicas": the NATS server has not that many peers (${error.message})`,
        {
          details: { field: "replicas" },
          cause: error,
        },
      );
    case codes.streamInvalidConfig:
      return new KvError("config_differs", `JetStream refuses these settings: ${error.message}`, {
        cause: error,
      });
    default:
      if (error.status !== 503) return error;
      return new KvError("store_unavailable", "JetStream cannot answer now", {
        retryAfter: 1,
        cause: error,
      });
  }
}

export function bucketNotFound(bucket: string, cause?: unknown): KvError {
  return new KvError(
    "bucket_not_found",
    `bucket "${bucket}" does not exist: create it with POST /api/v1/kv/buckets`,
    { cause },
  );
}

/** The error for something that the NATS server is too old for. */
export function needsServer(what: string, needed: string, version: string): KvError {
  return new KvError(
    "unsupported",
    `${what} needs nats-server ${needed} or newer: this one is ${version}`,
    {
      details: { needs: needed, server: version },
    },
  );
}

/** Whether JetStream refused a write because the key stands at another revision than expected. */
export function isWrongRevision(error: unknown): boolean {
  return (
    error instanceof JetStreamError &&
    (error.code === codes.wrongLastSequence || error.code === codes.wrongLastSequenceUnknown)
  );
}
