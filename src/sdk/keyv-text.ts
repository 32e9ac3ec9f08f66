/**
 * What Keyv gives a store is a text: `{"value":…,"expires":…}`, made by its serializer. Strings in it that begin with a colon
 * have a second one before it, and `:base64:` begins a Buffer.
 *
 * What is stored is the value itself wherever the text can be made of it again: a string as text, a Buffer as bytes, everything
 * else as JSON, so that other clients find what they would have written. Whatever else the text may be (another serializer's,
 * compressed, with Buffers deep inside) is stored as it is.
 */
import type { Entry } from "./core/entry.ts";
import { bytesOf } from "./core/values.ts";

/** A value for {@link Bucket.put}, and what it is called there. */
export interface StoredForm {
  value: unknown;
  valueType?: string;
}

/** Says that a value is Keyv's text. */
const TEXT = "keyv";
/** Says that a value is a Buffer; bytes that are valid UTF-8 could be text. */
const BUFFER = "keyv-buffer";
const BASE64 = ":base64:";

/** What to store for a text. */
export function storedForm(text: string): StoredForm {
  return plainForm(text) ?? textForm(text);
}

/** Keyv's text as it is, which holds the end of its life. */
export function textForm(text: string): StoredForm {
  return { value: text, valueType: TEXT };
}

function plainForm(text: string): StoredForm | undefined {
  const envelope = parsed(text);
  if (envelope === undefined || !("value" in envelope)) return undefined;
  const { value, expires } = envelope;
  const form = formOf(value);
  // Not so for other serializers' texts, and for what is beyond JSON's numbers.
  return form !== undefined && textOf(escaped(form), expires) === text ? form : undefined;
}

/** The value that Keyv escaped in JSON; undefined when it holds what JSON cannot say. */
function formOf(json: unknown): StoredForm | undefined {
  if (typeof json === "string" && json.startsWith(BASE64)) {
    return { value: Buffer.from(json.slice(BASE64.length), "base64"), valueType: BUFFER };
  }
  try {
    const value = unescaped(json);
    return typeof value === "string" && !value.isWellFormed() ? undefined : { value };
  } catch (error) {
    if (error === NESTED_BUFFER) return undefined;
    throw error;
  }
}

const NESTED_BUFFER = new Error("a Buffer inside of a value");

function unescaped(json: unknown): unknown {
  return JSON.parse(JSON.stringify(json), (_, value: unknown) => {
    if (typeof value !== "string" || !value.startsWith(":")) return value;
    if (value.startsWith(BASE64)) throw NESTED_BUFFER;
    return value.slice(1);
  });
}

/** A value as Keyv writes it in JSON. */
function escaped({ value, valueType }: StoredForm): string {
  if (valueType === BUFFER) {
    return JSON.stringify(BASE64 + Buffer.from(value as Uint8Array).toString("base64"));
  }
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === "string" && inner.startsWith(":") ? `:${inner}` : inner,
  );
}

function textOf(json: string, expires: unknown): string {
  return `{"value":${json}${expires === undefined ? "" : `,"expires":${JSON.stringify(expires)}`}}`;
}

/** Keyv's text for an entry, whoever wrote it; undefined when its time is over. */
export function keyvText(entry: Entry): string | undefined {
  if (entry.valueType === TEXT && typeof entry.value === "string") {
    const expires = parsed(entry.value)?.expires;
    return typeof expires === "number" && Date.now() > expires ? undefined : entry.value;
  }
  const isBuffer = entry.valueType === BUFFER || entry.encoding === "base64";
  const form = isBuffer ? { value: bytesOf(entry), valueType: BUFFER } : { value: entry.value };
  const { expiresAt } = entry;
  return textOf(escaped(form), expiresAt === undefined ? undefined : Date.parse(expiresAt));
}

function parsed(text: string): { value?: unknown; expires?: unknown } | undefined {
  try {
    const envelope: unknown = JSON.parse(text);
    return typeof envelope === "object" && envelope !== null ? envelope : undefined;
  } catch {
    return undefined;
  }
}
