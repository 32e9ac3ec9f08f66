import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Frame } from "../../../src/watch/frames.ts";
import { Outbox } from "../../../src/watch/outbox.ts";

interface TestFrame extends Frame {
  number: number;
}

let numbers = 0;
const frameOf = (key: string | undefined, size = 10): TestFrame => ({
  key,
  bytes: Buffer.alloc(size),
  number: ++numbers,
});

/** A sink that takes all it is given, and passes on only what it is told to. */
class SlowSink {
  backlog = 0;
  writes = 0;
  readonly taken: TestFrame[] = [];

  write(frames: readonly Frame[]): void {
    this.writes += 1;
    for (const frame of frames as readonly TestFrame[]) {
      this.taken.push(frame);
      this.backlog += frame.bytes.length;
    }
  }

  drain(bytes = this.backlog): void {
    this.backlog -= Math.min(bytes, this.backlog);
  }
}

const LIMITS = { sinkBacklog: 100, waiting: 400 };

function drainAll(outbox: Outbox, sink: SlowSink): void {
  do {
    sink.drain();
    outbox.flush();
  } while (outbox.bytes > 0);
}

type Step =
  | { do: "push"; key: string | undefined; size: number }
  | { do: "flush" }
  | { do: "drain"; n: number };

const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("push" as const),
        key: fc.option(fc.constantFrom("a", "b", "c", "d", "e"), { nil: undefined, freq: 8 }),
        size: fc.integer({ min: 1, max: 90 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("flush" as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("drain" as const),
        n: fc.integer({ min: 1, max: 300 }),
      }),
    },
  ),
  { minLength: 1, maxLength: 120 },
);

interface Run {
  pushed: TestFrame[];
  outbox: Outbox;
  sink: SlowSink;
  wasPressed: boolean;
  mostBytes: number;
}

function run(script: readonly Step[], conflates: boolean, limits = LIMITS, keepsUp = false): Run {
  const sink = new SlowSink();
  const outbox = new Outbox(sink, limits, conflates);
  const result: Run = { pushed: [], outbox, sink, wasPressed: false, mostBytes: 0 };
  for (const step of script) {
    if (step.do === "push") {
      if (!outbox.isClear) result.wasPressed = true;
      const frame = frameOf(step.key, step.size);
      result.pushed.push(frame);
      outbox.push(frame);
      if (keepsUp) {
        outbox.flush();
        sink.drain();
      }
    } else if (step.do === "drain") {
      sink.drain(step.n);
      outbox.flush();
    } else {
      outbox.flush();
    }
    result.mostBytes = Math.max(result.mostBytes, outbox.bytes + sink.backlog);
  }
  return result;
}

