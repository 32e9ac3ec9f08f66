import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JetbucketError } from "../../../src/sdk/core/errors.ts";
import {
  initialState,
  transition,
  type ServerFrame,
  type WatchEvent,
  type WatchState,
  type WatchStateName,
} from "../../../src/sdk/core/watch-machine.ts";

const update: ServerFrame = {
  type: "kv_update",
  bucket: "b",
  key: "k",
  value: 1,
  encoding: "json",
  operation: "put",
  revision: 1,
  created_at: "2026-01-01T00:00:00.000Z",
};
const ready: ServerFrame = { type: "kv_ready", position: "e-1", count: 1 };
const inferred: ServerFrame = {
  type: "kv_update",
  bucket: "b",
  key: "k",
  operation: "delete",
  reason: "expired",
  inferred: true,
  revision: 9,
  created_at: "2026-01-01T00:00:00.000Z",
};
const transaction: ServerFrame = { type: "kv_transaction", bucket: "b", revision: 6, events: [] };
const reset: ServerFrame = { type: "kv_reset", reason: "too_old" };
const bookmark = (position: string): ServerFrame => ({ type: "kv_bookmark", position });
const frame = (of: ServerFrame): WatchEvent => ({ type: "frame", frame: of });
const refused = (status: number | undefined): WatchEvent => ({
  type: "refused",
  error: new JetbucketError("x", "x", { status }),
});
const ended = (code: string, retryable: boolean): WatchEvent => ({
  type: "ended",
  error: new JetbucketError(code, "because", { retryable }),
});
const lost = (code: number): WatchEvent => ({ type: "lost", code, reason: "" });
const diagnosed = (status?: number): WatchEvent => ({
  type: "diagnosed",
  error: status === undefined ? undefined : new JetbucketError("x", "x", { status }),
});

const events = {
  opened: { type: "opened" },
  update: frame(update),
  inferred: frame(inferred),
  transaction: frame(transaction),
  ready: frame(ready),
  bookmark: frame(bookmark("e-7")),
  stale: frame({ type: "kv_stale", reason: "no NATS" }),
  reset: frame(reset),
  error: frame({ type: "error", message: "no", code: "internal", retryable: false }),
  "of a newer server": frame({ type: "kv_news" } as never),
  "lost 1006": lost(1006),
  "lost 1000": lost(1000),
  "lost 1001": lost(1001),
  "lost 4404": lost(4404),
  "lost 4429": lost(4429),
  "refused 404": refused(404),
  "refused 503": refused(503),
  "refused by network": refused(undefined),
  "ended for good": ended("bucket_not_found", false),
  "ended for now": ended("store_unavailable", true),
  retry: { type: "retry" },
  "diagnosed 403": diagnosed(403),
  "diagnosed 503": diagnosed(503),
  "diagnosed nothing": diagnosed(),
  stopped: { type: "stopped" },
} satisfies Record<string, WatchEvent>;

type EventName = keyof typeof events;

