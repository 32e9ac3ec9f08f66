/**
 * A model: a bucket that is written to, deleted from and created anew, behind gateways that remember more or less of it, and a
 * watch whose connection is cut at any moment. Whoever applies what the watch tells must end up with what the bucket holds.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Include } from "../../../src/protocol/messages.ts";
import { parsePosition } from "../../../src/protocol/position.ts";
import { revisionOf, type Revision } from "../../../src/sdk/core/entry.ts";
import { LiveBucket } from "../../../src/sdk/core/live-bucket.ts";
import { WatchDriver, type WatchSink } from "../../../src/sdk/core/watch-driver.ts";
import type { ConnectionListener, WatchRequest } from "../../../src/sdk/core/watch-socket.ts";
import type { Change } from "../../../src/sdk/core/watch.ts";

interface Write {
  key: string;
  revision: number;
  operation: "put" | "delete";
  value: string | undefined;
  created_at: string;
}

type Step =
  | { do: "write"; key: string; operation: "put" | "delete"; tick: number }
  | { do: "transact"; keys: string[]; tick: number }
  | { do: "recreate" }
  | { do: "bookmark" }
  | { do: "cut" }
  /** The server lost frames of this watch. */
  | { do: "lag" }
  /** The client comes back to a gateway that remembers what was written since so many revisions, or nothing. */
  | { do: "connect"; memory: number }
  /** The same to one that remembers nothing, and the connection is cut after so many frames. */
  | { do: "stumble"; count: number }
  | { do: "receive"; count: number };

const key = fc.constantFrom("a", "b", "c", "d");
const tick = fc.nat(1);
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("write" as const), key, operation: fc.constantFrom("put" as const, "delete" as const), tick }) }, // prettier-ignore
    { weight: 3, arbitrary: fc.record({ do: fc.constant("transact" as const), keys: fc.uniqueArray(key, { minLength: 2 }), tick }) }, // prettier-ignore
    { weight: 1, arbitrary: fc.record({ do: fc.constant("recreate" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("bookmark" as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("lag" as const) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("connect" as const), memory: fc.constantFrom(0, 2, 5, 1000) }) }, // prettier-ignore
    { weight: 3, arbitrary: fc.record({ do: fc.constant("stumble" as const), count: fc.integer({ min: 1, max: 5 }) }) }, // prettier-ignore
    { weight: 8, arbitrary: fc.record({ do: fc.constant("receive" as const), count: fc.integer({ min: 1, max: 5 }) }) }, // prettier-ignore
  ),
  // Long scripts: most bugs take a gap within a gap.
  { maxLength: 80, size: "max" },
);

function createdAtOf(clock: number): string {
  return new Date(Date.UTC(2026, 0, 1) + clock).toISOString();
}

