import type { Context } from "hono";
import { responseOf, type Answer } from "./answer.ts";
import type { Bucket, Written } from "../store/bucket.ts";

/**
 * The answer to a write: its revision, and how durable it is.
 *
 * @param more members to add, as JSON text that begins with a comma
 */
export function writtenResponse(c: Context, bucket: Bucket, written: Written, more = ""): Response {
  return responseOf(c, writtenAnswer(bucket, written, more));
}

/** As {@link writtenResponse}, without the framework. */
export function writtenAnswer(bucket: Bucket, written: Written, more: string): Answer {
  const { revision, createdAt, expiresAt } = written;
  const expires = expiresAt === undefined ? "" : `,"expires_at":"${expiresAt}"`;
  const body = `{"revision":${revision},"created_at":"${createdAt}"${expires}${more}}`;
  const headers = {
    "Content-Type": "application/json",
    ETag: `"${revision}"`,
    Durability: bucket.durability,
  };
  return { body, status: 200, headers };
}
