import { describe, expect, test } from "vitest";
import { EventBuilder, type Change } from "../../../src/store/feed-event.ts";

function builder(): { events: EventBuilder; told: [string[], number][] } {
  const told: [string[], number][] = [];
  const events = new EventBuilder(({ changes, revision }) =>
    told.push([changes.map(({ key }) => key), revision]),
  );
  return { events, told };
}

const change = (key: string): Change => ({
  suffix: key,
  key,
  revision: 1,
  createdAt: "2026-01-01T00:00:00.000Z",
  operation: "put",
  value: new Uint8Array(0),
  valueType: undefined,
  contentType: undefined,
  expiresAt: undefined,
  firstCreatedAt: undefined,
  description: undefined,
  label: undefined,
  size: 0,
});

describe("events of a feed", () => {
  test("hold a transaction back until its last message", () => {
    const { events, told } = builder();
    events.add(1, change("a"), undefined);
    events.add(2, change("b"), { id: "t", isLast: false });
    events.add(3, change("c"), { id: "t", isLast: false });
    expect(events.waitsBehind).toBe(3);
    expect(told).toEqual([[["a"], 1]]);
    events.add(4, undefined, { id: "t", isLast: true });
    expect(events.waitsBehind).toBeUndefined();
    expect(told).toEqual([
      [["a"], 1],
      [["b", "c"], 4],
    ]);
  });

  test("tell what is there of a transaction when something else follows", () => {
    const { events, told } = builder();
    events.add(1, change("a"), { id: "t", isLast: false });
    events.add(5, change("b"), { id: "u", isLast: false });
    events.add(7, change("c"), undefined);
    expect(told).toEqual([
      [["a"], 1],
      [["b"], 5],
      [["c"], 7],
    ]);
  });

  test("forget a part of a transaction that will be read again", () => {
    const { events, told } = builder();
    events.add(1, change("a"), { id: "t", isLast: false });
    events.reset();
    events.flush();
    events.add(1, change("a"), { id: "t", isLast: false });
    events.add(2, change("b"), { id: "t", isLast: true });
    expect(told).toEqual([[["a", "b"], 2]]);
  });

  test("are told also of messages that nobody sees, because revisions advance with them", () => {
    const { events, told } = builder();
    events.add(1, undefined, undefined);
    expect(told).toEqual([[[], 1]]);
  });
});
