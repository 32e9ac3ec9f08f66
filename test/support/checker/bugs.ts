/** Bugs to put into the way from a write to a client, to prove that the checker finds them. */
import type { WatchFrame } from "../../../src/protocol/messages.ts";
import { Bucket } from "../../../src/store/bucket.ts";
import { Buckets } from "../../../src/store/buckets.ts";
import type { FeedEvent, FeedListener } from "../../../src/store/feed.ts";
import type { ClientPlan, Connection } from "./client.ts";
import type { Tap } from "./line.ts";
import { parsed, positionOf } from "./position.ts";

/** Makes what changes the frames of a new connection. Each frame becomes any number of frames. */
export type FrameFilter = (
  client: ClientPlan,
  connection: Connection,
) => (frame: WatchFrame) => WatchFrame[];

/** A bug, where it sits. */
export interface Bug {
  /** In the client: between its connection and its record. */
  frames?: FrameFilter;
  /** On the line: it looks into the connections between clients and gateways. */
  tap?: () => Tap;
  /** In the gateways of this process. */
  inside?: Inside;
}

/** What parts of a gateway do differently. */
export interface Inside {
  /** Changes what a feed tells. Each event becomes any number of events. */
  events?: (event: FeedEvent) => FeedEvent[];
  /** Keys that a snapshot overlooks. */
  overlooks?: (revision: number) => boolean;
}

export interface KnownBug {
  make: () => Bug;
  /** Which checks may find it. */
  kinds: readonly string[];
}

/** Something happens to one of so many things of a kind. */
function everyNth<T>(
  n: number,
  concerns: (thing: T) => boolean,
  spoil: (thing: T) => T[],
): (thing: T) => T[] {
  let count = 0;
  return (thing) => (concerns(thing) && ++count % n === 0 ? spoil(thing) : [thing]);
}

const isUpdate = (frame: WatchFrame): boolean => frame.type === "kv_update";

const inFrames =
  (filter: () => (frame: WatchFrame) => WatchFrame[]): (() => Bug) =>
  () => {
    const spoil = filter();
    return { frames: () => spoil };
  };

/** Two of them come in the wrong order, now and then. */
function swapsEveryNth<T>(n: number, concerns: (thing: T) => boolean): (thing: T) => T[] {
  let count = 0;
  let held: T | undefined;
  return (thing) => {
    if (held !== undefined) {
      const pair = [thing, held];
      held = undefined;
      return pair;
    }
    if (!concerns(thing) || ++count % n !== 0) return [thing];
    held = thing;
    return [];
  };
}

export const knownBugs: Record<string, KnownBug> = {
  // ---- in the frames that a client records

  "an update that is lost": {
    make: inFrames(() => everyNth(40, isUpdate, () => [])),
    kinds: ["gap", "state", "final state"],
  },
  "an update that comes twice": {
    make: inFrames(() => everyNth(40, isUpdate, (frame) => [frame, frame])),
    kinds: ["duplicate"],
  },
  "two updates that change places": {
    make: () => ({ frames: () => swapsEveryNth(15, isUpdate) }),
    kinds: ["order"],
  },
  "a transaction that comes in parts": {
    make: inFrames(() => (frame) => {
      if (frame.type !== "kv_transaction") return [frame];
      return frame.events.map((event) => ({ type: "kv_update", bucket: frame.bucket, ...event }));
    }),
    kinds: ["transaction"],
  },
  "an expiry that is called a delete": {
    make: inFrames(() => (frame) => {
      const isExpiry = frame.type === "kv_update" && frame.reason === "expired";
      return isExpiry ? [{ ...frame, reason: "delete" }] : [frame];
    }),
    kinds: ["ghost"],
  },
  "a value of another write": {
    make: inFrames(() => {
      let before: unknown;
      return everyNth(
        30,
        (frame) => isUpdate(frame) && "value" in frame,
        (frame) => {
          const value = before;
          before = (frame as { value: unknown }).value;
          return [{ ...frame, value } as WatchFrame];
        },
      );
    }),
    kinds: ["value"],
  },

  // ---- on the line

  "a frame that the network loses": {
    make: () => ({ tap: () => onFrames(everyNth(40, isText, () => [])) }),
    kinds: ["gap", "state", "final state"],
  },
  "two frames that change places on the line": {
    make: () => ({ tap: () => onFrames(swapsEveryNth(10, isText)) }),
    kinds: ["order", "position", "state"],
  },
  "a resume that skips what happened meanwhile": {
    make: () => ({ tap: () => ({ up: skipAhead }) }),
    kinds: ["gap", "state", "final state"],
  },

  // ---- in the gateway

  "a feed that loses a change": {
    make: () => ({
      inside: {
        events: everyNth<FeedEvent>(
          60,
          () => true,
          () => [],
        ),
      },
    }),
    kinds: ["gap", "state", "final state"],
  },
  "a feed that takes transactions apart": {
    make: () => ({
      inside: {
        events: ({ changes, revision }) =>
          changes.length < 2
            ? [{ changes, revision }]
            : changes.map((change) => ({ changes: [change], revision: change.revision })),
      },
    }),
    kinds: ["transaction"],
  },
  "a feed that does not tell of expiries": {
    make: () => ({
      inside: {
        events: ({ changes, revision }) => [
          { changes: changes.filter(({ reason }) => reason !== "expired"), revision },
        ],
      },
    }),
    kinds: ["gap", "state", "final state"],
  },
  "a snapshot that overlooks a key": {
    make: () => ({ inside: { overlooks: (revision) => revision % 7 === 0 } }),
    kinds: ["state", "final state"],
  },
};

