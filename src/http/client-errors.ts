/** Requests that node:http does not hand on: too slow, too large, or not HTTP at all. */
import type { ServerOptions, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { KvError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { newRequestId } from "./request-id.ts";
import { refuseUpgrade } from "./watch/upgrade.ts";

/** How patient the server is. */
export const httpOptions: ServerOptions = {
  maxHeaderSize: limits.requestHeaders,
  headersTimeout: limits.headersTime,
  requestTimeout: limits.requestTime,
  connectionsCheckingInterval: limits.headersTime / 2,
};

/** Answers in the form of every error, where the connection can still be answered, and ends it. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
  // An answer that has begun would have this one inside: a stream of events would go on with it.
  const { _httpMessage: current } = socket as { _httpMessage?: ServerResponse | null };
  if (error.code === "ECONNRESET" || !socket.writable || current?.headersSent === true) {
    socket.destroy();
    return;
  }
  refuseUpgrade(socket, clientErrorOf(error), newRequestId());
  // Whatever else is sent is not read.
  socket.once("finish", () => socket.destroy());
}

function clientErrorOf({ code }: NodeJS.ErrnoException): KvError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new KvError(
        "headers_too_large",
        `the address and headers of a request have at most ${limits.requestHeaders} bytes together`,
      );
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new KvError("request_timeout", "the request did not come in time");
    default:
      return new KvError("invalid_request", "this is not HTTP as this gateway speaks it");
  }
}
