import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import type { Answer, Asked, Edge } from "./answer.ts";
import { enter, type Gate } from "./entrance.ts";
import { refusal } from "./errors.ts";
import { noteError } from "./note.ts";
import { requestIdFrom } from "./request-id.ts";
import type { EntryAnswers } from "./routes/entry.ts";

/** Takes a request if it is a plain one, and says whether it was. */
export type Direct = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean;

/** Host names that the framework neither refuses nor rewrites. */
const plainHost = /^[a-z0-9._-]+(?::(?:\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}))?$/;

/**
 * Answers plain reads and writes of single keys without the framework, which would be a fifth of what they cost. Who asks, what for,
 * and what the answer is, is found out by the same functions. Whatever has a query, an origin, or something in its address that has to
 * be decoded or normalised goes the framework's way.
 *
 * @param base path of the bucket collection, for instance `/api/v1/kv/buckets`
 * @param maxBody bytes of a body; larger ones, and those that do not say how large they are, are the framework's
 */
export function directAnswers(
  base: string,
  answers: EntryAnswers,
  gate: Gate,
  maxBody: () => number,
  log: Logger,
): Direct {
  const address = new RegExp(`^${base}/[\\w-]+/keys/[\\w=:~-]+(?:[./][\\w=:~-]+)*$`);
  const isPlain = ({ url = "", headers }: IncomingMessage): boolean =>
    headers.origin === undefined &&
    headers.host !== undefined &&
    headers["transfer-encoding"] === undefined &&
    address.test(url) &&
    plainHost.test(headers.host);

  return (incoming, outgoing) => {
    const { method, headers } = incoming;
    const length = headers["content-length"];
    let find: (c: Asked) => Promise<Answer>;
    if (method === "GET" && (length ?? "0") === "0") find = answers.get;
    else if (method === "PUT" && Number(length) <= maxBody()) find = answers.put;
    else return false;
    if (!isPlain(incoming)) return false;

    const refuse = (error: unknown, common: Edge["common"]): void => {
      const id = requestIdFrom(headers["x-request-id"]);
      noteError(incoming, error, id);
      send(outgoing, refusal(error, log, id, common), none);
    };
    const serve = (edge: Edge): void => {
      find(new PlainRequest(incoming, method, edge))
        .then((answer) => send(outgoing, answer, edge.common))
        .catch((error: unknown) => refuse(error, edge.common));
    };
    void enter(gate, incoming, method, serve, refuse);
    return true;
  };
}

/** A request without a query. */
class PlainRequest implements Asked {
  readonly req: Asked["req"];
  readonly env: Asked["env"];

  constructor(incoming: IncomingMessage, method: string, edge: Edge) {
    const url = `http://${incoming.headers.host!}${incoming.url!}`;
    this.req = { method, url, query: noQuery };
    this.env = { incoming, ...edge };
  }
}

function noQuery(): undefined {
  return undefined;
}

const none: Edge["common"] = {};

function send(
  outgoing: ServerResponse,
  { body, status, headers: own }: Answer,
  common: Edge["common"],
): void {
  const headers: Record<string, string> = { ...common, ...own };
  if (body !== null) {
    headers["Content-Length"] = String(
      typeof body === "string" ? Buffer.byteLength(body) : body.length,
    );
  }
  outgoing.writeHead(status, headers).end(body ?? undefined);
}
