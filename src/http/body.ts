import type { IncomingMessage } from "node:http";
import { KvError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { utf8 } from "../protocol/values.ts";
import type { Asked } from "./answer.ts";
import { header } from "./input.ts";

/** How much of a body that is too large is read and thrown away, so that the connection can live on. */
const DISCARD = 64 * 1024 * 1024;

/**
 * Reads a request's body.
 *
 * @param limit bytes
 * @throws KvError `value_too_large`
 */
export function readBody(c: Asked, limit: number): Promise<Uint8Array> {
  return readIncoming(c.env.incoming, limit);
}

/**
 * Reads a JSON body.
 *
 * @param limit bytes
 * @throws KvError `unsupported_media_type`, `invalid_json`, `value_too_large`
 */
export async function readJson(c: Asked, limit: number = limits.jsonBody): Promise<unknown> {
  const body = await readBody(c, limit);
  if (body.length === 0) throw new KvError("invalid_json", "the body is empty: send a JSON object");
  return parseJson(c, body);
}

/** Reads a JSON body that may be left out, which counts as an empty object. @throws as {@link readJson} */
export async function readOptionalJson(c: Asked): Promise<unknown> {
  const body = await readBody(c, limits.jsonBody);
  return body.length === 0 ? {} : parseJson(c, body);
}

function parseJson(c: Asked, body: Uint8Array): unknown {
  const type = header(c, "content-type");
  if (type !== undefined && !/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type)) {
    throw new KvError(
      "unsupported_media_type",
      `send JSON with the content type application/json, not ${JSON.stringify(type)}`,
    );
  }
  const text = utf8(body);
  if (text === undefined) throw new KvError("invalid_json", "the body is not valid UTF-8");
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new KvError("invalid_json", "the body is not valid JSON", { cause });
  }
}

function readIncoming(incoming: IncomingMessage, limit: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (result: () => void): void => {
      incoming.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone);
      result();
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= limit) chunks.push(chunk);
      else if (size > limit + DISCARD) settle(() => reject(tooLarge(limit)));
      else chunks.length = 0;
    };
    const onEnd = (): void => {
      settle(() => {
        if (size > limit) reject(tooLarge(limit));
        else resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size));
      });
    };
    const onGone = (): void =>
      settle(() => reject(new KvError("invalid_request", "the request ended before its body")));
    incoming.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone);
  });
}

function tooLarge(limit: number): KvError {
  return new KvError("value_too_large", `the body is larger than ${limit} bytes`, {
    details: { limit },
  });
}
