import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { anonymous, type Principal } from "../../../../src/auth/principal.ts";
import {
  Sockets,
  type OpenSocket,
  type Seat,
  type SocketKind,
} from "../../../../src/http/watch/sockets.ts";
import { closeCodes } from "../../../../src/protocol/close-codes.ts";
import { KvError } from "../../../../src/protocol/errors.ts";
import type { End } from "../../../../src/watch/watch.ts";

class Socket implements OpenSocket {
  slot = 0;
  ends: string[] = [];
  constructor(readonly seat: Seat) {}
  dismiss({ code }: End): void {
    this.ends.push(`dismissed ${code}`);
    sockets.closed(this);
  }
  beat(): void {
    this.ends.push("beat");
  }
  goAway(): void {
    this.ends.push("away");
  }
  terminate(): void {
    this.ends.push("cut");
  }
}

let sockets: Sockets;
const reserve = (kind: SocketKind, principal = anonymous): Seat => sockets.reserve(kind, principal);
beforeEach(() => void (sockets = new Sockets(3, 60_000)));
afterEach(() => sockets.close());

function codeOf(action: () => void): string | undefined {
  try {
    action();
  } catch (error) {
    if (error instanceof KvError) return `${error.status} ${error.code} ${error.retryAfter ?? "-"}`;
    throw error;
  }
  return undefined;
}

describe("room for sockets", () => {
  test("is counted over all kinds, those that are being opened included", () => {
    reserve("bucket");
    reserve("multiplexed");
    reserve("events");
    expect(codeOf(() => reserve("bucket"))).toBe("503 too_many_sockets 5");
    expect(sockets.counts).toEqual({ bucket: 1, config: 0, multiplexed: 1, events: 1 });
  });

  test("is there again when one was not opened, or is gone", () => {
    reserve("bucket");
    reserve("bucket");
    sockets.release(reserve("events"));
    const socket = new Socket(reserve("multiplexed"));
    sockets.opened(socket);
    expect(codeOf(() => reserve("bucket"))).toMatch("503");
    sockets.closed(socket);
    expect(codeOf(() => reserve("bucket"))).toBeUndefined();
    sockets.goAway();
    expect(socket.ends).toEqual([]);
  });
});

describe("room for one", () => {
  const key: Principal = { ...anonymous, kind: "key", id: "k" };
  const seatOf = (id: string, address: string): Seat =>
    sockets.reserve("bucket", { ...key, id }, address);
  beforeEach(() => void (sockets = new Sockets(100, 60_000, 2)));

  test("is bounded by principal, and given back", () => {
    const seat = seatOf("k", "127.0.0.1");
    seatOf("k", "127.0.0.1");
    expect(codeOf(() => seatOf("k", "127.0.0.1"))).toBe("429 rate_limited 5");
    expect(codeOf(() => seatOf("other", "127.0.0.1"))).toBeUndefined();
    sockets.release(seat);
    expect(codeOf(() => seatOf("k", "127.0.0.1"))).toBeUndefined();
  });

  test("is bounded by address, but for those of this machine", () => {
    for (const id of ["a", "b"]) seatOf(id, "192.0.2.1");
    expect(codeOf(() => seatOf("c", "192.0.2.1"))).toBe("429 rate_limited 5");
    expect(codeOf(() => seatOf("c", "192.0.2.2"))).toBeUndefined();
    for (const id of ["d", "e", "f"]) seatOf(id, "::1");
  });

  test("is not bounded where everybody is anonymous", () => {
    for (let i = 0; i < 3; i++) sockets.reserve("bucket", anonymous, "192.0.2.1");
  });
});

test("room for watches is bounded by that for sockets", () => {
  for (let i = 0; i < 24; i++) sockets.reserveWatch();
  expect(codeOf(() => sockets.reserveWatch())).toMatch("429 too_many_watches");
  sockets.releaseWatches(2);
  expect(codeOf(() => sockets.reserveWatch())).toBeUndefined();
});

test("all that are open are told to go, and cut off in the end", () => {
  const open = [new Socket(reserve("bucket")), new Socket(reserve("events"))];
  for (const socket of open) sockets.opened(socket);
  sockets.goAway();
  sockets.close();
  for (const socket of open) expect(socket.ends).toEqual(["away", "cut"]);
});

function open(principal: Principal): Socket {
  const socket = new Socket(reserve("bucket", principal));
  sockets.opened(socket);
  return socket;
}

test("those of one principal are ended, and no others", () => {
  const [first, other, second] = ["a", "b", "a"].map((id) => open({ ...anonymous, id }));
  const end: End = { code: closeCodes.forbidden, reason: "revoked", retryable: false };
  expect(sockets.dismiss(({ id }) => id === "a", end)).toBe(2);
  expect([first, other, second].map((socket) => socket?.ends)).toEqual([
    ["dismissed 4403"],
    [],
    ["dismissed 4403"],
  ]);
});

test("each is ended when its owner's credentials expire, within a quarter of a second, in whatever order they came", () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const expiring = (seconds: number): Socket =>
    open({ ...anonymous, expiresAt: Date.now() + seconds * 1000 });
  const opened = [expiring(60), expiring(10)];
  const forever = new Socket(reserve("bucket"));
  sockets.opened(forever);
  const ended = (): number[] => opened.map(({ ends }) => ends.length);
  vi.advanceTimersByTime(9_900);
  expect(ended()).toEqual([0, 0]);
  vi.advanceTimersByTime(350);
  expect(ended()).toEqual([0, 1]);
  opened.push(expiring(0));
  vi.advanceTimersByTime(250);
  expect(ended()).toEqual([0, 1, 1]);
  vi.advanceTimersByTime(50_000);
  expect(ended()).toEqual([1, 1, 1]);
  expect(opened[0]!.ends).toEqual(["dismissed 4401"]);
  expect(forever.ends).toEqual([]);
});
