import type { Hono } from "hono";
import { KvError } from "../../protocol/errors.ts";
import {
  createBucketSchema,
  parseWith,
  updateBucketSchema,
  type BucketList,
} from "../../protocol/messages.ts";
import type { Buckets } from "../../store/buckets.ts";
import { readJson } from "../body.ts";
import { decodePart, rawSegments } from "../input.ts";
import { resource } from "../resource.ts";

/** @param base path of the bucket collection, for instance `/api/v1/kv/buckets` */
export function bucketRoutes(app: Hono, base: string, buckets: Buckets): void {
  const depth = base.split("/").length - 1;

  resource(app, base, {
    GET: async (c) => {
      const list = await buckets.list();
      return c.json({ buckets: list, count: list.length } satisfies BucketList);
    },
    POST: async (c) => {
      const info = await buckets.create(parseWith(createBucketSchema, await readJson(c)));
      return c.json(info, 201, { Location: `${base}/${info.name}` });
    },
  });

  const nameOf = (c: Parameters<typeof rawSegments>[0]): string =>
    decodePart(rawSegments(c)[depth] ?? "", "invalid_bucket_name");
  resource(app, `${base}/:bucket`, {
    GET: async (c) => c.json(await buckets.info(nameOf(c))),
    PATCH: async (c) =>
      c.json(await buckets.update(nameOf(c), parseWith(updateBucketSchema, await readJson(c)))),
    DELETE: async (c) => {
      await buckets.delete(nameOf(c));
      return c.body(null, 204);
    },
  });

  resource(app, `${base}/:bucket/watch`, {
    GET: () => {
      throw new KvError(
        "invalid_request",
        "this is a WebSocket: connect to it with ws:// or wss://",
      );
    },
  });
}
