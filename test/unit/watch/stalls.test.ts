import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Stalls, type Holdable } from "../../../src/watch/stalls.ts";
import type { WatchSocket } from "../../../src/watch/watch.ts";

const PATIENCE = 30_000;
let stalls: Stalls;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  stalls = new Stalls(PATIENCE);
});
afterEach(() => {
  stalls.close();
  vi.useRealTimers();
});

class HeldUp implements Holdable {
  isHeldUp = true;
  wasGivenUp = false;
  readonly socket: WatchSocket & { backlog: number };

  constructor(socket?: HeldUp["socket"]) {
    this.socket = socket ?? {
      format: "extended",
      backlog: 1_000,
      write: () => undefined,
      end: () => undefined,
    };
    stalls.watch(this);
  }

  onStalled(): void {
    this.wasGivenUp = true;
    this.isHeldUp = false;
  }
}

test("a socket that passes nothing on for long is given up, with all its watches", () => {
  const one = new HeldUp();
  const other = new HeldUp(one.socket);
  vi.advanceTimersByTime(PATIENCE / 2);
  expect(one.wasGivenUp).toBe(false);
  // What is written to it is no progress.
  one.socket.backlog += 500;
  vi.advanceTimersByTime(PATIENCE);
  expect([one.wasGivenUp, other.wasGivenUp]).toEqual([true, true]);
  expect(vi.getTimerCount()).toBe(0);
});

test("a socket that passes on a little now and then is not, until it stops", () => {
  const slow = new HeldUp();
  for (let i = 0; i < 10; i++) {
    vi.advanceTimersByTime(PATIENCE / 2);
    slow.socket.backlog -= 1;
  }
  for (let i = 0; i < 10; i++) {
    vi.advanceTimersByTime(PATIENCE / 2);
    stalls.moved(slow.socket);
  }
  expect(slow.wasGivenUp).toBe(false);
  vi.advanceTimersByTime(2 * PATIENCE);
  expect(slow.wasGivenUp).toBe(true);
});

test("a watch that is not held up any more is forgotten", () => {
  const watch = new HeldUp();
  watch.isHeldUp = false;
  vi.advanceTimersByTime(3 * PATIENCE);
  expect(watch.wasGivenUp).toBe(false);
  expect(vi.getTimerCount()).toBe(0);
});
