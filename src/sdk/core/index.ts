/** What both entries export. */
export { bytesOf } from "./values.ts";
export { JetbucketError } from "./errors.ts";
export type { Bucket, CompactOptions } from "./bucket.ts";
export type { BucketChanges, BucketConfig, BucketInfo } from "./bucket-info.ts";
export type { Client } from "./client.ts";
export type { DeleteManyResult, PutItem, PutManyResult } from "./batch.ts";
export type { Entry, EntryDetails, Revision, Tombstone } from "./entry.ts";
export type { ClientErrorCode, FailedOperation, JetbucketErrorCode } from "./errors.ts";
export type { BucketOptions, KvClient } from "./kv.ts";
export type { EntryInfo, Listing, ListOptions } from "./listing.ts";
export type { LiveBucket, LiveOptions, LiveSnapshot } from "./live-bucket.ts";
export type { CallOptions, ClientOptions } from "./options.ts";
export type { Point } from "./points.ts";
export type { Diff, DiffOptions, GetOptions } from "./reads.ts";
export type {
  InferInput,
  InferOutput,
  StandardIssue,
  StandardResult,
  StandardSchemaV1,
} from "./standard-schema.ts";
export type { Committed, OperationOptions, RemovalOptions, Transaction } from "./transaction.ts";
export type { Ttl } from "./ttl.ts";
export type {
  Change,
  ChangeDetails,
  ChangesOptions,
  KeyChange,
  KeysOnly,
  ReadyInfo,
  TransactionPart,
  WatchCallbacks,
  Watcher,
  WatchOptions,
} from "./watch.ts";
export type { CloseInfo, WatchStateName } from "./watch-machine.ts";
export type {
  DeleteOptions,
  Durability,
  IncrementOptions,
  MergePatch,
  PatchOptions,
  PutOptions,
  PutResult,
  RestoreOptions,
  ReturnedValue,
  WriteOptions,
  Written,
} from "./writes.ts";
