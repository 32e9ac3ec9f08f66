import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Include, UpdateFrame } from "../../../src/protocol/messages.ts";
import { WatchLedger } from "../../../src/sdk/core/watch-ledger.ts";
import { createdAtOf, positionOf } from "./fake-gateway.ts";

function put(key: string, revision: number, createdAt = createdAtOf(revision)): UpdateFrame {
  return {
    type: "kv_update",
    bucket: "b",
    key,
    value: revision,
    encoding: "json",
    operation: "put",
    revision,
    created_at: createdAt,
  };
}

function del(key: string, revision: number): UpdateFrame {
  return {
    type: "kv_update",
    bucket: "b",
    key,
    operation: "delete",
    reason: "delete",
    revision,
    created_at: createdAtOf(revision),
  };
}

/** A ledger that has seen a snapshot of these frames and is live. */
function liveAfter(include: Include, frames: UpdateFrame[], revision: number): WatchLedger {
  const ledger = new WatchLedger(include);
  ledger.startOver();
  for (const frame of frames) ledger.take(frame);
  ledger.complete(positionOf(revision));
  return ledger;
}

describe("after a gap, a snapshot", () => {
  test("tells only what is new", () => {
    const ledger = liveAfter("snapshot", [put("a", 1), put("b", 2)], 2);
    expect(ledger.take(put("c", 3))).toBe(true);
    ledger.startOver();
    expect(ledger.take(put("a", 1))).toBe(false);
    expect(ledger.take(put("c", 3))).toBe(false);
    expect(ledger.take(put("b", 4))).toBe(true);
    expect(ledger.take(put("d", 5))).toBe(true);
    expect(ledger.complete(positionOf(5))).toEqual([]);
  });

  test("tells that keys went which it does not name, at the bucket's newest revision", () => {
    const ledger = liveAfter("snapshot", [put("a", 1), put("b", 2)], 2);
    ledger.startOver();
    ledger.take(put("b", 2));
    expect(ledger.complete(positionOf(9))).toEqual([{ key: "a", revision: 9 }]);
    // Once, and a new value of it is news again.
    ledger.startOver();
    ledger.take(put("b", 2));
    expect(ledger.complete(positionOf(9))).toEqual([]);
    expect(ledger.take(put("a", 10))).toBe(true);
  });

  test("that was cut off does not make keys go, and the next one repeats nothing", () => {
    const ledger = liveAfter("snapshot", [put("a", 1), put("b", 2)], 2);
    ledger.startOver();
    expect(ledger.take(put("c", 3))).toBe(true);
    ledger.startOver();
    for (const told of [put("a", 1), put("b", 2), put("c", 3)]) {
      expect(ledger.take(told)).toBe(false);
    }
    expect(ledger.complete(positionOf(3))).toEqual([]);
  });

  test("from a replica that lags brings nothing back", () => {
    const ledger = liveAfter("snapshot", [put("a", 1), put("b", 5)], 5);
    ledger.take(del("a", 6));
    ledger.startOver();
    expect(ledger.take(put("a", 1))).toBe(false);
    expect(ledger.take(put("b", 3))).toBe(false);
    expect(ledger.take(put("b", 5))).toBe(false);
  });

  test("of a bucket that was created anew is told whole, though its revisions are low", () => {
    const ledger = liveAfter("snapshot", [put("a", 7), put("b", 8), put("old", 9)], 9);
    const later = createdAtOf(1000);
    ledger.startOver();
    expect(ledger.take(put("a", 1, later))).toBe(true);
    expect(ledger.take(put("b", 2, later))).toBe(true);
    expect(ledger.complete(positionOf(2, "mjv0zzzz"))).toEqual([{ key: "old", revision: 2 }]);
    // Two writes within a millisecond are two writes.
    expect(ledger.take(put("a", 3, later))).toBe(true);
    expect(ledger.take(put("c", 4, later))).toBe(true);
    ledger.startOver();
    expect(ledger.take(put("b", 2, later))).toBe(false);
    expect(ledger.take(put("d", 5, later))).toBe(true);
  });
});

test("a catch-up without a snapshot makes no key go", () => {
  const ledger = liveAfter("snapshot", [put("a", 1)], 1);
  ledger.resume();
  expect(ledger.take(put("b", 3))).toBe(true);
  expect(ledger.complete(positionOf(4))).toEqual([]);
  expect(ledger.take(put("a", 1))).toBe(false);
});

