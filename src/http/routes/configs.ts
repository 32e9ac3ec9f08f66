import type { Context, Hono } from "hono";
import type { ConfigDocument, Configs } from "../../configs/configs.ts";
import { environmentOf, parseName, type ConfigList } from "../../protocol/messages.ts";
import { answer, answerJson, answerJsonText } from "../answer.ts";
import { readBody } from "../body.ts";
import { consistency, decodePart, isNotModified, rawPart, writeCondition } from "../input.ts";
import { resource } from "../resource.ts";

/** Finds what a request is about: an environment, and a name in the path. */
export interface NamedTarget {
  environment(c: Context): string;
  name(c: Context): string;
}

/** @param base path of the collection behind which the name comes, for instance `/api/v1/config` */
export function namedTargetOf(base: string): NamedTarget {
  const slashes = base.split("/").length;
  return {
    environment: (c) => environmentOf(c.req.header("X-Ironflow-Environment")),
    name: (c) => parseName(decodePart(rawPart(c, slashes, false) ?? "", "invalid_request")),
  };
}

/**
 * Config documents. Their fields have the names that Ironflow's clients know.
 *
 * @param base path of the collection
 */
export function configRoutes(app: Hono, base: string, configs: Configs): void {
  const target = namedTargetOf(base);

  resource(app, base, {
    GET: async (c) =>
      answerJson(c, { configs: await configs.list(target.environment(c)) } satisfies ConfigList),
  });

  type Write = typeof configs.set;
  const write =
    (store: Write) =>
    async (c: Context): Promise<Response> => {
      const name = target.name(c);
      const environment = target.environment(c);
      const condition = writeCondition(c);
      const body = await readBody(c, configs.maxSize);
      const revision = await store(environment, name, body, condition);
      return answerJson(c, { name, revision }, 200, { ETag: `"${revision}"` });
    };

  resource(app, `${base}/:name`, {
    GET: async (c) => {
      const name = target.name(c);
      const document = await configs.get(target.environment(c), name, consistency(c));
      const headers = { ETag: `"${document.revision}"` };
      if (isNotModified(c, document.revision)) return answer(c, null, 304, headers);
      return answerJsonText(c, documentText(document), 200, headers);
    },
    POST: write((...args) => configs.set(...args)),
    PATCH: write((...args) => configs.patch(...args)),
    DELETE: async (c) => {
      await configs.delete(target.environment(c), target.name(c), writeCondition(c));
      return answer(c, null, 204, {});
    },
  });
}

/** A document as JSON text, its data as they were stored. */
function documentText({ name, json, revision, updatedAt }: ConfigDocument): string {
  return `{"name":${JSON.stringify(name)},"data":${json},"revision":${revision},"updatedAt":"${updatedAt}"}`;
}