describe("an outbox", () => {
  test("passes everything on, once and in order, while the sink keeps up", () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (script, conflates) => {
        const { pushed, sink, outbox } = run(script, conflates, LIMITS, true);
        drainAll(outbox, sink);
        expect(sink.taken).toEqual(pushed);
      }),
    );
  });

  test("passes on only in the order of pushing, and nothing twice", () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (script, conflates) => {
        const { sink, outbox } = run(script, conflates);
        drainAll(outbox, sink);
        const order = sink.taken.map(({ number }) => number);
        expect(order).toEqual([...new Set(order)].sort((a, b) => a - b));
      }),
    );
  });

  test("ends with the newest frame of each key, and drops older ones only under pressure", () => {
    let conflated = 0;
    fc.assert(
      fc.property(steps, (script) => {
        const { pushed, sink, outbox, wasPressed } = run(script, true, {
          ...LIMITS,
          waiting: Infinity,
        });
        drainAll(outbox, sink);
        const newest = new Map(pushed.map((frame) => [frame.key, frame.number]));
        const last = new Map(sink.taken.map((frame) => [frame.key, frame.number]));
        newest.delete(undefined);
        last.delete(undefined);
        expect(last).toEqual(newest);
        const ownless = (frames: TestFrame[]) => frames.filter(({ key }) => key === undefined);
        expect(ownless(sink.taken)).toEqual(ownless(pushed));
        if (!wasPressed) expect(sink.taken).toEqual(pushed);
        if (sink.taken.length < pushed.length) conflated += 1;
      }),
      { numRuns: 500 },
    );
    expect(conflated).toBeGreaterThan(20);
  });

  test("that must not conflate passes everything on, however slow the sink", () => {
    fc.assert(
      fc.property(steps, (script) => {
        const { pushed, sink, outbox } = run(script, false, { ...LIMITS, waiting: Infinity });
        drainAll(outbox, sink);
        expect(sink.taken).toEqual(pushed);
      }),
    );
  });

  test("holds no more than its limits and one frame, whatever is pushed", () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (script, conflates) => {
        const { mostBytes } = run(script, conflates);
        // The sink gets up to its limit and the frame that passes it; a flush may pass it once more.
        expect(mostBytes).toBeLessThanOrEqual(LIMITS.sinkBacklog + LIMITS.waiting + 2 * 90);
      }),
      { numRuns: 500 },
    );
  });

  test("counts what it holds right: nothing is left once all has gone", () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (script, conflates) => {
        const { sink, outbox } = run(script, conflates);
        drainAll(outbox, sink);
        expect(outbox.bytes).toBe(0);
      }),
    );
  });

  test("sends everything in one flush to a sink that passes all on at once, and so never drains", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 }), (sizes) => {
        const taken: Frame[] = [];
        const sink = {
          backlog: 0,
          write: (frames: readonly Frame[]) => void taken.push(...frames),
        };
        const outbox = new Outbox(sink, { ...LIMITS, waiting: Infinity }, true);
        const pushed = sizes.map((size, i) => frameOf(`key ${i}`, size));
        for (const frame of pushed) outbox.push(frame);
        outbox.flush();
        expect(taken).toEqual(pushed);
      }),
    );
  });

  test("overflows when more waits than its limit, and is empty and deaf from then on", () => {
    const sink = new SlowSink();
    const outbox = new Outbox(sink, LIMITS, true);
    outbox.push(frameOf("first", 101));
    outbox.flush();
    for (let i = 0; i < 8; i++) outbox.push(frameOf(`key ${i}`, 50));
    expect(outbox.overflowed).toBe(false);
    outbox.push(frameOf("one more", 50));
    expect(outbox.overflowed).toBe(true);
    expect(outbox.bytes).toBe(0);
    outbox.push(frameOf("late"));
    drainAll(outbox, sink);
    expect(sink.taken.map(({ key }) => key)).toEqual(["first"]);
  });

  test("does not overflow by writes to one key, however many", () => {
    const sink = new SlowSink();
    const outbox = new Outbox(sink, LIMITS, true);
    for (let i = 0; i < 10_000; i++) outbox.push(frameOf("k", 90));
    expect(outbox.overflowed).toBe(false);
    drainAll(outbox, sink);
    expect(sink.taken.at(-1)?.number).toBe(numbers);
  });

  test("hands over all of one turn in one write, and writes nothing when there is nothing", () => {
    const sink = new SlowSink();
    const outbox = new Outbox(sink, LIMITS, true);
    outbox.flush();
    expect(sink.writes).toBe(0);
    for (const key of ["a", "b", "c"]) outbox.push(frameOf(key));
    outbox.flush();
    expect(sink.writes).toBe(1);
    expect(sink.taken).toHaveLength(3);
  });
});

describe("a mark that is pushed when all is clear", () => {
  test("leaves with the next flush when nothing waits", () => {
    const sink = new SlowSink();
    const outbox = new Outbox(sink, LIMITS, true);
    const frame = frameOf("a");
    const mark = frameOf(undefined);
    outbox.push(frame);
    outbox.pushWhenClear(() => mark);
    outbox.flush();
    expect(sink.taken).toEqual([frame, mark]);
  });

  test("comes after everything that was pushed before it, is made late, and comes once", () => {
    fc.assert(
      fc.property(steps, steps, fc.boolean(), (before, after, conflates) => {
        const sink = new SlowSink();
        const outbox = new Outbox(sink, { ...LIMITS, waiting: Infinity }, conflates);
        const play = (script: readonly Step[]): void => {
          for (const step of script) {
            if (step.do === "push") outbox.push(frameOf(step.key, step.size));
            else if (step.do === "flush") outbox.flush();
            else sink.drain(step.n);
          }
        };
        play(before);
        const pushedBefore = numbers;
        let made = 0;
        outbox.pushWhenClear(() => {
          made += 1;
          return { ...frameOf(undefined), number: -1 };
        });
        expect(made).toBe(0);
        play(after);
        drainAll(outbox, sink);
        const order = sink.taken.map(({ number }) => number);
        const at = order.indexOf(-1);
        expect(made).toBe(1);
        expect(order.slice(at + 1).every((number) => number > pushedBefore)).toBe(true);
        // What is still to come is newer than all that came before the mark.
        expect(order.toSpliced(at, 1)).toEqual(order.toSpliced(at, 1).toSorted((a, b) => a - b));
      }),
    );
  });
});