// ---- on the line

type WireFrame = Buffer;

const isText = (frame: WireFrame): boolean => frame[0] === 0x81;

/** Changes whole WebSocket frames that a gateway sends; everything else passes. */
function onFrames(change: (frame: WireFrame) => WireFrame[]): Tap {
  let rest: Buffer = Buffer.alloc(0);
  let isSocket: boolean | undefined;
  return {
    down: (bytes) => {
      if (isSocket === false) return bytes;
      rest = Buffer.concat([rest, bytes]);
      const out: Buffer[] = [];
      if (isSocket === undefined) {
        const end = rest.indexOf("\r\n\r\n");
        if (end === -1) return Buffer.alloc(0);
        isSocket = rest.subarray(0, 12).toString() === "HTTP/1.1 101";
        const head = isSocket ? end + 4 : rest.length;
        out.push(rest.subarray(0, head));
        rest = rest.subarray(head);
      }
      for (let length = lengthOfFrame(rest); length <= rest.length; length = lengthOfFrame(rest)) {
        out.push(...change(rest.subarray(0, length)));
        rest = rest.subarray(length);
      }
      return Buffer.concat(out);
    },
  };
}

/** Length of the first frame, header included; infinite when even that cannot be told yet. */
function lengthOfFrame(bytes: Buffer): number {
  if (bytes.length < 2) return Infinity;
  const short = bytes[1]! & 0x7f;
  if (short < 126) return 2 + short;
  if (short === 126) return bytes.length < 4 ? Infinity : 4 + bytes.readUInt16BE(2);
  return bytes.length < 10 ? Infinity : 10 + Number(bytes.readBigUInt64BE(2));
}

/** Moves the position in a request a little further. */
function skipAhead(bytes: Buffer): Buffer {
  const text = bytes.toString("latin1");
  const changed = text.replace(
    /^(GET [^\r]*[?&]since=)([0-9a-z-]+)/,
    (_, before: string, since: string) => {
      const position = parsed(since);
      if (position === undefined || position.revision > 100_000) return before + since;
      return before + positionOf({ ...position, revision: position.revision + 3 });
    },
  );
  return Buffer.from(changed, "latin1");
}

// ---- in the gateway

/** By the beginning of a bucket's name: runs at the same time have buckets of different names. */
const insides = new Map<string, Inside>();
let isInstalled = false;

/** Lets the gateways of this process have a bug with buckets whose names begin in some way. @returns what ends that */
export function install(prefix: string, inside: Inside): () => void {
  insides.set(prefix, inside);
  if (!isInstalled) {
    isInstalled = true;
    patch();
  }
  return () => insides.delete(prefix);
}

function insideOf(bucket: string): Inside | undefined {
  for (const [prefix, inside] of insides) if (bucket.startsWith(prefix)) return inside;
  return undefined;
}

function patch(): void {
  /* eslint-disable @typescript-eslint/unbound-method -- called with the right `this` below */
  const { follow } = Buckets.prototype;
  const { read } = Bucket.prototype;
  /* eslint-enable @typescript-eslint/unbound-method */
  Buckets.prototype.follow = function (name, listener) {
    const events = insideOf(name)?.events;
    if (events === undefined) return follow.call(this, name, listener);
    const wrapped: FeedListener = {
      onEvent: (event) => {
        for (const each of events(event)) listener.onEvent(each);
      },
      onStale: (reason) => listener.onStale(reason),
      onCurrent: () => listener.onCurrent(),
      onEnd: (why) => listener.onEnd(why),
    };
    return follow.call(this, name, wrapped);
  };
  Bucket.prototype.read = async function* (...args) {
    const overlooks = insideOf(this.name)?.overlooks;
    for await (const batch of read.apply(this, args))
      yield overlooks === undefined
        ? batch
        : batch.filter(({ entry }) => !overlooks(entry.revision));
  };
}
