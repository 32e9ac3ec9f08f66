import type { Entry } from "../protocol/entry.ts";
import { encode } from "../protocol/values.ts";

/** An entry as the API shows it. A JSON value is spliced in as it is stored, without parsing it. */
export function entryJson(entry: Entry): string {
  let json = `{"key":${JSON.stringify(entry.key)}`;
  if (entry.operation === "put") {
    const value = encode(entry.valueType, entry.value);
    json += `,"value":${value.json},"encoding":"${value.encoding}"`;
  }
  json += `,"revision":${entry.revision},"created_at":"${entry.createdAt}","operation":"${entry.operation}"`;
  if (entry.reason !== undefined) json += `,"reason":"${entry.reason}"`;
  if (entry.contentType !== undefined)
    json += `,"content_type":${JSON.stringify(entry.contentType)}`;
  return `${json}}`;
}