test("a removal while catching up is told once, also when what follows starts over", () => {
  const ledger = liveAfter("snapshot", [put("a", 1)], 1);
  ledger.startOver();
  expect(ledger.take(del("b", 5))).toBe(true);
  ledger.resume();
  expect(ledger.take(put("b", 4))).toBe(false);
  expect(ledger.take(del("b", 5))).toBe(false);
  expect(ledger.take(put("b", 6))).toBe(true);
});

describe("a removal that was noticed late", () => {
  const inferred = (key: string, revision: number) => ({ ...del(key, revision), inferred: true as const }); // prettier-ignore

  test.each(["snapshot", "history"] as const)("is news of keys that live, once (%s)", (include) => {
    const ledger = liveAfter(include, [put("a", 1)], 1);
    expect(ledger.take(inferred("a", 9))).toBe(true);
    expect(ledger.take(inferred("a", 9))).toBe(false);
    expect(ledger.take(inferred("b", 9))).toBe(false);
  });

  test("is news to who was told no values", () => {
    const ledger = liveAfter("updates", [], 1);
    expect(ledger.take(inferred("b", 9))).toBe(true);
  });

  test("hides no write before it", () => {
    const ledger = liveAfter("history", [put("a", 1)], 1);
    ledger.take(inferred("a", 9));
    expect(ledger.take(put("b", 5))).toBe(true);
    ledger.startOver();
    expect(ledger.take(put("b", 5))).toBe(false);
    expect(ledger.take(put("c", 6))).toBe(true);
  });
});

describe("a bucket that is known to be a new one", () => {
  test("is told whole, whatever its revisions and its clock", () => {
    const ledger = liveAfter("snapshot", [put("a", 7), put("b", 8), put("old", 9)], 9);
    ledger.startOver(true);
    expect(ledger.take(put("a", 1))).toBe(true);
    expect(ledger.take(put("b", 2, createdAtOf(-100)))).toBe(true);
    expect(ledger.complete(positionOf(2, "mjv0zzzz"))).toEqual([{ key: "old", revision: 2 }]);
    expect(ledger.take(put("c", 3))).toBe(true);
  });

  test("is told whole to who only wants updates, and was told nothing yet", () => {
    const ledger = liveAfter("updates", [], 100);
    ledger.startOver(true);
    expect(ledger.take(put("a", 1))).toBe(true);
  });
});

describe("updates", () => {
  test("start with what comes, and a gap tells neither older entries nor nothing", () => {
    const ledger = liveAfter("updates", [], 100);
    expect(ledger.take(put("a", 101))).toBe(true);
    ledger.startOver();
    expect(ledger.take(put("old", 50))).toBe(false);
    expect(ledger.take(put("a", 101))).toBe(false);
    expect(ledger.take(put("gap", 102))).toBe(true);
    expect(ledger.complete(positionOf(102))).toEqual([]);
  });

  test("that told nothing yet go by the position", () => {
    const ledger = liveAfter("updates", [], 100);
    ledger.startOver();
    expect(ledger.take(put("old", 50))).toBe(false);
    expect(ledger.take(put("gap", 102))).toBe(true);
  });

  test("rather repeat than hide when the position has an unknown form", () => {
    const ledger = new WatchLedger("updates");
    ledger.startOver();
    ledger.complete("something else");
    ledger.startOver();
    expect(ledger.take(put("old", 50))).toBe(true);
  });

  test("tell that keys went which they had told", () => {
    const ledger = liveAfter("updates", [], 100);
    ledger.take(put("a", 101));
    ledger.startOver();
    expect(ledger.complete(positionOf(103))).toEqual([{ key: "a", revision: 103 }]);
  });

  test("of a new bucket are told, once something of the old one was", () => {
    const ledger = liveAfter("updates", [], 100);
    ledger.take(put("a", 101));
    ledger.startOver();
    expect(ledger.take(put("new", 1, createdAtOf(1000)))).toBe(true);
  });

  test("told before the first connection was complete do not go with the next one", () => {
    const ledger = new WatchLedger("updates");
    ledger.startOver();
    ledger.take(put("a", 101));
    ledger.startOver();
    expect(ledger.complete(positionOf(101))).toEqual([]);
  });
});

