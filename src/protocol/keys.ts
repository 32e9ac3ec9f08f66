/**
 * Keys, and the subjects under which they are stored.
 *
 * A key is any non-empty text of at most 512 UTF-8 bytes. JetStream subjects are narrower, so what NATS KV allows
 * (`A-Z a-z 0-9 - / _ = .`) is stored as it is, and every other byte as `=XX`, the upper-case hex of the UTF-8 byte.
 * A literal `=` is written `=3D` only where two upper-case hex digits follow, and a dot that would make an empty
 * token is written `=2E`. The encoding is reversible, and the dots that stay separate tokens for wildcards.
 */
import { KvError } from "./errors.ts";
import { limits } from "./limits.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Keys that are their own subject: the fast path. No dot at an end, no two dots in a row, no `=`. */
const verbatim = /^[A-Za-z0-9\-/_]+(?:\.[A-Za-z0-9\-/_]+)*$/;

// White space that Forge keys may contain is allowed; it is stored escaped like everything else.
const control = /[\u0000-\u0008\u000e-\u001f\u007f-\u009f]/;

/**
 * Checks a key that a user gave.
 *
 * @throws KvError `invalid_key` when it is empty, longer than 512 bytes, or holds control characters or half of a
 * surrogate pair
 */
export function assertKey(key: string): void {
  if (key === "") throw new KvError("invalid_key", "a key must not be empty");
  if (key.length <= limits.key && verbatim.test(key)) return;
  if (key.length > limits.key || encoder.encode(key).length > limits.key) {
    throw new KvError("invalid_key", `a key has at most ${limits.key} bytes in UTF-8`);
  }
  if (control.test(key))
    throw new KvError("invalid_key", "a key must not contain control characters");
  if (!key.isWellFormed()) {
    throw new KvError(
      "invalid_key",
      "a key must be valid Unicode: this one holds half of a surrogate pair",
    );
  }
}

/** The subject suffix of a key: `user:1` is `user=3A1`. The key must have passed {@link assertKey}. */
export function encodeKey(key: string): string {
  return verbatim.test(key) ? key : encodeText(key, false);
}

/**
 * The key of a subject suffix; the inverse of {@link encodeKey}. A suffix that only another client can have written,
 * such as `page=10`, is its own name.
 */
export function decodeKey(suffix: string): string {
  if (!suffix.includes("=")) return suffix;
  const key = unescape(suffix);
  return key !== suffix && encodeKey(key) === suffix && !control.test(key) ? key : suffix;
}

function unescape(suffix: string): string {
  return suffix.replace(/(?:=[0-9A-F]{2})+/g, (escaped) => {
    const bytes = Uint8Array.from(escaped.slice(1).split("="), (hex) => Number.parseInt(hex, 16));
    try {
      return decoder.decode(bytes);
    } catch {
      return escaped;
    }
  });
}

const DOT = 0x2e;
const EQUALS = 0x3d;

function isHexDigit(byte: number | undefined): boolean {
  return byte !== undefined && ((byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x46));
}

function isPlain(byte: number): boolean {
  return (
    (byte >= 0x61 && byte <= 0x7a) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x2d ||
    byte === 0x2f ||
    byte === 0x5f
  );
}

function encodeText(text: string, keepStars: boolean): string {
  const bytes = encoder.encode(text);
  let out = "";
  let tokenIsEmpty = true;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === DOT && !tokenIsEmpty && i + 1 < bytes.length) {
      out += ".";
      tokenIsEmpty = true;
      continue;
    }
    const literal =
      isPlain(byte) ||
      (byte === EQUALS && !(isHexDigit(bytes[i + 1]) && isHexDigit(bytes[i + 2]))) ||
      (keepStars && byte === 0x2a);
    out += literal
      ? String.fromCharCode(byte)
      : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    tokenIsEmpty = false;
  }
  return out;
}

/**
 * A filter over keys: tokens between dots, where `*` stands for any one token, `>` at the end for one or more
 * tokens, and a `*` inside a token for any characters of that token. Without wildcards it is one key.
 */
