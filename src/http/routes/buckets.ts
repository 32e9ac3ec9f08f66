import type { Hono } from "hono";
import {
  createBucketSchema,
  parseWith,
  updateBucketSchema,
  type BucketList,
} from "../../protocol/messages.ts";
import type { Buckets } from "../../store/buckets.ts";
import { answer, answerJson } from "../answer.ts";
import { readJson } from "../body.ts";
import { resource } from "../resource.ts";
import { targetOf } from "../target.ts";

/** @param base path of the bucket collection, for instance `/api/v1/kv/buckets` */
export function bucketRoutes(app: Hono, base: string, buckets: Buckets): void {
  const target = targetOf(base, buckets);

  resource(app, base, {
    GET: async (c) => {
      const list = await buckets.list();
      return answerJson(c, { buckets: list, count: list.length } satisfies BucketList);
    },
    POST: async (c) => {
      const info = await buckets.create(parseWith(createBucketSchema, await readJson(c)));
      return answerJson(c, info, 201, { Location: `${base}/${info.name}` });
    },
  });

  resource(app, `${base}/:bucket`, {
    GET: async (c) => answerJson(c, await buckets.info(target.bucketName(c))),
    PATCH: async (c) =>
      answerJson(
        c,
        await buckets.update(
          target.bucketName(c),
          parseWith(updateBucketSchema, await readJson(c)),
        ),
      ),
    DELETE: async (c) => {
      await buckets.delete(target.bucketName(c));
      return answer(c, null, 204, {});
    },
  });
}
