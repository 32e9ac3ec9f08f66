import type { Context } from "hono";
import { answerJsonText } from "./answer.ts";
import type { Bucket, Written } from "../store/bucket.ts";

/**
 * The answer to a write: its revision, and how durable it is.
 *
 * @param more members to add, as JSON text that begins with a comma
 */
export function writtenResponse(c: Context, bucket: Bucket, written: Written, more = ""): Response {
  const { revision, createdAt, expiresAt } = written;
  const expires = expiresAt === undefined ? "" : `,"expires_at":"${expiresAt}"`;
  const json = `{"revision":${revision},"created_at":"${createdAt}"${expires}${more}}`;
  return answerJsonText(c, json, 200, {
    ETag: `"${revision}"`,
    Durability: bucket.durability,
  });
}