/** Next state and effects; what is not in the table changes nothing. */
const table: Record<WatchStateName, Partial<Record<EventName, string>>> = {
  connecting: {
    opened: "catching-up: start-over",
    "lost 1006": "waiting: disconnect wait",
    "lost 1000": "waiting: disconnect wait",
    "lost 1001": "waiting: disconnect wait",
    "lost 4404": "closed: disconnect report finish",
    "lost 4429": "waiting: disconnect wait",
    "refused 404": "closed: disconnect report finish",
    "refused 503": "waiting: disconnect wait",
    "refused by network": "waiting: disconnect wait",
    "ended for good": "closed: disconnect report finish",
    "ended for now": "waiting: disconnect wait",
    "diagnosed 403": "closed: disconnect report finish",
    "diagnosed 503": "connecting: report",
    "diagnosed nothing": "connecting: report",
    stopped: "closed: disconnect finish",
  },
  "catching-up": {
    update: "catching-up: deliver",
    inferred: "catching-up: deliver",
    transaction: "catching-up: deliver",
    ready: "live: complete",
    bookmark: "catching-up:",
    stale: "catching-up:",
    reset: "catching-up: start-over",
    error: "catching-up:",
    "ended for good": "closed: disconnect report finish",
    "ended for now": "waiting: disconnect wait",
    "lost 1006": "waiting: disconnect wait",
    "lost 1000": "waiting: disconnect wait",
    "lost 1001": "waiting: disconnect wait",
    "lost 4404": "closed: disconnect report finish",
    "lost 4429": "waiting: disconnect wait",
    stopped: "closed: disconnect finish",
  },
  live: {
    update: "live: deliver",
    inferred: "live: deliver",
    transaction: "live: deliver",
    ready: "live: complete",
    bookmark: "live:",
    stale: "catching-up:",
    reset: "catching-up: start-over",
    error: "live:",
    "ended for good": "closed: disconnect report finish",
    "ended for now": "waiting: disconnect wait",
    "lost 1006": "waiting: disconnect wait",
    "lost 1000": "waiting: disconnect wait",
    "lost 1001": "waiting: disconnect wait",
    "lost 4404": "closed: disconnect report finish",
    "lost 4429": "waiting: disconnect wait",
    stopped: "closed: disconnect finish",
  },
  waiting: {
    retry: "connecting: connect",
    "diagnosed 403": "closed: disconnect report finish",
    "diagnosed 503": "waiting: report",
    "diagnosed nothing": "waiting: report",
    stopped: "closed: disconnect finish",
  },
  closed: {},
};

const rows = (Object.keys(table) as WatchStateName[]).flatMap((state) =>
  (Object.keys(events) as EventName[]).map(
    (event) => [state, event, table[state][event] ?? `${state}:`] as const,
  ),
);

function summary(state: WatchState, event: WatchEvent): string {
  const [next, effects] = transition(state, event);
  return [`${next.name}:`, ...effects.map(({ type }) => type)].join(" ");
}

describe("the transition table", () => {
  test.each(rows)("%s, %s → %s", (name, event, expected) => {
    expect(summary({ ...initialState, name }, events[event])).toBe(expected);
  });

  test("is complete: what it does not name returns the same state", () => {
    const named = rows.filter(([name, event]) => table[name][event] !== undefined);
    expect(rows).toHaveLength(Object.keys(table).length * Object.keys(events).length);
    for (const [name, event] of rows.filter((row) => !named.includes(row))) {
      const state = { ...initialState, name };
      expect(transition(state, events[event])[0]).toBe(state);
    }
  });
});

/** Runs events from the start; effects of all of them. */
function run(...sequence: WatchEvent[]) {
  let state = initialState;
  const effects = sequence.flatMap((event) => {
    const [next, done] = transition(state, event);
    state = next;
    return done;
  });
  return { state, effects };
}

const goesLive: WatchEvent[] = [events.opened, events.ready];
const fails: WatchEvent[] = [lost(1006), events.retry];

describe("waiting", () => {
  const waits = (...sequence: WatchEvent[]) =>
    run(...sequence).effects.flatMap((effect) => (effect.type === "wait" ? [effect.attempt] : []));

  test("grows with every connection that did not get ready, and starts over after one that did", () => {
    expect(waits(...fails, ...fails, events.opened, ...fails, ...goesLive, ...fails)).toEqual([
      1, 2, 3, 1,
    ]);
  });

  test("is hardly any after a gateway drained", () => {
    expect(waits(...goesLive, lost(1001))).toEqual([0]);
  });

  test("is longer for a server that is overloaded", () => {
    expect(waits(...goesLive, lost(1013), events.retry, lost(1013))).toEqual([4, 5]);
  });

  test("is a proper one when gateways drain before the watch is ready again", () => {
    const drained = [events.opened, lost(1001), events.retry];
    expect(waits(...goesLive, lost(1001), events.retry, ...drained, ...drained)).toEqual([0, 2, 3]);
  });
});

