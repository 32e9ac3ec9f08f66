import type { Context } from "hono";
import type { Bucket, Written } from "../store/bucket.ts";

/**
 * The answer to a write: its revision, and how durable it is.
 *
 * @param more members to add, as JSON text that begins with a comma
 */
export function writtenResponse(c: Context, bucket: Bucket, written: Written, more = ""): Response {
  const { revision, createdAt, expiresAt } = written;
  const expires = expiresAt === undefined ? "" : `,"expires_at":"${expiresAt}"`;
  return c.body(`{"revision":${revision},"created_at":"${createdAt}"${expires}${more}}`, 200, {
    "Content-Type": "application/json",
    ETag: `"${revision}"`,
    Durability: bucket.durability,
  });
}
