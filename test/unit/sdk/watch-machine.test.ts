import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { JetbucketError } from "../../../src/sdk/core/errors.ts";
import type { ServerFrame } from "../../../src/sdk/core/watch-frames.ts";
import {
  initialState,
  transition,
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
const frame = (of: ServerFrame): WatchEvent => ({ type: "frame", frame: of });
const refused = (status: number | undefined): WatchEvent => ({
  type: "refused",
  error: new JetbucketError("x", "x", { status }),
});
const lost = (code: number): WatchEvent => ({ type: "lost", code, reason: "" });
const diagnosed = (status?: number): WatchEvent => ({
  type: "diagnosed",
  error: status === undefined ? undefined : new JetbucketError("x", "x", { status }),
});

const events = {
  opened: { type: "opened" },
  update: frame(update),
  ready: frame(ready),
  stale: frame({ type: "kv_stale", reason: "no NATS" }),
  reset: frame({ type: "kv_reset", reason: "no continuity" }),
  error: frame({ type: "error", message: "no", code: "internal" }),
  "lost 1006": lost(1006),
  "lost 1000": lost(1000),
  "lost 1001": lost(1001),
  "lost 4404": lost(4404),
  "lost 4429": lost(4429),
  "refused 404": refused(404),
  "refused 503": refused(503),
  "refused by network": refused(undefined),
  "timed out": { type: "timed-out" },
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
    opened: "catching-up: begin",
    "lost 1006": "waiting: disconnect wait",
    "lost 1000": "waiting: disconnect wait",
    "lost 1001": "waiting: disconnect wait",
    "lost 4404": "closed: disconnect report finish",
    "lost 4429": "waiting: disconnect wait",
    "refused 404": "closed: disconnect report finish",
    "refused 503": "waiting: disconnect wait",
    "refused by network": "waiting: disconnect wait",
    "timed out": "waiting: disconnect wait",
    "diagnosed 403": "closed: disconnect report finish",
    "diagnosed 503": "connecting: report",
    "diagnosed nothing": "connecting: report",
    stopped: "closed: disconnect finish",
  },
  "catching-up": {
    update: "catching-up: deliver",
    ready: "live: complete",
    stale: "catching-up:",
    reset: "catching-up: begin",
    error: "catching-up:",
    "lost 1006": "waiting: disconnect wait",
    "lost 1000": "waiting: disconnect wait",
    "lost 1001": "waiting: disconnect wait",
    "lost 4404": "closed: disconnect report finish",
    "lost 4429": "waiting: disconnect wait",
    stopped: "closed: disconnect finish",
  },
  live: {
    update: "live: deliver",
    ready: "live: complete",
    stale: "catching-up:",
    reset: "catching-up: begin",
    error: "live:",
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
    for (const [name, event, expected] of rows) {
      if (expected !== `${name}:` || table[name][event] !== undefined) continue;
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

describe("the end of a watch", () => {
  const endOf = (...sequence: WatchEvent[]) =>
    run(...sequence).effects.flatMap((effect) => (effect.type === "finish" ? [effect.info] : []));

  test("names the error frame that came before the close", () => {
    const gone = frame({ type: "error", message: "the bucket was deleted", code: "bucket_not_found" }); // prettier-ignore
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

test("connections resume from the first that was ready on", () => {
  const connects = run(...fails, ...goesLive, ...fails, ...fails).effects.flatMap((effect) =>
    effect.type === "connect" ? [effect.resumes] : [],
  );
  expect(connects).toEqual([false, true, true]);
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
