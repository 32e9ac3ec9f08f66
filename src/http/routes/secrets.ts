import type { Context, Hono } from "hono";
import { KvError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import {
  changeSecretSchema,
  createSecretSchema,
  parseWith,
  setSecretSchema,
} from "../../protocol/messages.ts";
import type { Secrets } from "../../secrets/secrets.ts";
import { answer, answerJson } from "../answer.ts";
import { readJson } from "../body.ts";
import { resource } from "../resource.ts";
import { namedTargetOf } from "./configs.ts";

/** Values are for whoever asked, and for no cache on the way. */
const NO_STORE = { "Cache-Control": "no-store" };

/**
 * Decides whether the sender of a request may see the value of a secret, and throws when not.
 *
 * @throws KvError `unauthenticated`, `forbidden`
 */
export type RevealPolicy = (c: Context, environment: string, name: string) => void | Promise<void>;

/** Lets everybody who may use the gateway see values, but for pages of other origins: secrets are not for browsers. */
export const revealToAllButPages: RevealPolicy = (c) => {
  if (c.req.header("Origin") !== undefined)
    throw new KvError("forbidden", "the values of secrets are not given to web pages");
};

/**
 * Secrets, under two policies: the routes that manage them never answer with a value, one route reveals it.
 *
 * @param base path of the collection
 * @param secrets undefined where there is no master key: every route answers `secrets_disabled` then
 */
export function secretRoutes(
  app: Hono,
  base: string,
  secrets: Secrets | undefined,
  mayReveal: RevealPolicy,
): void {
  const target = namedTargetOf(base);
  const enabled = (): Secrets => {
    if (secrets !== undefined) return secrets;
    throw new KvError(
      "secrets_disabled",
      "this gateway has no master key for secrets: set JETBUCKET_MASTER_KEY or JETBUCKET_MASTER_KEY_FILE",
    );
  };
  const readBody = (c: Context): Promise<unknown> => readJson(c, limits.secretBody);

  resource(app, base, {
    GET: async (c) => answerJson(c, await enabled().list(target.environment(c))),
    POST: async (c) => {
      const store = enabled();
      const { name, value, description } = parseWith(createSecretSchema, await readBody(c));
      const info = await store.create(target.environment(c), name, value, { description });
      return answerJson(c, info, 201, { Location: `${base}/${encodeURIComponent(info.name)}` });
    },
  });

  resource(app, `${base}/:name`, {
    GET: async (c) => answerJson(c, await enabled().info(target.environment(c), target.name(c))),
    PUT: async (c) => {
      const store = enabled();
      const name = target.name(c);
      const { value, description } = parseWith(setSecretSchema, await readBody(c));
      return answerJson(c, await store.set(target.environment(c), name, value, { description }));
    },
    PATCH: async (c) => {
      const store = enabled();
      const name = target.name(c);
      const change = parseWith(changeSecretSchema, await readBody(c));
      return answerJson(c, await store.change(target.environment(c), name, change));
    },
    DELETE: async (c) => {
      await enabled().delete(target.environment(c), target.name(c));
      return answer(c, null, 204, {});
    },
  });

  resource(app, `${base}/:name/value`, {
    GET: async (c) => {
      const store = enabled();
      const name = target.name(c);
      const environment = target.environment(c);
      await mayReveal(c, environment, name);
      return answerJson(c, await store.reveal(environment, name), 200, NO_STORE);
    },
  });
}
