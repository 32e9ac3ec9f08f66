/**
 * Stored messages and entries: how one becomes the other. jetbucket's own headers carry what NATS KV has no place
 * for; every other NATS client ignores them.
 */
import { headers as newHeaders, nuid, type Msg, type MsgHdrs } from "nats";
import type { DeleteReason, Entry, ValueType } from "../protocol/entry.ts";
import { decodeKey } from "../protocol/keys.ts";
import type { Value } from "../protocol/values.ts";
import { headersOf, type MessageHeaders } from "./message-headers.ts";

/** What the writer declared the value to be: `json`, `text` or `bytes`. JSON so marked was checked. */
const TYPE = "Jb-Type";
const CONTENT_TYPE = "Content-Type";
/** When the key was first written. */
const FIRST_CREATED = "Jb-Created";
/** Percent-encoded: a header holds one line of ASCII. */
const DESCRIPTION = "Jb-Description";
const LABEL = "Jb-Label";
/** When the value expires, where that is not a whole number of seconds after its writing. */
const EXPIRES = "Jb-Expires";
const TTL = "Nats-TTL";
const OPERATION = "KV-Operation";
const ROLLUP = "Nats-Rollup";
const EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject";
const MARKER_REASON = "Nats-Marker-Reason";
const BATCH_ID = "Nats-Batch-Id";
const BATCH_SEQUENCE = "Nats-Batch-Sequence";
const BATCH_COMMIT = "Nats-Batch-Commit";
/** What the ids of batches begin with that are only a faster way to store: their kind. */
const GROUP = "group-";
/** Size of a payload that was left on the server. */
const SIZE = "Nats-Msg-Size";

const NOTHING = new Uint8Array(0);

/** What has to be known of a bucket to read its messages. */
export interface MessageContext {
  /** What the subjects of its keys begin with. */
  prefix: string;
  /** Milliseconds after which every value of the bucket expires; 0 for never. */
  maxAge: number;
}

/** What is stored beside a value. */
export interface ValueExtras {
  /** Seconds; those that are written, whole: see {@link inWholeSeconds}. */
  ttl?: number;
  /** The exact end of the value's life, when `ttl` is rounded up to it: ISO 8601. */
  expiresAt?: string;
  firstCreatedAt?: string;
  description?: string;
  label?: string;
}

/** Where a message stands: read from the reply subject of a delivered message. */
export interface Delivery {
  streamSequence: number;
  consumerSequence: number;
  /** Milliseconds since 1970. */
  timestamp: number;
  /** Messages that the consumer has still to deliver. */
  pending: number;
}

/**
 * Headers of a stored value.
 *
 * @param keepsHistory whether the bucket keeps older revisions. Then a value that expires has to take them along when it is
 * written: else its end would uncover the one before it.
 */
export function valueHeaders(
  value: Value,
  extras: ValueExtras,
  keepsHistory: boolean,
  expected?: number,
): MsgHdrs {
  const headers = newHeaders();
  if (value.type !== undefined) headers.set(TYPE, value.type);
  if (value.contentType !== undefined) headers.set(CONTENT_TYPE, value.contentType);
  if (expected !== undefined) headers.set(EXPECTED_REVISION, String(expected));
  if (extras.ttl !== undefined) {
    headers.set(TTL, `${extras.ttl}s`);
    if (keepsHistory) headers.set(ROLLUP, "sub");
  }
  if (extras.expiresAt !== undefined) headers.set(EXPIRES, extras.expiresAt);
  if (extras.firstCreatedAt !== undefined) headers.set(FIRST_CREATED, extras.firstCreatedAt);
  if (extras.description !== undefined)
    headers.set(DESCRIPTION, encodeURIComponent(extras.description));
  if (extras.label !== undefined) headers.set(LABEL, extras.label);
  return headers;
}

/** Extras as JetStream can keep them, which takes a life in whole seconds: rounded up, with its exact end beside it. */
export function inWholeSeconds(extras: ValueExtras): ValueExtras {
  const { ttl } = extras;
  if (ttl === undefined || Number.isInteger(ttl)) return extras;
  const expiresAt = isoAfter(new Date().toISOString(), Math.round(ttl * 1000));
  return { ...extras, ttl: Math.ceil(ttl), expiresAt };
}

/** Headers of a tombstone; a purge takes the key's history with it. */
export function tombstoneHeaders(purge: boolean, expected?: number): MsgHdrs {
  const headers = newHeaders();
  headers.set(OPERATION, purge ? "PURGE" : "DEL");
  if (purge) headers.set(ROLLUP, "sub");
  if (expected !== undefined) headers.set(EXPECTED_REVISION, String(expected));
  return headers;
}

