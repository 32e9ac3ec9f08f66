import type { Hono } from "hono";
import type { Grants } from "../../auth/grants.ts";
import {
  createBucketSchema,
  parseWith,
  updateBucketSchema,
  type BucketInfo,
  type BucketList,
} from "../../protocol/messages.ts";
import type { Buckets } from "../../store/buckets.ts";
import { answer, answerJson, principalOf } from "../answer.ts";
import { readJson } from "../body.ts";
import { isAbout } from "../note.ts";
import { resource } from "../resource.ts";
import { targetOf } from "../target.ts";

/** @param base path of the bucket collection, for instance `/api/v1/kv/buckets` */
export function bucketRoutes(app: Hono, base: string, buckets: Buckets): void {
  const target = targetOf(base, buckets);

  resource(app, base, {
    GET: async (c) => {
      const { grants } = principalOf(c);
      const list = await buckets.list((name) => grants.knows(name));
      const shown = list.map((info) => within(grants, info));
      return answerJson(c, { buckets: shown, count: shown.length } satisfies BucketList);
    },
    POST: async (c) => {
      const request = parseWith(createBucketSchema, await readJson(c));
      isAbout(c, { bucket: request.name });
      principalOf(c).grants.requireAdmin(request.name);
      const info = await buckets.create(request);
      return answerJson(c, info, 201, { Location: `${base}/${info.name}` });
    },
  });

  resource(app, `${base}/:bucket`, {
    GET: async (c) => {
      const { bucketName, grants } = target.known(c);
      return answerJson(c, within(grants, await buckets.info(bucketName)));
    },
    PATCH: async (c) => {
      const { bucketName } = target.administered(c);
      const info = await buckets.update(
        bucketName,
        parseWith(updateBucketSchema, await readJson(c)),
      );
      return answerJson(c, within(principalOf(c).grants, info));
    },
    DELETE: async (c) => {
      await buckets.delete(target.administered(c).bucketName);
      return answer(c, null, 204, {});
    },
  });
}

/** What somebody may know of a bucket: how much is in it is for those who may read all of it, or administer it. */
function within(grants: Grants, info: BucketInfo): BucketInfo {
  if (grants.reach("read", info.name) === "all" || grants.isAdmin(info.name)) return info;
  const known = { ...info };
  delete known.values;
  delete known.keys;
  delete known.bytes;
  return known;
}
