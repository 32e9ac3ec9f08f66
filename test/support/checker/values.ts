/**
 * Values that name the write they come from, so that a frame can be traced back to it. What is kept of one is a short digest:
 * large values are checked when they arrive, and then forgotten.
 */
interface Numbered {
  w: number;
  n: number;
  /** Makes it large. */
  p?: string;
}

/** The JSON text of a value, and what a frame with it has to be digested to. */
export interface NumberedValue {
  text: string;
  digest: string;
}

/** A value that no other write has. */
export function numberedValue(writer: number, number: number, padding = 0): NumberedValue {
  const value: Numbered = { w: writer, n: number };
  if (padding > 0) value.p = "x".repeat(padding);
  return { text: JSON.stringify(value), digest: `json:${writer}.${number}.${padding}` };
}

/** The same as text, which is no JSON. */
export function numberedText(writer: number, number: number): NumberedValue {
  return { text: `text ${writer}.${number}`, digest: `text:text ${writer}.${number}` };
}

const paddings = new Map<number, string>();

/** What is kept of a value that was received or read. */
export function digestOf(encoding: string, value: unknown): string {
  if (encoding === "json" && typeof value === "object" && value !== null) {
    const { w, n, p = "" } = value as Numbered;
    let padding = paddings.get(p.length);
    if (padding === undefined) paddings.set(p.length, (padding = "x".repeat(p.length)));
    if (p === padding) return `json:${w}.${n}.${p.length}`;
  }
  return typeof value === "string"
    ? `${encoding}:${value}`
    : `${encoding}:${JSON.stringify(value)}`;
}

/** What is kept of a stored value. */
export function digestOfStored(text: string): string {
  try {
    return digestOf("json", JSON.parse(text));
  } catch {
    return digestOf("text", text);
  }
}
