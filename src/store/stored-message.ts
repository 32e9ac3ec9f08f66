/**
 * Stored messages and entries: how one becomes the other. jetbucket's own headers carry what NATS KV has no place
 * for; every other NATS client ignores them.
 */
import { headers as newHeaders, type Msg, type MsgHdrs } from "nats";
import type { DeleteReason, Entry, ValueType } from "../protocol/entry.ts";
import { decodeKey } from "../protocol/keys.ts";
import type { Value } from "../protocol/values.ts";

/** What the writer declared the value to be: `json`, `text` or `bytes`. JSON so marked was checked. */
const TYPE = "Jb-Type";
const CONTENT_TYPE = "Content-Type";
const OPERATION = "KV-Operation";
const ROLLUP = "Nats-Rollup";
const EXPECTED_REVISION = "Nats-Expected-Last-Subject-Sequence";
const MARKER_REASON = "Nats-Marker-Reason";

const NOTHING = new Uint8Array(0);

/** Where a message stands: read from the reply subject of a delivered message. */
export interface Delivery {
  streamSequence: number;
  consumerSequence: number;
  /** Milliseconds since 1970. */
  timestamp: number;
  /** Messages that the consumer has still to deliver. */
  pending: number;
}

/** Headers of a stored value. */
export function valueHeaders(value: Value, expected?: number): MsgHdrs {
  const headers = newHeaders();
  headers.set(TYPE, value.type);
  if (value.contentType !== undefined) headers.set(CONTENT_TYPE, value.contentType);
  if (expected !== undefined) headers.set(EXPECTED_REVISION, String(expected));
  return headers;
}

/** Headers of a tombstone; a purge takes the key's history with it. */
export function tombstoneHeaders(purge: boolean, expected?: number): MsgHdrs {
  const headers = newHeaders();
  headers.set(OPERATION, purge ? "PURGE" : "DEL");
  if (purge) headers.set(ROLLUP, "sub");
  if (expected !== undefined) headers.set(EXPECTED_REVISION, String(expected));
  return headers;
}

/** Why a message is no value, or undefined when it is one. */
export function deleteReasonOf(headers: MsgHdrs | undefined): DeleteReason | undefined {
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
  headers: MsgHdrs | undefined,
  data: Uint8Array,
): Entry {
  const key = decodeKey(suffix);
  const reason = deleteReasonOf(headers);
  if (reason !== undefined) {
    return {
      key,
      revision,
      createdAt,
      operation: "delete",
      reason,
      value: NOTHING,
      valueType: undefined,
      contentType: undefined,
    };
  }
  const contentType = headers?.get(CONTENT_TYPE);
  return {
    key,
    revision,
    createdAt,
    operation: "put",
    value: data,
    valueType: valueTypeOf(headers),
    contentType: contentType === "" ? undefined : contentType,
  };
}

function valueTypeOf(headers: MsgHdrs | undefined): ValueType | undefined {
  const type = headers?.get(TYPE);
  return type === "json" || type === "text" || type === "bytes" ? type : undefined;
}

/** An entry from the answer to a direct get, which carries the message's place in headers. */
export function entryOfDirectGet(message: Msg, subjectPrefix: string): Entry | undefined {
  const { headers } = message;
  // A status instead of a message: 404 for no such message, 408 for a bad request.
  if (headers?.code !== 0) return undefined;
  const subject = headers.get("Nats-Subject");
  if (!subject.startsWith(subjectPrefix)) return undefined;
  return entryOf(
    subject.slice(subjectPrefix.length),
    Number(headers.get("Nats-Sequence")),
    isoMillis(headers.get("Nats-Time-Stamp")),
    headers,
    message.data,
  );
}

/** An entry from a message that a consumer delivered. */
export function entryOfDelivery(message: Msg, delivery: Delivery, subjectPrefix: string): Entry {
  return entryOf(
    message.subject.slice(subjectPrefix.length),
    delivery.streamSequence,
    new Date(delivery.timestamp).toISOString(),
    message.headers,
    message.data,
  );
}

/** Reads `$JS.ACK.[domain.account.]stream.consumer.delivered.sequence.consumerSequence.time.pending[.token]`. */
export function deliveryOf(reply: string): Delivery {
  const tokens = reply.split(".");
  const at = tokens.length === 9 ? 5 : 7;
  const nanos = tokens[at + 2] ?? "0";
  return {
    streamSequence: Number(tokens[at]),
    consumerSequence: Number(tokens[at + 1]),
    timestamp: Number(nanos.slice(0, -6)),
    pending: Number(tokens[at + 3]),
  };
}

/** RFC 3339 with any number of fraction digits, as milliseconds: Go leaves out trailing zeros. */
export function isoMillis(time: string): string {
  return time.length === 30 && time.endsWith("Z")
    ? `${time.slice(0, 23)}Z`
    : new Date(time).toISOString();
}
