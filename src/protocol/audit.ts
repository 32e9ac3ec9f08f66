/** Records of the audit, as they are stored and as they travel. */
import { z } from "zod";
import { limits } from "./limits.ts";

/**
 * How a request ended: `refused` for want of credentials or rights, or by a limit; `failed` for any other error; `unknown` when its
 * client had gone before there was an answer.
 */
export const outcomes = ["ok", "refused", "failed", "unknown"] as const;
export type Outcome = (typeof outcomes)[number];

/** What an action was about, as far as it is known. */
export interface AuditSubject {
  bucket?: string | undefined;
  key?: string | undefined;
  /** The first keys of many. */
  keys?: readonly string[] | undefined;
  /** How many keys, or records that could not be kept. */
  count?: number | undefined;
  environment?: string | undefined;
  /** Of a config document or a secret, or the id of an API key. */
  name?: string | undefined;
  /** Of an action that has no name. */
  path?: string | undefined;
}

/** Who did what, with which outcome. Never what was written or read. */
export interface AuditRecord extends AuditSubject {
  /** When it ended, in ISO 8601. */
  time: string;
  principal: { kind: string; id: string };
  /** What was asked for, such as `key.put`. */
  action: string;
  outcome: Outcome;
  /** Of the answer. */
  status: number;
  /** Of the error. */
  code?: string | undefined;
  /** Of the request; of the first one, where `times` is more than one. */
  request_id?: string | undefined;
  /** How often the same was refused in a row. Default: once. */
  times?: number | undefined;
  /** From where it came. */
  address?: string | undefined;
}

/** An answer of `GET /audit`: newest first. */
export interface AuditPage {
  entries: AuditRecord[];
  /** Goes on behind these. There may be more although there are fewer entries than were asked for. */
  next_cursor?: string;
}

/** What a page is asked for by. */
export const auditQuerySchema = z.strictObject({
  principal: z.string().optional(),
  bucket: z.string().optional(),
  /** One action, or with a star at the end those that begin so. */
  action: z.string().optional(),
  outcome: z.enum(outcomes).optional(),
  since: z.iso.datetime({ offset: true }).optional(),
  until: z.iso.datetime({ offset: true }).optional(),
  cursor: z
    .string()
    .regex(/^\d{1,16}-\d{1,6}$/, "is what an earlier page had as next_cursor")
    .optional(),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,3}$/)
    .transform(Number)
    .refine((limit) => limit <= limits.auditPage)
    .optional(),
});
export type AuditQuery = z.infer<typeof auditQuerySchema>;
