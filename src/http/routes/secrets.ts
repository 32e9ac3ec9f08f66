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
import { isWithin } from "../../protocol/reach.ts";
import { answer, answerJson, principalOf, type Asked } from "../answer.ts";
import { readJson } from "../body.ts";
import { header } from "../input.ts";
import { isAbout } from "../note.ts";
import { resource } from "../resource.ts";
import { namedTargetOf } from "./configs.ts";

/** Values are for whoever asked, and for no cache on the way. */
const NO_STORE = { "Cache-Control": "no-store" };

/** As long as there are no credentials everybody may see values, but for web pages: secrets are not for browsers. */
export function refuseStrangersPages(c: Asked): void {
  if (principalOf(c).kind === "anonymous" && header(c, "origin") !== undefined)
    throw new KvError("forbidden", "the values of secrets are not given to web pages");
}

/**
 * Secrets, under two policies: the routes that manage them never answer with a value, one route reveals it, to those who may
 * `secrets:reveal`.
 *
 * @param base path of the collection
 * @param secrets undefined where there is no master key: every route answers `secrets_disabled` then
 */
export function secretRoutes(app: Hono, base: string, secrets: Secrets | undefined): void {
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
    GET: async (c) => {
      const { environment, reach } = target.some(c, "secrets");
      const all = await enabled().list(environment);
      return answerJson(
        c,
        all.filter(({ name }) => isWithin(reach, name)),
      );
    },
    POST: async (c) => {
      target.some(c, "secrets");
      const store = enabled();
      const { value, description, ...given } = parseWith(createSecretSchema, await readBody(c));
      isAbout(c, { name: given.name });
      const { environment, name } = target.other(c, "secrets", given.name);
      const info = await store.create(environment, name, value, { description });
      return answerJson(c, info, 201, { Location: `${base}/${encodeURIComponent(info.name)}` });
    },
  });

  resource(app, `${base}/:name`, {
    GET: async (c) => {
      const { environment, name } = target.one(c, "secrets");
      return answerJson(c, await enabled().info(environment, name));
    },
    PUT: async (c) => {
      const { environment, name } = target.one(c, "secrets");
      const store = enabled();
      const { value, description } = parseWith(setSecretSchema, await readBody(c));
      return answerJson(c, await store.set(environment, name, value, { description }));
    },
    PATCH: async (c) => {
      const { environment, name } = target.one(c, "secrets");
      const store = enabled();
      const change = parseWith(changeSecretSchema, await readBody(c));
      if (change.name !== undefined) target.other(c, "secrets", change.name);
      return answerJson(c, await store.change(environment, name, change));
    },
    DELETE: async (c) => {
      const { environment, name } = target.one(c, "secrets");
      await enabled().delete(environment, name);
      return answer(c, null, 204, {});
    },
  });

  resource(app, `${base}/:name/value`, {
    GET: async (c) => {
      const { environment, name } = target.one(c, "secrets:reveal");
      refuseStrangersPages(c);
      return answerJson(c, await enabled().reveal(environment, name), 200, NO_STORE);
    },
  });
}