/** Runs a script against a watch; at the end the client is connected and everything is delivered. */
function replay(
  script: Step[],
  include: Include,
  makeSink: (log: Change[]) => WatchSink<Revision>,
) {
  const log: Change[] = [];
  let epoch = 1_700_000_000_000;
  let clock = 0;
  let revision = 0;
  let bucket = new Map<string, Write>();
  let history: Write[][] = [];
  let wasReady = false as boolean;
  /** Frames that were sent and have not arrived. */
  let wire: object[] | undefined;
  let listener: ConnectionListener | undefined;
  let request: WatchRequest | undefined;
  let retry: (() => void) | undefined;

  const position = () => `${epoch.toString(36)}-${revision.toString(36)}`;
  const frameOf = (writes: Write[]) =>
    writes.length === 1
      ? { type: "kv_update", bucket: "b", ...writes[0] }
      : { type: "kv_transaction", bucket: "b", revision: writes.at(-1)!.revision, events: writes };
  const ready = () => ({ type: "kv_ready", position: position(), count: 0 });
  const everything = () =>
    include === "history"
      ? history.flat().map((write) => frameOf([write]))
      : [...bucket.values()].sort((a, b) => a.revision - b.revision).map((write) => frameOf([write])); // prettier-ignore
  const reset = (reason: string) => {
    wire!.push({ type: "kv_reset", reason }, ...everything(), ready());
  };
  const socket = {
    watch: (asked: WatchRequest, tell: ConnectionListener) => {
      request = asked;
      listener = tell;
      return () => (listener = undefined);
    },
    jitter: () => 0,
  };
  const watcher = new WatchDriver<Revision>(
    {
      request: { bucket: "b", include },
      socket,
      probe: () => Promise.resolve(),
      read: (body) => revisionOf(body),
    },
    makeSink(log),
    (callback) => {
      retry = callback;
      return () => (retry = undefined);
    },
  );

  const cut = () => {
    wire = undefined;
    listener?.({ type: "lost", code: 1006, reason: "" });
    retry?.();
  };
  const connect = (memory: number) => {
    if (wire !== undefined) cut();
    wire = [];
    listener!({ type: "opened" });
    const since = request!.since === undefined ? undefined : parsePosition(request!.since)!;
    if (since === undefined) {
      if (include !== "updates") wire.push(...everything());
      wire.push(ready());
    } else if (since.epoch !== epoch) reset("epoch_changed");
    else if (since.revision < revision - memory) reset("too_old");
    else {
      const missed = history.filter((writes) => writes.at(-1)!.revision > since.revision);
      wire.push(...missed.map(frameOf), ready());
    }
  };
  const commit = (writes: Write[], isEarly: boolean) => {
    history.push(writes);
    for (const write of writes) {
      if (write.operation === "put") bucket.set(write.key, write);
      else bucket.delete(write.key);
    }
    const last = wire?.at(-1) as { type: string } | undefined;
    if (last?.type === "kv_ready" && isEarly && include !== "updates") {
      // A change that the gateway gets while it still reads what is stored.
      wire!.splice(-1, 1, frameOf(writes), ready());
    } else wire?.push(frameOf(writes));
  };
  const writeOf = (key: string, operation: "put" | "delete"): Write => ({
    key,
    revision: ++revision,
    operation,
    value: operation === "put" ? `${epoch}/${revision}` : undefined,
    created_at: createdAtOf(clock),
  });
  const receive = () => {
    const frame = wire?.shift();
    if (frame === undefined) return;
    wasReady ||= (frame as { type: string }).type === "kv_ready";
    listener!({ type: "frame", frame: frame as never });
  };

  for (const step of script) {
    switch (step.do) {
      case "write":
        clock += step.tick;
        commit([writeOf(step.key, step.operation)], step.tick === 1);
        break;
      case "transact":
        clock += step.tick;
        commit(
          step.keys.map((key) => writeOf(key, "put")),
          step.tick === 1,
        );
        break;
      case "recreate":
        // A watch of the bucket is closed; the client of this model comes back all the same, as after a network's failure.
        epoch += 1000;
        clock += 1;
        revision = 0;
        bucket = new Map();
        history = [];
        cut();
        break;
      case "bookmark":
        wire?.push({ type: "kv_bookmark", position: position() });
        break;
      case "cut":
        cut();
        break;
      case "lag":
        // A watch of updates is ready before there is anything to lose, and what starts over for another reason does so first.
        if (
          wire !== undefined &&
          wire.length > 0 &&
          (include !== "updates" || wasReady) &&
          !wire.some((frame) => (frame as { type: string }).type === "kv_reset")
        ) {
          wire = [];
          reset("lagged");
        }
        break;
      case "connect":
        connect(step.memory);
        break;
      case "stumble":
        connect(0);
        for (let n = 0; n < step.count; n++) receive();
        cut();
        break;
      case "receive":
        for (let n = 0; n < step.count; n++) receive();
        break;
    }
  }
  connect(1000);
  while (wire !== undefined && wire.length > 0) receive();
  const truth = new Map([...bucket.values()].map((write) => [write.key, write.value]));
  return { watcher, log, truth, history };
}

const recorder = (log: Change[]): WatchSink<Revision> => ({ onUpdate: (change) => log.push(change) }); // prettier-ignore

