import type { Hono } from "hono";
import type { Audit } from "../../audit/audit.ts";
import { auditQuerySchema } from "../../protocol/audit.ts";
import { KvError } from "../../protocol/errors.ts";
import { parseWith } from "../../protocol/messages.ts";
import { answerJson, principalOf } from "../answer.ts";
import { resource } from "../resource.ts";

/** Who did what, newest first. */
export function auditRoutes(app: Hono, path: string, audit: Audit | undefined): void {
  resource(app, path, {
    GET: async (c) => {
      if (!principalOf(c).grants.mayAudit)
        throw new KvError("forbidden", `the credentials do not allow "audit"`);
      if (audit === undefined)
        throw new KvError("not_found", "this gateway keeps no audit: see --audit-retention");
      const query = parseWith(auditQuerySchema, c.req.query());
      return answerJson(c, await audit.read(query), 200, { "Cache-Control": "no-store" });
    },
  });
}
