/** What can be changed after a bucket was created. */
export interface BucketChanges {
  description?: string | undefined;
  /** Seconds that a value lives after its last write; 0 is for ever. Default 0. */
  ttlSeconds?: number | undefined;
  /** Largest value, in bytes; 0 is no limit but the server's. Default 0. */
  maxValueSize?: number | undefined;
  /** Largest size of the whole bucket, in bytes; 0 is no limit. Default 0. */
  maxBytes?: number | undefined;
  /** Revisions kept per key, 1 to 64. Default 1. */
  history?: number | undefined;
  /** Copies in a NATS cluster, 1 to 5. Default 1. */
  replicas?: number | undefined;
}

/** A bucket to create. */
export interface BucketConfig extends BucketChanges {
  /** 1 to 64 letters, digits, `_` and `-`. */
  name: string;
  /** Where values are kept. Default `file`. */
  storage?: "file" | "memory" | undefined;
  /** Whether values are compressed on disk. Default false. */
  compression?: boolean | undefined;
}

/** A bucket as the server knows it. */
export interface BucketInfo {
  name: string;
  description?: string;
  /** Seconds that a value lives after its last write; undefined is for ever. */
  ttlSeconds?: number;
  /** Largest value, in bytes. */
  maxValueSize?: number;
  /** Largest size of the whole bucket, in bytes. */
  maxBytes?: number;
  /** Revisions kept per key. */
  history: number;
  replicas: number;
  storage: "file" | "memory";
  compression: boolean;
  /** All stored revisions, tombstones included. This and the next two are undefined for those who may not read all keys. */
  values?: number;
  /** Live keys. */
  keys?: number;
  /** Size on the server, in bytes. */
  bytes?: number;
  /** When it was created, ISO 8601. */
  createdAt: string;
}
