import type { Hono } from "hono";
import type { Access } from "../../auth/access.ts";
import {
  createApiKeySchema,
  createTicketSchema,
  createTokenSchema,
  type ApiKeyList,
} from "../../protocol/access.ts";
import { KvError } from "../../protocol/errors.ts";
import { parseWith } from "../../protocol/messages.ts";
import { answer, answerJson, principalOf } from "../answer.ts";
import { readJson, readOptionalJson } from "../body.ts";
import { decodePart, rawPart } from "../input.ts";
import { isAbout } from "../note.ts";
import { resource } from "../resource.ts";

/** Credentials are for whoever asked, and for no cache on the way. */
const NO_STORE = { "Cache-Control": "no-store" };

/**
 * API keys, tokens and tickets.
 *
 * @param base path of the API
 */
export function accessRoutes(app: Hono, base: string, access: Access): void {
  const { keys } = access;
  const idOf = (c: Parameters<typeof rawPart>[0]): string =>
    decodePart(rawPart(c, `${base}/api-keys`.split("/").length, false) ?? "", "invalid_request");
  const requireAdmin = (c: Parameters<typeof principalOf>[0]): void => {
    if (principalOf(c).grants.isAdminOfAll) return;
    throw new KvError("forbidden", `API keys are for whoever has "admin" on all buckets`);
  };

  resource(app, `${base}/api-keys`, {
    GET: async (c) => {
      requireAdmin(c);
      const found = await keys.list();
      return answerJson(c, { keys: found, count: found.length } satisfies ApiKeyList);
    },
    POST: async (c) => {
      requireAdmin(c);
      const request = parseWith(createApiKeySchema, await readJson(c));
      const created = await keys.create(request, principalOf(c));
      isAbout(c, { name: created.id });
      return answerJson(c, created, 201, {
        Location: `${base}/api-keys/${created.id}`,
        ...NO_STORE,
      });
    },
  });

  resource(app, `${base}/api-keys/:id`, {
    GET: async (c) => {
      requireAdmin(c);
      return answerJson(c, await keys.get(idOf(c)));
    },
    DELETE: async (c) => {
      requireAdmin(c);
      await keys.revoke(idOf(c));
      return answer(c, null, 204, {});
    },
  });

  resource(app, `${base}/tokens`, {
    POST: async (c) => {
      const request = parseWith(createTokenSchema, await readOptionalJson(c));
      return answerJson(c, await access.createToken(request, principalOf(c)), 201, NO_STORE);
    },
  });

  resource(app, `${base}/tickets`, {
    POST: async (c) => {
      const request = parseWith(createTicketSchema, await readOptionalJson(c));
      return answerJson(c, await access.createTicket(request, principalOf(c)), 201, NO_STORE);
    },
  });
}
