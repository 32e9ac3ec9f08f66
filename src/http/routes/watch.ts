import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Hono } from "hono";
import { KvError } from "../../protocol/errors.ts";
import { answer, crossOriginHeaders, principalOf } from "../answer.ts";
import { resource } from "../resource.ts";
import { foreignPage, type WatchServer } from "../watch.ts";
import { eventHeaders } from "../watch/events.ts";
import { parseAddress, type WatchTarget } from "../watch/request.ts";

/** Watches as server-sent events. WebSockets have the same addresses, but do not come here: see watch.ts. */
export function watchRoutes(app: Hono, base: string, watches: WatchServer): void {
  resource(app, `${base}/buckets/:bucket/watch`, {
    GET: async (c) => {
      if (!/\btext\/event-stream\b/i.test(c.req.header("Accept") ?? "")) {
        throw new KvError(
          "invalid_request",
          "this is a WebSocket: connect to it with ws:// or wss://, or ask for Accept: text/event-stream",
        );
      }
      const { incoming, outgoing } = c.env as HttpBindings;
      const target = parseAddress(incoming.url ?? "");
      // The route is of a bucket.
      if (target === "multiplexed") throw onlyWebSocket();
      const crossOrigin = crossOriginHeaders(c);
      const { origin } = incoming.headers;
      // Other reads are answered, and the browser keeps that from the page; but a stream costs something while it lasts.
      if (origin !== undefined && crossOrigin === undefined) throw foreignPage(origin);
      if (c.req.method === "HEAD") return answer(c, null, 200, eventHeaders);
      const lastId = incoming.headers["last-event-id"];
      const asked = typeof lastId === "string" && lastId !== "" ? after(target, lastId) : target;
      await watches.streamEvents(asked, outgoing, principalOf(c), crossOrigin);
      return RESPONSE_ALREADY_SENT;
    },
  });

  resource(app, `${base}/watch`, {
    GET: () => {
      throw onlyWebSocket();
    },
  });
}

/**
 * The same watch from the last event on that an `EventSource` had. One that is refused gives up for good, so an id that is no position
 * is not refused: the watch is told to start over, as with any position that cannot be continued.
 */
function after({ bucket, options }: WatchTarget, lastId: string): WatchTarget {
  return { bucket, options: { ...options, since: lastId } };
}

function onlyWebSocket(): KvError {
  return new KvError("invalid_request", "this is a WebSocket: connect to it with ws:// or wss://");
}
