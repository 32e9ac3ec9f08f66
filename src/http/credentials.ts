import type { IncomingMessage } from "node:http";
import type { Credentials } from "../auth/authenticator.ts";
import { queryTexts } from "./input.ts";
import { isWatchOfOne } from "./watch/request.ts";

/** What of a request is looked at. */
export type Incoming = Pick<IncomingMessage, "headers" | "url" | "socket">;

/**
 * What is said by a request that is no handshake. Only what opens a stream of events can have a ticket: whoever finds one in a log
 * must not be able to do anything else with it.
 */
export function credentialsOf(incoming: Incoming, method: string): Credentials {
  const { headers, url = "", socket } = incoming;
  return {
    authorization: headers.authorization,
    protocols: undefined,
    ticket: method === "GET" && isStream(incoming) ? ticketOf(url) : undefined,
    address: socket.remoteAddress,
  };
}

/** What is said by the handshake of a WebSocket. */
export function credentialsOfHandshake({ headers, url = "", socket }: Incoming): Credentials {
  return {
    authorization: headers.authorization,
    protocols: headers["sec-websocket-protocol"],
    ticket: ticketOf(url),
    address: socket.remoteAddress,
  };
}

function isStream({ headers, url = "" }: Incoming): boolean {
  return headers.accept?.includes("text/event-stream") === true && isWatchOfOne(pathOf(url));
}

function pathOf(url: string): string {
  const query = url.indexOf("?");
  return query === -1 ? url : url.slice(0, query);
}

/** @throws KvError `invalid_request` */
function ticketOf(url: string): string | undefined {
  const start = url.indexOf("?");
  return start === -1
    ? undefined
    : queryTexts(url.slice(start + 1), "ticket", "invalid_request")[0];
}