test("a history that starts over repeats no revision, not even of keys that were removed", () => {
  const history = [put("a", 1), put("b", 2), put("a", 3), del("a", 4), put("b", 5)];
  const ledger = new WatchLedger("history");
  ledger.startOver();
  expect(history.slice(0, 4).map((frame) => ledger.take(frame))).toEqual(Array(4).fill(true));
  ledger.startOver();
  const again = [...history, put("a", 6)];
  expect(again.map((frame) => ledger.take(frame))).toEqual([
    false,
    false,
    false,
    false,
    true,
    true,
  ]);
  expect(ledger.complete(positionOf(6))).toEqual([]);
  ledger.take(del("a", 7));
  ledger.startOver();
  expect([...again, del("a", 7)].map((frame) => ledger.take(frame))).toEqual(Array(7).fill(false));
});

/**
 * A model: a bucket that is written to, deleted from and created anew, watched over a connection that breaks at any
 * moment. Whoever applies what the ledger lets through must end up with the bucket's contents.
 */
type Step =
  /** Without a tick, the write is of the same millisecond as the one before. */
  | { do: "put" | "delete"; key: string; tick: number }
  | { do: "recreate" }
  | { do: "connect" }
  | { do: "receive"; count: number };

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constantFrom("put" as const, "delete" as const), key: fc.constantFrom("a", "b", "c"), tick: fc.nat(1) }) }, // prettier-ignore
    { weight: 1, arbitrary: fc.record({ do: fc.constant("recreate" as const) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("connect" as const) }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("receive" as const), count: fc.integer({ min: 1, max: 4 }) }) }, // prettier-ignore
  ),
  { maxLength: 60 },
);

function replay(script: Step[], filter: (ledger: WatchLedger, frame: UpdateFrame) => boolean) {
  const ledger = new WatchLedger("snapshot");
  let clock = 0;
  let epoch = 0;
  let revision = 0;
  let bucket = new Map<string, UpdateFrame>();
  let wire: (UpdateFrame | { ready: string })[] | undefined;
  const seen = new Map<string, unknown>();
  const told = new Set<string>();
  const repeated: string[] = [];

  const connect = () => {
    ledger.startOver();
    wire = [...bucket.values()].sort((a, b) => a.revision - b.revision);
    wire.push({ ready: positionOf(revision, `e${epoch}`) });
  };
  const receive = () => {
    const frame = wire?.shift();
    if (frame === undefined) return;
    if ("ready" in frame) {
      for (const { key } of ledger.complete(frame.ready)) seen.delete(key);
      return;
    }
    if (!filter(ledger, frame)) return;
    const name = `${frame.created_at} ${frame.revision}`;
    if (told.has(name)) repeated.push(name);
    told.add(name);
    if (frame.operation === "put") seen.set(frame.key, frame.value);
    else seen.delete(frame.key);
  };

  for (const step of [...script, { do: "connect" as const }]) {
    switch (step.do) {
      case "put":
      case "delete": {
        revision++;
        clock += step.tick;
        const frame = { ...(step.do === "put" ? put : del)(step.key, revision), created_at: createdAtOf(clock), ...(step.do === "put" ? { value: `${epoch}/${revision}` } : {}) }; // prettier-ignore
        if (step.do === "put") bucket.set(step.key, frame);
        else bucket.delete(step.key);
        wire?.push(frame);
        break;
      }
      case "recreate":
        epoch++;
        clock++;
        revision = 0;
        bucket = new Map();
        wire = undefined;
        break;
      case "connect":
        connect();
        break;
      case "receive":
        for (let n = 0; n < step.count; n++) receive();
        break;
    }
  }
  while (wire !== undefined && wire.length > 0) receive();
  const truth = new Map([...bucket.values()].map(({ key, value }) => [key, value]));
  return { seen, truth, repeated };
}

describe("whatever happens to bucket and connection", () => {
  test("a watcher ends up with the bucket's contents, and is told no write twice", () => {
    fc.assert(
      fc.property(steps, (script) => {
        const { seen, truth, repeated } = replay(script, (ledger, frame) => ledger.take(frame));
        expect(seen).toEqual(truth);
        expect(repeated).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  test("and this check notices a ledger that goes by revisions alone", () => {
    let newest = 0;
    const result = fc.check(
      fc.property(steps, (script) => {
        newest = 0;
        const { seen, truth } = replay(script, (ledger, frame) => {
          const isNew = ledger.take(frame) && frame.revision > newest;
          newest = Math.max(newest, frame.revision);
          return isNew;
        });
        expect(seen).toEqual(truth);
      }),
      { numRuns: 2000 },
    );
    expect(result.failed).toBe(true);
  });
});
