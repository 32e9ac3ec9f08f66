/** Bugs to put between a run and the gateway. Each is a kind that a real one could be; the run has to find it. */
import type { Fault, ModelRequest, Send } from "./model-run.ts";
import type { Random } from "./model-random.ts";

/** Spoils some requests of a kind. */
function sometimes(
  concerns: (request: ModelRequest) => boolean,
  probability: number,
  spoil: (send: Send, request: ModelRequest) => ReturnType<Send>,
): Fault {
  return {
    wrap:
      (send: Send, random: Random): Send =>
      (request) =>
        concerns(request) && random.chance(probability) ? spoil(send, request) : send(request),
  };
}

const isRead = ({ method, path }: ModelRequest): boolean =>
  method === "GET" &&
  (path.startsWith("/keys/") || path.startsWith("/entry?")) &&
  !/[?&](revision|as_of)=/.test(path);
const isListing = ({ method, path }: ModelRequest): boolean =>
  method === "GET" && /^\/keys($|\?)/.test(path) && !path.includes("as_of");

export const faults: Record<string, () => Fault> = {
  "a condition that is overlooked": () =>
    sometimes(
      ({ headers }) => "If-Match" in headers || "If-None-Match" in headers,
      1 / 50,
      (send, request) => {
        const headers = Object.entries(request.headers).filter(([name]) => !name.startsWith("If-"));
        return send({ ...request, headers: Object.fromEntries(headers) });
      },
    ),

  "a deleted key that is listed": () => {
    const deleted = new Set<string>();
    return {
      wrap: (send) => async (request) => {
        const answer = await send(request);
        const key = /^\/keys\/([^?]+)/.exec(request.path)?.[1];
        if (request.method === "DELETE" && answer.status === 204 && key !== undefined)
          deleted.add(decodeURIComponent(key));
        const [ghost] = deleted;
        if (isListing(request) && ghost !== undefined && !request.path.includes("?")) {
          const keys = [...new Set([...(answer.body.keys as string[]), ghost])].sort();
          answer.body = { ...answer.body, keys, count: keys.length };
        }
        return answer;
      },
    };
  },

  "a transaction that is carried out but for one operation": () =>
    sometimes(
      ({ path, body }) =>
        path === "/transactions" && typeof body === "string" && body.includes('"op":"put"'),
      1 / 10,
      async (send, request) => {
        interface Operation {
          op: string;
          key: string;
        }
        const { operations } = JSON.parse(request.body as string) as { operations: Operation[] };
        const last = operations.findLastIndex(({ op }) => op === "put");
        if (operations.slice(last + 1).some(({ op }) => op !== "check")) return send(request);
        const rest = operations.filter((_, i) => i !== last);
        if (!rest.some(({ op }) => op !== "check")) return send(request);
        const answer = await send({ ...request, body: JSON.stringify({ operations: rest }) });
        if (answer.status === 200) {
          // Nobody could tell by the answer.
          const { revisions } = answer.body as { revisions: Record<string, number> };
          revisions[operations[last]!.key] = Math.max(...Object.values(revisions)) + 1;
        }
        return answer;
      },
    ),

  "a delete that is acknowledged and lost": () =>
    sometimes(
      ({ method, headers }) => method === "DELETE" && Object.keys(headers).length === 0,
      1 / 20,
      async (send, request) => {
        const { status } = await send({ ...request, method: "HEAD" });
        return {
          status: status === 200 ? 204 : status === 404 ? 204 : status,
          headers: new Headers(),
          body: "",
        };
      },
    ),

  "a read of the value before": () => {
    const values = new Map<string, unknown>();
    return {
      wrap: (send, random) => async (request) => {
        const answer = await send(request);
        if (!isRead(request) || answer.status !== 200) return answer;
        const before = values.get(request.path);
        values.set(request.path, answer.body.value);
        if (before !== undefined && random.chance(1 / 5))
          answer.body = { ...answer.body, value: before };
        return answer;
      },
    };
  },

  "a time to live that is forgotten": () =>
    sometimes(
      ({ path }) => path.includes("ttl=1h"),
      1 / 5,
      async (send, request) => {
        const answer = await send({ ...request, path: request.path.replace("ttl=1h", "ttl=2h") });
        const { expires_at: end } = answer.body as { expires_at?: string };
        if (end !== undefined)
          answer.body = {
            ...answer.body,
            expires_at: new Date(Date.parse(end) - 3_600_000).toISOString(),
          };
        return answer;
      },
    ),

  "an increment that counts twice": () =>
    sometimes(
      ({ path }) => path.startsWith("/increment"),
      1 / 20,
      async (send, request) => {
        await send(request);
        return send(request);
      },
    ),

  "a change that a watcher never gets": () => ({
    updates: (updates) => updates.filter(({ revision }) => revision % 17 !== 0),
  }),
};
