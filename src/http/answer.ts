import type { IncomingMessage } from "node:http";
import type { Context } from "hono";
import type { Principal } from "../auth/principal.ts";

/** What accompanies a request into its route. */
export interface Edge {
  /** Who sent it. */
  principal: Principal;
  /** Headers by which a page of another origin may read the answer; undefined where none may, or none asks. */
  crossOrigin: Readonly<Record<string, string>> | undefined;
  /** Headers that every answer to it must have, these included. */
  common: Readonly<Record<string, string>>;
}

/** A request as its route sees it: the framework's context, or what direct.ts makes of a plain one. */
export interface Asked {
  readonly req: {
    readonly method: string;
    /** In full, with scheme and host. */
    readonly url: string;
    query(name: string): string | undefined;
  };
  readonly env: Edge & { readonly incoming: IncomingMessage };
}

/** An answer that the framework has not seen yet. */
export interface Answer {
  body: string | Uint8Array | null;
  status: number;
  headers: Record<string, string>;
}

/** Who sent this request. */
export function principalOf(c: Asked): Principal {
  return c.env.principal;
}

/** Headers that the answer to this request must have, beside its own. */
export function commonHeaders(c: Context): Readonly<Record<string, string>> {
  return (c.env as Edge).common;
}

/**
 * The answer to a request. Made with all its headers at once: the framework's way of setting them one by one, or on a
 * finished response, makes a `Headers` object, which costs as much as all the rest of a read.
 */
export function answer(
  c: Context,
  body: string | Uint8Array | null,
  status: number,
  headers: Record<string, string>,
): Response {
  return responseOf(c, { body, status, headers });
}

/** The framework's form of an answer. */
export function responseOf(c: Context, { body, status, headers }: Answer): Response {
  return new Response(body as BodyInit | null, {
    status,
    headers: { ...commonHeaders(c), ...headers },
  });
}

/** An answer of JSON, given as text. */
export function answerJsonText(
  c: Context,
  json: string,
  status = 200,
  headers?: Record<string, string>,
): Response {
  return answer(c, json, status, { "Content-Type": "application/json", ...headers });
}

/** An answer of JSON. */
export function answerJson(
  c: Context,
  value: unknown,
  status = 200,
  headers?: Record<string, string>,
): Response {
  return answerJsonText(c, JSON.stringify(value), status, headers);
}
