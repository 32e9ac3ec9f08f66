import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import type { Change } from "../../../src/store/feed.ts";
import { readyFrame, staleFrame, type Frame } from "../../../src/watch/frames.ts";
import { OutboxBudget } from "../../../src/watch/outbox-budget.ts";
import { Outbox, type Sink } from "../../../src/watch/outbox.ts";
import type { WatchSocket } from "../../../src/watch/watch.ts";
import { messagesIn } from "../../support/frame-decoder.ts";
import { extended, momentOf, plain, put } from "./entries.ts";

interface Message {
  type: string;
  key: string;
  revision: number;
  conflated?: number;
  events?: { key: string; revision: number }[];
}

/** A sink that takes all it is given while it has room, and passes on only what it is told to. */
class SlowSink implements Sink {
  backlog = 0;
  entries = 0;
  writes = 0;
  readonly taken: Message[] = [];
  readonly #room: number;

  constructor(room: number) {
    this.#room = room;
  }

  get hasRoom(): boolean {
    return this.backlog <= this.#room;
  }

  write(bytes: Buffer, entries: number): void {
    this.writes += 1;
    this.backlog += bytes.length;
    this.entries += entries;
    this.taken.push(...(messagesIn(bytes) as Message[]));
  }
}

const ROOM = 1_000;
let revision = 0;
const change = (key: string): Change => put(key, "v", { revision: ++revision });
const single = (key: string): Frame => momentOf(change(key)).frames(extended)[0]!;
const transaction = (...keys: string[]): Frame =>
  momentOf(...keys.map(change)).frames(extended)[0]!;

let sink: SlowSink;
let waiting: number;
let conflations: number;

function outboxOf({ conflates = true, limit = Infinity, dialect = extended } = {}): Outbox {
  waiting = 0;
  conflations = 0;
  return new Outbox({
    dialect,
    conflates,
    reserve: (bytes) => (waiting += bytes) <= limit,
    onConflated: () => (conflations += 1),
  });
}

beforeEach(() => {
  sink = new SlowSink(ROOM);
});

function drain(outbox: Outbox): void {
  while (!outbox.isEmpty) {
    sink.backlog = 0;
    outbox.flush(sink);
  }
}

/** Key and revision of each change, in the order in which they came. */
function changesIn(messages: readonly Message[]): { key: string; revision: number }[] {
  return messages.flatMap(({ type, key, revision: at, events }) =>
    type === "kv_update" ? [{ key, revision: at }] : (events ?? []),
  );
}

const keys = fc.constantFrom("a", "b", "c", "d", "e");
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ keys: fc.array(keys, { minLength: 1, maxLength: 1 }) }) },
    { weight: 2, arbitrary: fc.record({ keys: fc.uniqueArray(keys, { minLength: 2 }) }) },
    { weight: 3, arbitrary: fc.record({ drained: fc.integer({ min: 1, max: 3000 }) }) },
  ),
  { minLength: 1, maxLength: 120 },
);

function run(script: readonly Step[], outbox: Outbox): Frame[] {
  const pushed: Frame[] = [];
  for (const step of script) {
    if ("keys" in step) {
      const frame = step.keys.length === 1 ? single(step.keys[0]!) : transaction(...step.keys);
      pushed.push(frame);
      outbox.push(frame);
    } else {
      sink.backlog = Math.max(0, sink.backlog - step.drained);
      outbox.flush(sink);
    }
  }
  return pushed;
}

type Step = { keys: string[] } | { drained: number };

const messagesOf = (frames: readonly Frame[]): Message[] =>
  frames.flatMap(({ bytes }) => messagesIn(bytes) as Message[]);