export interface KeyPattern {
  /** The text that the user gave. */
  readonly text: string;
  /** The narrowest NATS filter that covers the pattern, as a subject suffix. */
  readonly subject: string;
  /** Whether the NATS filter says it all, so that nothing is left to check. */
  readonly exact: boolean;
  /** Whether a stored subject suffix (an encoded key) is covered. */
  matches(suffix: string): boolean;
}

/**
 * Reads a filter.
 *
 * @example
 * parsePattern("user.*.name").matches("user.7.name"); // true
 * @throws KvError `invalid_filter`
 */
export function parsePattern(text: string): KeyPattern {
  if (text === "")
    throw new KvError("invalid_filter", "a filter must not be empty: leave it out for all keys");
  if (encoder.encode(text).length > limits.filter) {
    throw new KvError("invalid_filter", `a filter has at most ${limits.filter} bytes in UTF-8`);
  }
  if (control.test(text) || !text.isWellFormed()) {
    throw new KvError(
      "invalid_filter",
      "a filter must be valid Unicode without control characters",
    );
  }
  const open = text === ">" || text.endsWith(".>");
  const body = open ? text.slice(0, text === ">" ? 0 : -2) : text;
  if (open && text !== ">" && (body === "" || body.endsWith("."))) {
    throw new KvError("invalid_filter", `"${text}": the token before ">" is empty`);
  }
  if (body.split(".").includes(">")) {
    throw new KvError(
      "invalid_filter",
      `"${text}": ">" stands for the rest of a key and must come last`,
    );
  }
  // A dot before the closing ">" separates tokens, so the body is encoded with something behind that dot.
  const encoded =
    open && body !== "" ? encodeText(`${body}.x`, true).slice(0, -2) : encodeText(body, true);
  const tokens = encoded === "" ? [] : encoded.split(".");
  if (!open && !encoded.includes("*")) return literalPattern(text, encoded);
  // Each token of such a filter costs memory wherever it is used.
  if (tokens.length + (open ? 1 : 0) > limits.filterTokens) {
    throw new KvError(
      "invalid_filter",
      `a filter with wildcards has at most ${limits.filterTokens} tokens`,
    );
  }
  const exact = tokens.every((token) => token === "*" || !token.includes("*"));
  const subject = [
    ...tokens.map((token) => (token.includes("*") ? "*" : token)),
    ...(open ? [">"] : []),
  ].join(".");
  return { text, subject, exact, matches: matcherOf(tokens, open) };
}

/** In a function of its own, so that it holds on to nothing else. */
function literalPattern(text: string, subject: string): KeyPattern {
  return { text, subject, exact: true, matches: (suffix) => suffix === subject };
}

function matcherOf(tokens: readonly string[], open: boolean): (suffix: string) => boolean {
  // Many patterns are only ever looked up in an index, which needs no matchers.
  let matchers: ((part: string) => boolean)[] | undefined;
  return (suffix) => {
    // That is ">", for which everything will do.
    if (tokens.length === 0) return true;
    const parts = suffix.split(".");
    if (open ? parts.length <= tokens.length : parts.length !== tokens.length) return false;
    matchers ??= tokens.map(tokenMatcher);
    return matchers.every((matcher, i) => matcher(parts[i]!));
  };
}

/** The pattern that covers one key, whatever characters it has. */
export function keyPattern(key: string): KeyPattern {
  return literalPattern(key, encodeKey(key));
}

/** The pattern that covers every key. */
export const everyKey: KeyPattern = parsePattern(">");

function tokenMatcher(token: string): (part: string) => boolean {
  if (token === "*") return () => true;
  if (!token.includes("*")) return (part) => part === token;
  // Compared decoded: a star must not match a part of an escape. Greedy in order is enough for a glob without
  // alternatives, and unlike a regular expression it cannot be made to backtrack.
  const pieces = token.split("*").map(unescape);
  const head = pieces[0]!;
  const tail = pieces.at(-1)!;
  return (part) => {
    const text = unescape(part);
    if (text.length < head.length + tail.length || !text.startsWith(head) || !text.endsWith(tail))
      return false;
    let at = head.length;
    const end = text.length - tail.length;
    for (const piece of pieces.slice(1, -1)) {
      const found = text.indexOf(piece, at);
      if (found === -1 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  };
}
