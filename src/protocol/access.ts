/** What travels about API keys, tokens and tickets. */
import { z } from "zod";
import { limits } from "./limits.ts";
import { environmentSchema, ttlSchema } from "./messages.ts";
import { scopesSchema, type Scope } from "./scopes.ts";

const name = z
  .string()
  .min(1)
  .max(limits.credentialName)
  .refine(
    (text) => text.isWellFormed() && !/[\u0000-\u001f\u007f-\u009f]/.test(text),
    "must be valid Unicode without control characters",
  );

export const createApiKeySchema = z
  .strictObject({
    name,
    scopes: scopesSchema,
    environment: environmentSchema.optional(),
    expires_at: z.iso.datetime({ offset: true }).optional(),
    expires_in: ttlSchema.optional(),
  })
  .refine(
    ({ expires_at: at, expires_in: after }) => at === undefined || after === undefined,
    "expires_at and expires_in exclude each other: send one",
  );
export type CreateApiKeyRequest = z.infer<typeof createApiKeySchema>;

/** What is known of an API key. */
export interface ApiKeyInfo {
  id: string;
  name: string;
  scopes: Scope[];
  /** The environment that is meant where a request names none. */
  environment?: string;
  expires_at?: string;
  created_at: string;
  /** Who made it: the id of a key, `root`, `anonymous`, or `cli`. */
  created_by: string;
  /** To the minute. */
  last_used_at?: string;
}

/** An API key that was just made: its text is told once. */
export interface CreatedApiKey extends ApiKeyInfo {
  key: string;
}

export interface ApiKeyList {
  keys: ApiKeyInfo[];
  count: number;
}

export const createTokenSchema = z.strictObject({
  scopes: scopesSchema.optional(),
  ttl: ttlSchema.optional(),
  subject: name.optional(),
  environment: environmentSchema.optional(),
});
export type CreateTokenRequest = z.infer<typeof createTokenSchema>;

export interface CreatedToken {
  token: string;
  expires_at: string;
}

export const createTicketSchema = z.strictObject({ scopes: scopesSchema.optional() });
export type CreateTicketRequest = z.infer<typeof createTicketSchema>;

export interface CreatedTicket {
  ticket: string;
  expires_at: string;
}