describe("an outbox", () => {
  test("passes on in the order of pushing, nothing twice, and of each key the newest state", () => {
    let dropped = 0;
    fc.assert(
      fc.property(steps, (script) => {
        sink = new SlowSink(ROOM);
        const outbox = outboxOf();
        const pushed = changesIn(messagesOf(run(script, outbox)));
        drain(outbox);
        const taken = changesIn(sink.taken);
        const order = taken.map((each) => each.revision);
        expect(order).toEqual([...new Set(order)].sort((a, b) => a - b));
        const newest = (changes: typeof taken): Map<string, number> =>
          new Map(changes.map((each) => [each.key, each.revision]));
        expect(newest(taken)).toEqual(newest(pushed));
        if (taken.length < pushed.length) dropped += 1;
      }),
      { numRuns: 500 },
    );
    expect(dropped).toBeGreaterThan(50);
  });

  test("never cuts a transaction up, and drops it only when all of it is out of date", () => {
    fc.assert(
      fc.property(steps, (script) => {
        sink = new SlowSink(ROOM);
        const outbox = outboxOf();
        const pushed = messagesOf(run(script, outbox));
        drain(outbox);
        const whole = new Map(
          pushed.map((message) => [changesIn([message])[0]!.revision, changesIn([message])]),
        );
        for (const message of sink.taken) {
          const changes = changesIn([message]);
          expect(changes).toEqual(whole.get(changes[0]!.revision));
        }
        const taken = new Set(changesIn(sink.taken).map((each) => each.revision));
        const all = changesIn(pushed);
        for (const { key, revision: at } of all) {
          if (taken.has(at)) continue;
          expect(all.some((newer) => newer.key === key && newer.revision > at)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("says how many frames were replaced, and counts what it passes on", () => {
    fc.assert(
      fc.property(steps, (script) => {
        sink = new SlowSink(ROOM);
        const outbox = outboxOf();
        const pushed = run(script, outbox);
        drain(outbox);
        const told = sink.taken.reduce((sum, { conflated = 0 }) => sum + conflated, 0);
        expect(told).toBe(conflations);
        expect(sink.taken.length + conflations).toBe(pushed.length);
        expect(sink.entries).toBe(changesIn(sink.taken).length);
        expect(waiting).toBe(0);
      }),
    );
  });

  test("tells plain clients nothing that they do not know", () => {
    const outbox = outboxOf({ dialect: plain });
    for (let i = 0; i < 3; i++) outbox.push(single("a"));
    drain(outbox);
    expect(sink.taken).toHaveLength(1);
    expect(sink.taken[0]).not.toHaveProperty("conflated");
  });

  test("that must not conflate passes everything on, however slow the sink", () => {
    fc.assert(
      fc.property(steps, (script) => {
        sink = new SlowSink(ROOM);
        const outbox = outboxOf({ conflates: false });
        const pushed = messagesOf(run(script, outbox));
        drain(outbox);
        expect(sink.taken).toEqual(pushed);
      }),
    );
  });

  test("keeps the place of frames that are nobody's state", () => {
    const outbox = outboxOf();
    outbox.push(single("a"));
    outbox.push(staleFrame(extended, "away"));
    outbox.push(single("b"));
    outbox.push(single("a"));
    drain(outbox);
    expect(sink.taken).toMatchObject([
      { type: "kv_stale" },
      { key: "b", conflated: 1 },
      { key: "a" },
    ]);
  });

  test("has no room beyond its limit, but for writes to one key, however many", () => {
    const frame = single("k").bytes.length;
    const outbox = outboxOf({ limit: 10 * frame + 100 });
    for (let i = 0; i < 1_000; i++) expect(outbox.push(single("k"))).toBe(true);
    let pushed = 0;
    while (outbox.push(single(`k${pushed}`))) pushed += 1;
    expect(pushed).toBeGreaterThan(5);
    expect(pushed).toBeLessThan(12);
    outbox.clear();
    expect(outbox.isEmpty).toBe(true);
    expect(waiting).toBe(0);
  });

  test("sends everything in one flush to a sink that passes all on at once, and so never drains", () => {
    const outbox = outboxOf();
    for (let i = 0; i < 5_000; i++) outbox.push(single(`key.${i}`));
    const fast = {
      hasRoom: true,
      got: 0,
      writes: 0,
      write(_bytes: Buffer, entries: number) {
        this.got += entries;
        this.writes += 1;
      },
    };
    outbox.flush(fast);
    expect(fast.got).toBe(5_000);
    expect(fast.writes).toBeLessThan(50);
  });

  describe("with a mark", () => {
    const mark = (): Frame => readyFrame(extended, "p", 0);

    test("sends it once when all that was pushed has gone, and makes it only then", () => {
      const outbox = outboxOf();
      sink.backlog = 2 * ROOM;
      outbox.push(single("a"));
      let made = 0;
      outbox.pushWhenClear(() => {
        made += 1;
        return mark();
      });
      outbox.flush(sink);
      outbox.push(single("b"));
      expect([made, sink.taken.length]).toEqual([0, 0]);
      drain(outbox);
      drain(outbox);
      expect(made).toBe(1);
      expect(sink.taken.map(({ type }) => type)).toEqual(["kv_update", "kv_update", "kv_ready"]);
    });

    test("sends it even when nothing else waits, and not when it was given up", () => {
      const outbox = outboxOf();
      outbox.pushWhenClear(mark);
      expect(outbox.isEmpty).toBe(false);
      outbox.pushWhenClear(undefined);
      expect(outbox.isEmpty).toBe(true);
      outbox.pushWhenClear(mark);
      drain(outbox);
      expect(sink.taken).toMatchObject([{ type: "kv_ready" }]);
    });
  });
});

describe("the budget of all outboxes", () => {
  const socket = (): WatchSocket => ({
    format: "extended",
    backlog: 0,
    write: () => undefined,
    end: () => undefined,
  });

  test("bounds what waits for a socket, all its watches together, and what waits for all", () => {
    const budget = new OutboxBudget(100, 250);
    const sockets = [socket(), socket(), socket()] as const;
    expect(budget.take(sockets[0], 60)).toBe(true);
    expect(budget.take(sockets[0], 60)).toBe(false);
    expect(budget.take(sockets[1], 100)).toBe(true);
    expect(budget.take(sockets[2], 60)).toBe(false);
    budget.give(sockets[0], 120);
    expect(budget.take(sockets[2], 20)).toBe(true);
    expect(budget.bytes).toBe(180);
    budget.give(sockets[1], 100);
    budget.give(sockets[2], 80);
    expect(budget.bytes).toBe(0);
  });
});
