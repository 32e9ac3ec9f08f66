import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Heartbeat } from "../../../../src/http/watch/heartbeat.ts";

class Member {
  slot = 0;
  beats = 0;
  beat(): void {
    this.beats += 1;
  }
}

const INTERVAL = 25_000;
let heartbeat: Heartbeat<Member>;

beforeEach(() => {
  vi.useFakeTimers();
  heartbeat = new Heartbeat(INTERVAL);
});

afterEach(() => {
  heartbeat.stop();
  vi.useRealTimers();
});

function join(count: number): Member[] {
  return Array.from({ length: count }, () => {
    const member = new Member();
    heartbeat.add(member);
    return member;
  });
}

test("everybody has one beat per interval", () => {
  const members = join(1_000);
  vi.advanceTimersByTime(INTERVAL * 3);
  for (const member of members) expect(member.beats).toBe(3);
});

test("not all at once, also when they joined at once", () => {
  const members = join(10_000);
  let before = 0;
  for (let turn = 0; turn < 100; turn++) {
    vi.advanceTimersByTime(INTERVAL / 100);
    const beats = members.reduce((sum, member) => sum + member.beats, 0);
    expect(beats - before).toBe(100);
    before = beats;
  }
});

test("who has left has none, whenever that was", () => {
  const [first, second, ...rest] = join(100);
  heartbeat.delete(first!);
  heartbeat.delete(second!);
  heartbeat.delete(second!);
  vi.advanceTimersByTime(INTERVAL);
  expect([first!.beats, second!.beats]).toEqual([0, 0]);
  for (const member of rest) expect(member.beats).toBe(1);
  expect([...heartbeat]).toHaveLength(98);
});

test("one timer does for all", () => {
  join(500);
  expect(vi.getTimerCount()).toBe(1);
  heartbeat.stop();
  expect(vi.getTimerCount()).toBe(0);
});

test("a callback comes once, with the next turn, and may ask for another", () => {
  const turns: number[] = [];
  const again = (): void => {
    turns.push(heartbeat.turn);
    if (turns.length < 3) heartbeat.whenNext(again);
  };
  heartbeat.whenNext(again);
  vi.advanceTimersByTime(INTERVAL);
  expect(turns).toEqual([1, 2, 3]);
});

test("an interval too short to be cut up still beats", () => {
  const quick = new Heartbeat<Member>(10);
  const member = new Member();
  quick.add(member);
  vi.advanceTimersByTime(50);
  quick.stop();
  expect(member.beats).toBe(5);
});
