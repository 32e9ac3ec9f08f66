import type { Context, Hono } from "hono";
import type { ConfigDocument, Configs } from "../../configs/configs.ts";
import { environmentOf, parseName, type ConfigList } from "../../protocol/messages.ts";
import { isWithin, type Reach } from "../../protocol/reach.ts";
import type { EnvironmentVerb } from "../../protocol/scopes.ts";
import { answer, answerJson, answerJsonText, principalOf } from "../answer.ts";
import { readBody } from "../body.ts";
import { consistency, decodePart, isNotModified, rawPart, writeCondition } from "../input.ts";
import { resource } from "../resource.ts";

/** What a request is about: a name in an environment, with which its asker may do what was named. */
export interface Named {
  environment: string;
  name: string;
}

/** Those of an environment that its asker reaches. */
export interface NamedSome {
  environment: string;
  reach: Reach;
}

/**
 * Finds what a request is about: an environment, and a name in the path. Nothing of it is told without the rights that a route names,
 * and without a look at the store.
 */
export interface NamedTarget {
  /** The one that the path names. @throws KvError `forbidden`, `invalid_request` */
  one(c: Context, verb: EnvironmentVerb): Named;
  /** One of another name, which the body of a request gave. @throws KvError `forbidden` */
  other(c: Context, verb: EnvironmentVerb, name: string): Named;
  /** All that a verb reaches. @throws KvError `forbidden` */
  some(c: Context, verb: EnvironmentVerb): NamedSome;
}

/** @param base path of the collection behind which the name comes, for instance `/api/v1/config` */
export function namedTargetOf(base: string): NamedTarget {
  const slashes = base.split("/").length;
  const environmentOfRequest = (c: Context): string =>
    environmentOf(c.req.header("X-Ironflow-Environment"), principalOf(c).environment);
  const other: NamedTarget["other"] = (c, verb, name) => {
    const environment = environmentOfRequest(c);
    principalOf(c).grants.require(verb, environment, name);
    return { environment, name };
  };
  return {
    one: (c, verb) =>
      other(c, verb, parseName(decodePart(rawPart(c, slashes, false) ?? "", "invalid_request"))),
    other,
    some(c, verb) {
      const environment = environmentOfRequest(c);
      return { environment, reach: principalOf(c).grants.requireAny(verb, environment) };
    },
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
    GET: async (c) => {
      const { environment, reach } = target.some(c, "config");
      const all = await configs.list(environment);
      const found = all.filter(({ name }) => isWithin(reach, name));
      return answerJson(c, { configs: found } satisfies ConfigList);
    },
  });

  type Write = typeof configs.set;
  const write =
    (store: Write) =>
    async (c: Context): Promise<Response> => {
      const { environment, name } = target.one(c, "config");
      const condition = writeCondition(c);
      const body = await readBody(c, configs.maxSize);
      const revision = await store(environment, name, body, condition);
      return answerJson(c, { name, revision }, 200, { ETag: `"${revision}"` });
    };

  resource(app, `${base}/:name`, {
    GET: async (c) => {
      const { environment, name } = target.one(c, "config");
      const document = await configs.get(environment, name, consistency(c));
      const headers = { ETag: `"${document.revision}"` };
      if (isNotModified(c, document.revision)) return answer(c, null, 304, headers);
      return answerJsonText(c, documentText(document), 200, headers);
    },
    POST: write((...args) => configs.set(...args)),
    PATCH: write((...args) => configs.patch(...args)),
    DELETE: async (c) => {
      const { environment, name } = target.one(c, "config");
      await configs.delete(environment, name, writeCondition(c));
      return answer(c, null, 204, {});
    },
  });
}

/** A document as JSON text, its data as they were stored. */
function documentText({ name, json, revision, updatedAt }: ConfigDocument): string {
  return `{"name":${JSON.stringify(name)},"data":${json},"revision":${revision},"updatedAt":"${updatedAt}"}`;
}
