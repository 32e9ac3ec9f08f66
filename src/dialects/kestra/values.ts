/** Kestra's typed values: text and JSON under a label. */
import type { Entry } from "../../protocol/entry.ts";
import { KvError } from "../../protocol/errors.ts";
import { kvTypes, temporalType, type KvType } from "../../protocol/kestra.ts";
import { encode, utf8, type Value } from "../../protocol/values.ts";

/** A value to store, and what it is. */
export interface TypedValue {
  type: KvType;
  value: Value;
}

/**
 * Reads a value by its form: a quoted text is a STRING, whatever is in it; what is no JSON, no day, no moment and no length of
 * time is one, too, as a whole.
 *
 * @throws KvError `invalid_request` when it is not UTF-8
 */
export function typedValue(body: Uint8Array): TypedValue {
  const whole = utf8(body);
  if (whole === undefined) throw new KvError("invalid_request", "the value is not valid UTF-8");
  const literal = whole.trim();
  const temporal = temporalType(literal);
  if (temporal !== undefined) return { type: temporal, value: textValue(literal) };
  let parsed: unknown;
  try {
    parsed = JSON.parse(literal);
  } catch {
    return { type: "STRING", value: textValue(whole) };
  }
  const type = typeOfJson(literal);
  // Half of a surrogate pair can only be written escaped.
  if (typeof parsed === "string" && parsed.isWellFormed())
    return { type, value: textValue(parsed) };
  return { type, value: { bytes: bytesOf(literal), type: "json" } };
}

/**
 * A stored value as JSON text, and what it is: as its writer said, where that was a client of this dialect, else as it looks.
 */
export function typedJson({ valueType, value, label }: Entry): { type: KvType; json: string } {
  const { json } = encode(valueType, value);
  const type = typeOfJson(json);
  const labelled = kvTypes.find((known) => known === label);
  return { type: labelled !== undefined && fits(labelled, type) ? labelled : type, json };
}

/** A value may have been changed by a client that kept the label. */
function fits(label: KvType, type: KvType): boolean {
  return label === type || (type === "STRING" && /^DATE|^DURATION/.test(label));
}

function typeOfJson(json: string): KvType {
  switch (json.trimStart()[0]) {
    case '"':
    // Kestra calls null so.
    case "n":
      return "STRING";
    case "{":
    case "[":
      return "JSON";
    case "t":
    case "f":
      return "BOOLEAN";
    default:
      return "NUMBER";
  }
}

function textValue(text: string): Value {
  return { bytes: bytesOf(text), type: "text" };
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
