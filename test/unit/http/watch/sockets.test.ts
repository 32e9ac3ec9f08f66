import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Sockets, type OpenSocket, type SocketKind } from "../../../../src/http/watch/sockets.ts";
import { KvError } from "../../../../src/protocol/errors.ts";

class Socket implements OpenSocket {
  slot = 0;
  ends: string[] = [];
  constructor(readonly kind: SocketKind) {}
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
    sockets.reserve("bucket");
    sockets.reserve("multiplexed");
    sockets.reserve("events");
    expect(codeOf(() => sockets.reserve("bucket"))).toBe("503 too_many_sockets 5");
    expect(sockets.counts).toEqual({ bucket: 1, multiplexed: 1, events: 1 });
  });

  test("is there again when one was not opened, or is gone", () => {
    for (const kind of ["bucket", "bucket", "events"] as const) sockets.reserve(kind);
    sockets.release("events");
    sockets.reserve("multiplexed");
    const socket = new Socket("multiplexed");
    sockets.opened(socket);
    expect(codeOf(() => sockets.reserve("bucket"))).toMatch("503");
    sockets.closed(socket);
    expect(codeOf(() => sockets.reserve("bucket"))).toBeUndefined();
    sockets.goAway();
    expect(socket.ends).toEqual([]);
  });
});

test("room for watches is bounded by that for sockets", () => {
  for (let i = 0; i < 24; i++) sockets.reserveWatch();
  expect(codeOf(() => sockets.reserveWatch())).toMatch("429 too_many_watches");
  sockets.releaseWatches(2);
  expect(codeOf(() => sockets.reserveWatch())).toBeUndefined();
});

test("all that are open are told to go, and cut off in the end", () => {
  const open = [new Socket("bucket"), new Socket("events")];
  for (const socket of open) {
    sockets.reserve(socket.kind);
    sockets.opened(socket);
  }
  sockets.goAway();
  sockets.close();
  for (const socket of open) expect(socket.ends).toEqual(["away", "cut"]);
});
