import type { Context, Hono } from "hono";
import { parseTtl } from "../../protocol/durations.ts";
import { incrementSchema, parseWith, restoreSchema, touchSchema } from "../../protocol/messages.ts";
import type { Buckets } from "../../store/buckets.ts";
import { increment, restore, touch } from "../../store/updates.ts";
import { readJson, readOptionalJson } from "../body.ts";
import { writeCondition } from "../input.ts";
import { keyResource } from "../resource.ts";
import { targetOf } from "../target.ts";
import { writtenResponse } from "../written.ts";

/** Writes that depend on what a key holds: increment, touch, restore. The key stands in the path or in `?key=`. */
export function updateRoutes(app: Hono, base: string, buckets: Buckets): void {
  const target = targetOf(base, buckets);
  const route = (name: string, handler: (c: Context) => Promise<Response>): void => {
    keyResource(app, `${base}/:bucket/${name}`, { POST: handler });
  };
  route("increment", async (c) => {
    const { key, open } = target.key(c, "write", "read");
    const { by = 1, initial = 0, ttl } = parseWith(incrementSchema, await readOptionalJson(c));
    const seconds = ttl === undefined ? {} : { ttl: parseTtl(ttl) };
    const bucket = await open();
    const { value, ...written } = await increment(bucket, key, { by, initial, ...seconds });
    return writtenResponse(c, bucket, written, `,"value":${value}`);
  });

  route("touch", async (c) => {
    const { key, open } = target.key(c, "write");
    const { ttl } = parseWith(touchSchema, await readJson(c));
    const seconds = parseTtl(ttl);
    const bucket = await open();
    return writtenResponse(c, bucket, await touch(bucket, key, seconds));
  });

  route("restore", async (c) => {
    const { key, open } = target.key(c, "write", "read");
    const condition = writeCondition(c);
    const { revision } = parseWith(restoreSchema, await readJson(c));
    const bucket = await open();
    return writtenResponse(c, bucket, await restore(bucket, key, revision, condition));
  });
}