function applied(log: Change[]): Map<string, unknown> {
  const seen = new Map<string, unknown>();
  for (const change of log) {
    if (change.operation === "put") seen.set(change.key, change.value);
    else seen.delete(change.key);
  }
  return seen;
}

/** What names a write: its value has epoch and revision in it; a removal goes by its revision and time. */
function nameOf(change: Change): string {
  return `${change.key} ${change.revision} ${change.createdAt} ${String(change.value)}`;
}

const runs = { numRuns: 300 };

test.each(["snapshot", "history"] as const)(
  "a watch of %s ends up with the bucket's contents, and tells nothing twice",
  (include) => {
    fc.assert(
      fc.property(steps, (script) => {
        const { log, truth } = replay(script, include, recorder);
        expect(applied(log)).toEqual(truth);
        const told = log.filter(({ inferred }) => inferred !== true).map(nameOf);
        expect(new Set(told).size).toBe(told.length);
      }),
      runs,
    );
  },
);

test("a watch of updates knows the state of every key that it was told of", () => {
  fc.assert(
    fc.property(steps, (script) => {
      const { log, truth } = replay(script, "updates", recorder);
      const seen = applied(log);
      for (const { key } of log) expect(seen.get(key)).toEqual(truth.get(key));
      const told = log.filter(({ inferred }) => inferred !== true).map(nameOf);
      expect(new Set(told).size).toBe(told.length);
    }),
    runs,
  );
});

test("as long as gateways remember, every write is told, in order, transactions whole", () => {
  const remembered = steps.map((script) =>
    script.flatMap((step): Step[] => {
      if (step.do === "recreate" || step.do === "lag" || step.do === "stumble") return [];
      return [step.do === "connect" ? { ...step, memory: 1000 } : step];
    }),
  );
  fc.assert(
    fc.property(remembered, (script) => {
      const { log, history } = replay(script, "history", recorder);
      expect(log.map(({ revision }) => revision)).toEqual(
        history.flat().map(({ revision }) => revision),
      );
      for (const [at, { transaction }] of log.entries()) {
        if (transaction === undefined) continue;
        for (let index = 0; index < transaction.size; index++) {
          const part = log[at - transaction.index + index]!;
          expect(part.transaction).toEqual({ ...transaction, index });
        }
      }
    }),
    runs,
  );
});

test("a live view shows nothing but what the bucket held at some moment", () => {
  fc.assert(
    fc.property(steps, (script) => {
      const moments: string[] = [];
      let view!: LiveBucket;
      const text = (entries: Iterable<[string, unknown]>) =>
        JSON.stringify([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
      const { truth, watcher } = replay(script, "snapshot", () => {
        let sink!: WatchSink<Revision>;
        view = new LiveBucket((given) => {
          sink = given;
          return { stop: () => undefined, state: "connecting", closed: new Promise(() => undefined) }; // prettier-ignore
        }, undefined);
        view.onChange(() => moments.push(text(view)));
        return sink;
      });
      expect(view.state).toBe("live");
      expect(new Map(view)).toEqual(truth);
      // What it held, by replaying the writes that are in the values.
      const possible = new Set(["[]", ...statesOf(script).map(text)]);
      for (const moment of moments) expect(possible).toContain(moment);
      watcher.stop();
    }),
    runs,
  );
});

/** Every state that the bucket of a script has, with the values that {@link replay} writes. */
function statesOf(script: Step[]): Map<string, unknown>[] {
  const states: Map<string, unknown>[] = [];
  let epoch = 1_700_000_000_000;
  let revision = 0;
  let state = new Map<string, unknown>();
  for (const step of script) {
    if (step.do === "write") {
      revision++;
      if (step.operation === "put") state.set(step.key, `${epoch}/${revision}`);
      else state.delete(step.key);
    } else if (step.do === "transact") {
      for (const key of step.keys) state.set(key, `${epoch}/${++revision}`);
    } else if (step.do === "recreate") {
      epoch += 1000;
      revision = 0;
      state = new Map();
    } else continue;
    states.push(new Map(state));
  }
  return states;
}
