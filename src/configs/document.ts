/** What a config document may be: a JSON object, stored as its writer sent it. */
import { isLive, type Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { encode, jsonValue, utf8, type Value } from "../protocol/values.ts";

type Fields = Record<string, unknown>;

/**
 * Reads a document, or a part of one, out of a request's body.
 *
 * @throws KvError `invalid_json`, `invalid_request` when it is no object
 */
export function parseDocument(bytes: Uint8Array): { fields: Fields; value: Value } {
  const text = utf8(bytes);
  if (text === undefined) throw new KvError("invalid_json", "the body is not valid UTF-8");
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (cause) {
    throw new KvError("invalid_json", "the body is not valid JSON", { cause });
  }
  if (!isObject(fields))
    throw new KvError("invalid_request", "a config document is a JSON object, such as {}");
  return { fields, value: { bytes, type: "json" } };
}

/**
 * A stored document with some fields replaced, each as a whole: null is a value like any other. Without a document it is made
 * of these fields alone.
 *
 * @throws KvError `invalid_request` when something else than a document is stored there
 */
export function mergeShallow(name: string, stored: Entry | undefined, fields: Fields): Value {
  if (!isLive(stored)) return jsonValue(fields);
  // Spreading defines members and sets none, so that one called `__proto__` is a member like any other.
  return jsonValue({ ...fieldsOf(name, stored), ...fields });
}

/** A stored document as JSON text. What another NATS client stored may be something else, and is shown as KV shows it. */
export function documentJson({ valueType, value }: Entry): string {
  return encode(valueType, value).json;
}

function fieldsOf(name: string, { value }: Entry): Fields {
  try {
    const fields: unknown = JSON.parse(utf8(value) ?? "");
    if (isObject(fields)) return fields;
  } catch {
    // said below
  }
  throw new KvError(
    "invalid_request",
    `config document "${name}" is not a JSON object, so it cannot be patched: replace it with POST`,
  );
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
