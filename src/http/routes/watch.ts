import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Context, Hono } from "hono";
import { KvError } from "../../protocol/errors.ts";
import { answer, commonHeaders, principalOf, type Edge } from "../answer.ts";
import { resource } from "../resource.ts";
import { foreignPage, type WatchServer } from "../watch.ts";
import { eventHeaders } from "../watch/events.ts";
import { parseAddress, permit, withSince } from "../watch/request.ts";

/** Watches as server-sent events. WebSockets have the same addresses, but do not come here: see watch.ts. */
export function watchRoutes(app: Hono, base: string, watches: WatchServer): void {
  resource(app, `${base}/kv/buckets/:bucket/watch`, { GET: (c) => streamEvents(c, watches) });
  resource(app, `${base}/config/:name/watch`, { GET: (c) => streamEvents(c, watches) });
  resource(app, `${base}/kv/watch`, {
    GET: () => {
      throw onlyWebSocket();
    },
  });
}

async function streamEvents(c: Context, watches: WatchServer): Promise<Response> {
  if (!/\btext\/event-stream\b/i.test(c.req.header("Accept") ?? "")) {
    throw new KvError(
      "invalid_request",
      "this is a WebSocket: connect to it with ws:// or wss://, or ask for Accept: text/event-stream",
    );
  }
  const { incoming, outgoing } = c.env as HttpBindings;
  const target = parseAddress(incoming.url ?? "");
  // The route is of another kind.
  if (target === "multiplexed") throw onlyWebSocket();
  const { crossOrigin } = c.env as Edge;
  const { origin } = incoming.headers;
  // Other reads are answered, and the browser keeps that from the page; but a stream costs something while it lasts.
  if (origin !== undefined && crossOrigin === undefined) throw foreignPage(origin);
  const principal = principalOf(c);
  if (c.req.method === "HEAD") {
    permit(target, incoming, principal);
    return answer(c, null, 200, eventHeaders);
  }
  // An `EventSource` that is refused gives up for good, so an id that is no position is not refused: the watch is told to start
  // over, as with any position that cannot be continued.
  const lastId = incoming.headers["last-event-id"];
  const asked = typeof lastId === "string" && lastId !== "" ? withSince(target, lastId) : target;
  await watches.streamEvents(asked, incoming, outgoing, principal, commonHeaders(c));
  return RESPONSE_ALREADY_SENT;
}

function onlyWebSocket(): KvError {
  return new KvError("invalid_request", "this is a WebSocket: connect to it with ws:// or wss://");
}