describe("an outage is reported", () => {
  const reports = (...sequence: WatchEvent[]) =>
    run(...sequence)
      .effects.map(({ type }) => type)
      .filter((type) => type === "report" || type === "diagnose").length;
  const times = (n: number, sequence: WatchEvent[]) =>
    Array.from({ length: n }, () => sequence).flat();

  test("at the third failed connection, and then at every tenth", () => {
    expect(reports(...times(2, fails))).toBe(0);
    expect(reports(...times(3, fails))).toBe(1);
    expect(reports(...times(12, fails))).toBe(1);
    expect(reports(...times(13, fails))).toBe(2);
  });

  test("with the server's answer where it is known", () => {
    const { effects } = run(...times(3, [events["refused 503"], events.retry]));
    const error = expect.objectContaining({ status: 503 }) as JetbucketError;
    expect(effects).toContainEqual({ type: "report", error });
  });

  test("by asking where it is not, even when an earlier connection knew", () => {
    const { effects } = run(events["refused 503"], events.retry, ...fails, ...fails);
    expect(effects.map(({ type }) => type)).toContain("diagnose");
  });

  test("anew after the watch was ready in between", () => {
    expect(reports(...times(3, fails), ...goesLive, ...times(3, fails))).toBe(2);
  });
});

describe("a watch that the server ends", () => {
  test.each([
    ["bucket_not_found", 4404],
    ["forbidden", 4403],
    ["unauthenticated", 4401],
    ["invalid_filter", 4400],
    ["internal", 4400],
  ])("with %s, not to be tried again, is closed with %i", (code, expected) => {
    const { state, effects } = run(...goesLive, ended(code, false));
    expect(state.name).toBe("closed");
    expect(effects.at(-1)).toMatchObject({ info: { code: expected, reason: "because", error: { code } } }); // prettier-ignore
  });

  test("for now waits with growing pauses, and is reported as an outage is", () => {
    const again: WatchEvent[] = [ended("store_unavailable", true), events.retry, events.opened];
    const { state, effects } = run(events.opened, ...again, ...again, ...again);
    expect(state.attempt).toBe(3);
    const error = expect.objectContaining({ code: "store_unavailable" }) as JetbucketError;
    expect(effects).toContainEqual({ type: "report", error });
  });
});

describe("a token that expires under a watch", () => {
  const expired: WatchEvent = { type: "lost", code: 4401, reason: "expired", renews: true };

  test("is replaced, and the watch goes on at once where it was", () => {
    const { state, effects } = run(...goesLive, expired);
    expect(state.name).toBe("waiting");
    expect(effects.slice(-2)).toEqual([{ type: "disconnect" }, { type: "wait", attempt: 0 }]);
    const next = run(...goesLive, expired, events.retry);
    expect(next.effects.at(-1)).toEqual({ type: "connect", since: next.state.position });
    expect(next.state.position).toBeDefined();
  });

  test("is the end when the next ones are refused, too, or there is none", () => {
    const { state } = run(...goesLive, expired, events.retry, expired, events.retry);
    expect(state.name).toBe("connecting");
    const ended = run(...goesLive, expired, events.retry, expired, events.retry, expired);
    expect(ended.state.name).toBe("closed");
    expect(ended.effects.at(-1)).toMatchObject({ type: "finish", info: { code: 4401 } });
    expect(run(...goesLive, { ...expired, renews: false }).state.name).toBe("closed");
  });
});

describe("the end of a watch", () => {
  const endOf = (...sequence: WatchEvent[]) =>
    run(...sequence).effects.flatMap((effect) => (effect.type === "finish" ? [effect.info] : []));

  test("names the error frame that came before the close", () => {
    const gone = frame({ type: "error", message: "the bucket was deleted", code: "bucket_not_found", retryable: false }); // prettier-ignore
    expect(endOf(...goesLive, gone, lost(4404))).toMatchObject([
      { code: 4404, error: { code: "bucket_not_found", message: "the bucket was deleted" } },
    ]);
  });

  test.each([
    [4400, "invalid_request"],
    [4401, "unauthenticated"],
    [4403, "forbidden"],
    [4404, "bucket_not_found"],
    [4499, "network"],
  ])("by close code %i alone has the code %s", (code, expected) => {
    const [info] = endOf(...goesLive, { type: "lost", code, reason: "because" });
    expect(info).toMatchObject({ code, reason: "because", error: { code: expected } });
    expect(info?.error?.message).toContain("because");
  });

  test("by the caller is no error", () => {
    expect(endOf(events.stopped)).toEqual([{ code: 1000, reason: "stopped" }]);
  });

  test.each([400, 401, 403, 404])("comes by an upgrade refused with %i", (status) => {
    expect(endOf(refused(status))).toMatchObject([{ code: 1006, error: { status } }]);
  });

  test.each([429, 500, 502, 503])("does not come by one refused with %i", (status) => {
    expect(endOf(refused(status))).toEqual([]);
  });
});