/**
 * Subject suffix of messages that only carry a condition of a transaction. No key is stored under it: the escape in it is of a
 * character that is never escaped.
 */
export const CARRIER = "_jetbucket=2Fcarrier";

/** Headers of such a message: for every NATS client a deleted key, and gone after a second. */
export function carrierHeaders(): MsgHdrs {
  const headers = tombstoneHeaders(false);
  headers.set(TTL, "1s");
  return headers;
}

/** Makes a message depend on another subject's revision. */
export function setCheck(headers: MsgHdrs, subject: string, revision: number): void {
  headers.set(EXPECTED_REVISION, String(revision));
  headers.set(EXPECTED_SUBJECT, subject);
}

/** What an atomic batch is to users: a transaction, or nothing, when it is only a faster way to store. */
export type BatchKind = "transaction" | "group";

/** A message's part in a transaction. */
export interface BatchPart {
  /** The same for all messages of the transaction. */
  id: string;
  /** Whether the transaction ends with it. */
  isLast: boolean;
}

/** Makes messages one atomic batch; those of an earlier attempt forget it. */
export function joinBatch(messages: readonly { headers: MsgHdrs }[], kind: BatchKind): void {
  const id = `${kind}-${nuid.next()}`;
  messages.forEach(({ headers }, i) => {
    headers.set(BATCH_ID, id);
    headers.set(BATCH_SEQUENCE, String(i + 1));
  });
  messages.at(-1)?.headers.set(BATCH_COMMIT, "1");
}

/** Takes a message out of its batch again. */
export function leaveBatch(headers: MsgHdrs): void {
  for (const name of [BATCH_ID, BATCH_SEQUENCE, BATCH_COMMIT]) headers.delete(name);
}

/** The transaction of which a stored message is a part; undefined also for writes that were only stored together. */
export function batchPartOf(headers: MessageHeaders | undefined): BatchPart | undefined {
  const id = headers?.get(BATCH_ID) ?? "";
  if (id === "" || id.startsWith(GROUP)) return undefined;
  return { id, isLast: headers?.get(BATCH_COMMIT) !== "" };
}

/** Why a message is no value, or undefined when it is one. */
export function deleteReasonOf(headers: MessageHeaders | undefined): DeleteReason | undefined {
  if (headers === undefined) return undefined;
  switch (headers.get(OPERATION)) {
    case "DEL":
      return "delete";
    case "PURGE":
      return "purge";
  }
  switch (headers.get(MARKER_REASON)) {
    case "":
      return undefined;
    case "MaxAge":
      return "expired";
    case "Purge":
      return "purge";
    default:
      return "delete";
  }
}

/** An entry from the parts of a stored message. */
export function entryOf(
  suffix: string,
  revision: number,
  createdAt: string,
  headers: MessageHeaders | undefined,
  data: Uint8Array,
  maxAge: number,
): Entry {
  const reason = deleteReasonOf(headers);
  const entry: Entry = {
    key: decodeKey(suffix),
    revision,
    createdAt,
    operation: "put",
    value: data,
    valueType: undefined,
    contentType: undefined,
    expiresAt: undefined,
    firstCreatedAt: undefined,
    description: undefined,
    label: undefined,
    size: data.length,
  };
  if (reason !== undefined) {
    entry.operation = "delete";
    entry.reason = reason;
    entry.value = NOTHING;
    entry.size = 0;
    return entry;
  }
  if (maxAge > 0) entry.expiresAt = isoAfter(createdAt, maxAge);
  if (headers === undefined) return entry;
  entry.valueType = valueTypeOf(headers);
  entry.contentType = optional(headers, CONTENT_TYPE);
  entry.firstCreatedAt = optional(headers, FIRST_CREATED);
  entry.label = optional(headers, LABEL);
  const description = optional(headers, DESCRIPTION);
  if (description !== undefined) entry.description = decoded(description);
  const ttl = optional(headers, TTL);
  if (ttl !== undefined)
    entry.expiresAt = expiryOf(createdAt, ttl, optional(headers, EXPIRES), entry.expiresAt);
  const size = optional(headers, SIZE);
  if (size !== undefined) entry.size = Number(size);
  return entry;
}

