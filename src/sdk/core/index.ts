/** What both entries export. */
export { bytesOf } from "./values.ts";
export { JetbucketError } from "./errors.ts";
export type { Bucket, DeleteOptions, GetOptions, Written } from "./bucket.ts";
export type { BucketChanges, BucketConfig, BucketInfo } from "./bucket-info.ts";
export type { Client } from "./client.ts";
export type { Entry, Revision, Tombstone } from "./entry.ts";
export type { ClientErrorCode, JetbucketErrorCode } from "./errors.ts";
export type { KvClient } from "./kv.ts";
export type { CallOptions, ClientOptions } from "./options.ts";
export type { Change, ReadyInfo, WatchCallbacks, Watcher, WatchOptions } from "./watch.ts";
export type { CloseInfo, WatchStateName } from "./watch-machine.ts";