describe("the position", () => {
  const positionAfter = (...sequence: ServerFrame[]) =>
    run(events.opened, ...sequence.map(frame)).state.position;
  const put = (revision: number): ServerFrame => ({ ...update, revision });

  test("is not known before everything was there once", () => {
    expect(positionAfter(put(5), transaction, bookmark("e-5"))).toBeUndefined();
  });

  test("is that of the last kv_ready, bookmark, update or transaction", () => {
    expect(positionAfter(put(5), { ...ready, position: "e-5-h" })).toBe("e-5-h");
    expect(positionAfter(ready, put(5))).toBe("e-5");
    expect(positionAfter({ ...ready, position: "e-1-h" }, put(40))).toBe("e-14-h");
    expect(positionAfter(ready, transaction)).toBe("e-6");
    expect(positionAfter(ready, put(5), bookmark("e-a"))).toBe("e-a");
  });

  test("is not moved by a removal that was noticed late: writes before it may still come", () => {
    expect(positionAfter(ready, inferred)).toBe("e-1");
  });

  test("stays where it was after kv_stale, until kv_ready: removals may be noticed late", () => {
    const stale: ServerFrame = { type: "kv_stale", reason: "x" };
    expect(positionAfter(ready, stale, put(3), transaction)).toBe("e-1");
    expect(positionAfter(ready, stale, put(3), { ...ready, position: "e-3" }, put(4))).toBe("e-4");
  });

  test("stays the old one while the server starts over", () => {
    expect(positionAfter(ready, reset, put(5), transaction, bookmark("e-5"))).toBe("e-1");
    expect(positionAfter(ready, reset, put(5), { ...ready, position: "f-9" })).toBe("f-9");
  });

  test("is what the next connection goes on with", () => {
    const { effects } = run(...fails, ...goesLive, frame(put(3)), ...fails, ...goesLive, ...fails);
    const connects = effects.flatMap((effect) => (effect.type === "connect" ? [effect.since] : []));
    expect(connects).toEqual([undefined, "e-3", "e-1"]);
    const starts = effects.flatMap(({ type }) =>
      type === "resume" || type === "start-over" ? [type] : [],
    );
    expect(starts).toEqual(["start-over", "resume"]);
  });

  test("stays where it was while a connection that resumes catches up", () => {
    const { state } = run(...goesLive, ...fails, events.opened, frame(put(3)), lost(1006));
    expect(state.position).toBe("e-1");
  });
});

test("whatever happens: one timer or socket at a time, one end, and nothing after it", () => {
  const anyEvent = fc.constantFrom(...Object.values<WatchEvent>(events));
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 60 }), (sequence) => {
      let state = initialState;
      Object.freeze(state);
      let finished = 0;
      for (const event of sequence) {
        const [next, effects] = transition(state, event);
        const types = effects.map(({ type }) => type);
        if (state.name === "closed") expect(types).toEqual([]);
        // Leaving a socket closes it; waiting is only ever entered with a timer, connecting with a connection.
        if (next.name !== state.name) {
          if (next.name === "waiting") expect(types).toEqual(expect.arrayContaining(["disconnect", "wait"])); // prettier-ignore
          if (next.name === "connecting") expect(types).toEqual(["connect"]);
          if (next.name === "live") expect(types).toEqual(["complete"]);
        }
        finished += types.filter((type) => type === "finish").length;
        expect(finished).toBe(next.name === "closed" ? 1 : 0);
        state = Object.freeze(next);
      }
    }),
    { numRuns: 1000 },
  );
});