function optional(headers: MessageHeaders, name: string): string | undefined {
  const value = headers.get(name);
  return value === "" ? undefined : value;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The earliest of what the value itself says and of the bucket's own time to live. */
function expiryOf(
  createdAt: string,
  ttl: string,
  exact: string | undefined,
  ofBucket: string | undefined,
): string | undefined {
  const time = goDuration(ttl);
  if (time === undefined) return ofBucket;
  const own =
    exact !== undefined && !Number.isNaN(Date.parse(exact)) ? exact : isoAfter(createdAt, time);
  return ofBucket === undefined || own < ofBucket ? own : ofBucket;
}

/** A time to live beyond this one, in milliseconds, counts as none: its end could not be written as a date. */
const LONGEST = 7_000 * 365 * 24 * 3_600_000;

/** Milliseconds of a time as NATS writes it: seconds, or `1h30m`; undefined for `never`. */
function goDuration(text: string): number | undefined {
  const time = /^\d+$/.test(text) ? Number(text) * 1000 : timeOfUnits(text);
  return time === undefined || time > LONGEST ? undefined : time;
}

function timeOfUnits(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:h|m|s|ms))+$/.test(text)) return undefined;
  const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
  let total = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g))
    total += Number(number) * units[unit!]!;
  // The store counts in whole seconds.
  return Math.trunc(total / 1000) * 1000;
}

/** A point in time some milliseconds after another one, in ISO 8601. */
export function isoAfter(time: string, milliseconds: number): string {
  return new Date(Date.parse(time) + milliseconds).toISOString();
}

function valueTypeOf(headers: MessageHeaders | undefined): ValueType | undefined {
  const type = headers?.get(TYPE);
  return type === "json" || type === "text" || type === "bytes" ? type : undefined;
}

/** An entry from the answer to a direct get, which carries the message's place in headers. */
export function entryOfDirectGet(
  message: Msg,
  { prefix, maxAge }: MessageContext,
): Entry | undefined {
  const headers = headersOf(message);
  // A status instead of a message: 404 for no such message, 408 for a bad request.
  if (headers?.code !== 0) return undefined;
  const subject = headers.get("Nats-Subject");
  if (!subject.startsWith(prefix)) return undefined;
  return entryOf(
    subject.slice(prefix.length),
    Number(headers.get("Nats-Sequence")),
    isoMillis(headers.get("Nats-Time-Stamp")),
    headers,
    message.data,
    maxAge,
  );
}

/** An entry from a message that a consumer delivered. */
export function entryOfDelivery(
  message: Msg,
  delivery: Delivery,
  { prefix, maxAge }: MessageContext,
  headers = headersOf(message),
): Entry {
  return entryOf(
    message.subject.slice(prefix.length),
    delivery.streamSequence,
    new Date(delivery.timestamp).toISOString(),
    headers,
    message.data,
    maxAge,
  );
}

/** What a listing needs of a key's last message. */
export interface KeyState {
  suffix: string;
  revision: number;
  isDeleted: boolean;
  /** Milliseconds since 1970, or 0 for never. */
  expiry: number;
}

/** Reads no more than that from a message that a consumer delivered, with or without its payload. */
export function keyStateOf(message: Msg, delivery: Delivery, context: MessageContext): KeyState {
  const headers = headersOf(message);
  const state = {
    suffix: message.subject.slice(context.prefix.length),
    revision: delivery.streamSequence,
    isDeleted: deleteReasonOf(headers) !== undefined,
    expiry: 0,
  };
  if (state.isDeleted || (context.maxAge === 0 && (headers?.get(TTL) ?? "") === "")) return state;
  const { expiresAt } = entryOfDelivery(message, delivery, context, headers);
  if (expiresAt !== undefined) state.expiry = Date.parse(expiresAt);
  return state;
}

/** Reads `$JS.ACK.[domain.account.]stream.consumer.delivered.sequence.consumerSequence.time.pending[.token]`. */
export function deliveryOf(reply: string): Delivery {
  // Once for every message, so without taking it apart: the dots tell the form, and where the numbers are.
  let dots = 0;
  for (let at = reply.indexOf("."); at !== -1; at = reply.indexOf(".", at + 1)) dots += 1;
  let start = 0;
  for (let skip = dots === 8 ? 5 : 7; skip > 0; skip--) start = reply.indexOf(".", start) + 1;
  const sequence = reply.indexOf(".", start);
  const consumerSequence = reply.indexOf(".", sequence + 1);
  const time = reply.indexOf(".", consumerSequence + 1);
  const pending = reply.indexOf(".", time + 1);
  return {
    streamSequence: Number(reply.slice(start, sequence)),
    consumerSequence: Number(reply.slice(sequence + 1, consumerSequence)),
    timestamp: Number(reply.slice(consumerSequence + 1, time - NANOS_OF_MILLISECOND)),
    pending: Number(reply.slice(time + 1, pending === -1 ? undefined : pending)),
  };
}

/** Digits by which a time in nanoseconds is longer than one in milliseconds. */
const NANOS_OF_MILLISECOND = 6;

/** RFC 3339 with any number of fraction digits, as milliseconds: Go leaves out trailing zeros. */
export function isoMillis(time: string): string {
  return time.length === 30 && time.endsWith("Z")
    ? `${time.slice(0, 23)}Z`
    : new Date(time).toISOString();
}
