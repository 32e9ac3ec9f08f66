import type { Entry } from "../protocol/entry.ts";
import { encode, encodeAsBase64, type EncodedValue } from "../protocol/values.ts";

/** Writes an entry as JSON text. */
export type EntryJson = (entry: Entry) => string;

/** An entry as the API shows it. A JSON value is spliced in as it is stored, without parsing it. */
export function entryJson(entry: Entry): string {
  return jsonWith(entry, encode);
}

/** The same for clients that expect every value in base64. */
export function base64EntryJson(entry: Entry): string {
  return jsonWith(entry, (_, value) => encodeAsBase64(value));
}

function jsonWith(
  entry: Entry,
  encodeValue: (type: Entry["valueType"], value: Uint8Array) => EncodedValue,
): string {
  let json = `{"key":${JSON.stringify(entry.key)}`;
  if (entry.operation === "put") {
    const value = encodeValue(entry.valueType, entry.value);
    json += `,"value":${value.json},"encoding":"${value.encoding}"`;
  }
  return json + metadataJson(entry);
}

/** An entry without its value, with its size instead. */
export function entryMetadataJson(entry: Entry): string {
  return `{"key":${JSON.stringify(entry.key)},"size":${entry.size}${metadataJson(entry)}`;
}

function metadataJson(entry: Entry): string {
  let json = `,"revision":${entry.revision},"created_at":"${entry.createdAt}","operation":"${entry.operation}"`;
  if (entry.reason !== undefined) json += `,"reason":"${entry.reason}"`;
  if (entry.expiresAt !== undefined) json += `,"expires_at":${JSON.stringify(entry.expiresAt)}`;
  if (entry.firstCreatedAt !== undefined)
    json += `,"first_created_at":${JSON.stringify(entry.firstCreatedAt)}`;
  if (entry.contentType !== undefined)
    json += `,"content_type":${JSON.stringify(entry.contentType)}`;
  if (entry.description !== undefined)
    json += `,"description":${JSON.stringify(entry.description)}`;
  if (entry.label !== undefined) json += `,"value_type":${JSON.stringify(entry.label)}`;
  return `${json}}`;
}

/** What is known of an entry beside its value, as response headers. */
export function metadataHeaders(entry: Entry): Record<string, string> {
  return {
    // With its date alone a cache would hold an old value to be fresh for as long as it has not changed before.
    "Cache-Control": "no-cache",
    "Last-Modified": new Date(entry.createdAt).toUTCString(),
    "Jetbucket-Created-At": entry.createdAt,
    "Jetbucket-Size": String(entry.size),
    ...(entry.expiresAt === undefined
      ? {}
      : { "Jetbucket-Expires-At": headerText(entry.expiresAt) }),
    ...(entry.firstCreatedAt === undefined
      ? {}
      : { "Jetbucket-First-Created-At": headerText(entry.firstCreatedAt) }),
    ...(entry.contentType === undefined
      ? {}
      : { "Jetbucket-Content-Type": headerText(entry.contentType) }),
    ...(entry.description === undefined
      ? {}
      : { "Jetbucket-Description": encodeURIComponent(entry.description) }),
    ...(entry.label === undefined ? {} : { "Jetbucket-Value-Type": headerText(entry.label) }),
  };
}

/** What another NATS client stored may hold anything; a header may not. */
export function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?");
}
