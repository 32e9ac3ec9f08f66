import type { Context } from "hono";
import type { Grants } from "../auth/grants.ts";
import type { KvError } from "../protocol/errors.ts";
import type { Buckets } from "../store/buckets.ts";

/** What the gateway does for the routes of a dialect, whose wire format it does not know. */
export interface Host {
  buckets: Buckets;
  /** What the caller may do. */
  grants(c: Context): Grants;
  /**
   * The request's body.
   *
   * @param limit bytes
   * @throws KvError `value_too_large`
   */
  body(c: Context, limit: number): Promise<Uint8Array>;
  /** An answer with JSON, given as text, or with nothing. */
  answer(
    c: Context,
    json: string | null,
    status?: number,
    headers?: Record<string, string>,
  ): Response;
  /** What of an error may be told; the rest goes to the log. */
  publicError: (c: Context, thrown: unknown) => KvError;
}
