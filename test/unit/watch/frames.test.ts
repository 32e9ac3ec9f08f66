import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  bookmarkFrame,
  dialectOf,
  readyFrame,
  resetFrame,
  sse,
  staleFrame,
  withConflated,
  wsText,
} from "../../../src/watch/frames.ts";
import { decodeFrames, messagesIn } from "../../support/frame-decoder.ts";
import { events, extended, lateMoment, momentOf, plain, put } from "./entries.ts";

const update = {
  type: "kv_update",
  bucket: "b",
  key: "k",
  operation: "put",
  revision: 7,
  created_at: "2026-01-02T03:04:05.678Z",
};

describe("an update's frame", () => {
  const bytesOf = (...args: Parameters<typeof put>): Buffer =>
    momentOf(put(...args)).frames(extended)[0]!.bytes;

  test("is one text frame with the fields of the contract, and no other", () => {
    expect(messagesIn(bytesOf("k", '{"a":1}', { valueType: "json" }))).toEqual([
      { ...update, value: { a: 1 }, encoding: "json" },
    ]);
  });

  test("of a delete has a reason and neither value nor encoding", () => {
    expect(messagesIn(bytesOf("k", "", { operation: "delete", reason: "expired" }))).toEqual([
      { ...update, operation: "delete", reason: "expired" },
    ]);
  });

  test("of a delete that was noticed late says so", () => {
    const { bytes } = lateMoment(7, 3, "k").frames(extended)[0]!;
    expect(messagesIn(bytes)).toEqual([
      { ...update, operation: "delete", reason: "delete", inferred: true },
    ]);
  });

  test("has the size in place of the value for those who want no values", () => {
    const keysOnly = dialectOf("extended", false, undefined);
    const { bytes } = momentOf(put("k", "12345")).frames(keysOnly)[0]!;
    expect(messagesIn(bytes)).toEqual([{ ...update, size: 5 }]);
  });

  test("begins with the id of the watch on a multiplexed socket", () => {
    const { bytes } = momentOf(put("k")).frames(dialectOf("extended", true, 'a"b'))[0]!;
    expect(messagesIn(bytes)).toEqual([{ id: 'a"b', ...update, value: "v", encoding: "text" }]);
    expect(decodeFrames(bytes)[0]!.payload.toString()).toMatch(/^\{"id":"a\\"b","type":/);
  });

  test.each([124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 200_000])(
    "has a right header where its payload is %i bytes long",
    (length) => {
      const [decoded, ...others] = decodeFrames(wsText("x".repeat(length)));
      expect(decoded).toMatchObject({ final: true, opcode: 1 });
      expect(decoded?.payload.length).toBe(length);
      expect(others).toEqual([]);
    },
  );

  test("carries any key, value and content type unharmed", () => {
    const text = fc.string({ unit: "binary", maxLength: 60 });
    fc.assert(
      fc.property(text, text, text, (key, value, contentType) => {
        const frame = momentOf(put(key, value, { contentType, suffix: "k" })).frames(extended)[0]!;
        expect(messagesIn(frame.bytes)).toEqual([
          expect.objectContaining({ key, value, encoding: "text", content_type: contentType }),
        ]);
        expect(frame.keys).toEqual([key]);
      }),
    );
  });

  test("has bytes as base64", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
        const bytes = Buffer.concat([Buffer.of(0xff), noise]);
        expect(messagesIn(bytesOf("k", bytes))).toEqual([
          expect.objectContaining({ value: bytes.toString("base64"), encoding: "base64" }),
        ]);
      }),
    );
  });

  test("is made once for all who speak alike", () => {
    const moment = momentOf(put("k"));
    const [frame] = moment.frames(extended);
    expect(moment.frames(dialectOf("extended", true, undefined))[0]).toBe(frame);
    expect(moment.frames(extended, [0])[0]).toBe(frame);
    expect(moment.frames(dialectOf("extended", true, "1"))[0]).not.toBe(frame);
  });

  test("survives that the moment is kept without what its value came with", () => {
    const packet = Buffer.from("before value after");
    const moment = momentOf(put("k", packet.subarray(7, 12)));
    moment.keep();
    packet.fill(0);
    expect(messagesIn(moment.frames(extended)[0]!.bytes)).toMatchObject([{ value: "value" }]);
  });
});

describe("a transaction", () => {
  const moment = momentOf(
    put("a", "1", { revision: 5 }),
    put("b", "", { revision: 6, operation: "delete", reason: "purge" }),
    put("c", "3", { revision: 7 }),
  );
  const messages = (which?: number[], dialect = extended): unknown[] =>
    moment.frames(dialect, which).flatMap(({ bytes }) => messagesIn(bytes));

  test("comes whole, in one frame", () => {
    const { created_at } = update;
    expect(messages()).toEqual([
      {
        type: "kv_transaction",
        bucket: "b",
        revision: 7,
        events: [
          { key: "a", value: "1", encoding: "text", operation: "put", revision: 5, created_at },
          { key: "b", operation: "delete", reason: "purge", revision: 6, created_at },
          { key: "c", value: "3", encoding: "text", operation: "put", revision: 7, created_at },
        ],
      },
    ]);
    expect(moment.frames(extended)[0]).toMatchObject({ keys: ["a", "b", "c"], entries: 3 });
  });

  test("has only what a watch wants of it, and its own revision nevertheless", () => {
    expect(messages([0, 1])).toMatchObject([
      { type: "kv_transaction", revision: 7, events: [{ key: "a" }, { key: "b" }] },
    ]);
  });

  test("of which a watch wants one change comes as that change", () => {
    expect(messages([1])).toMatchObject([{ type: "kv_update", key: "b", revision: 6 }]);
  });

  test("comes as its changes to clients that know no transactions", () => {
    expect(messages(undefined, plain)).toMatchObject([
      { type: "kv_update", key: "a" },
      { type: "kv_update", key: "b" },
      { type: "kv_update", key: "c" },
    ]);
  });
});

describe("a server-sent event", () => {
  test("has its position as id, but not when it was noticed late", () => {
    const [frame] = momentOf(put("k")).frames(events);
    expect(frame!.bytes.toString()).toMatch(/^id: p7\ndata: \{"type":"kv_update",.*\}\n\n$/);
    expect(frame!.bytes.subarray(frame!.idLength).toString()).toMatch(/^data: /);
    expect(lateMoment(7, 3).frames(events)[0]!.bytes.toString()).toMatch(/^data: /);
  });

  test("is not cut up by line breaks in JSON that is stored with them", () => {
    const value = '{\r\n "a":\n 1\r}';
    const [frame] = momentOf(put("k", value, { valueType: "json" })).frames(events);
    const [, data, ...rest] = frame!.bytes.toString().split("\n");
    expect(JSON.parse(data!.slice("data: ".length))).toMatchObject({ value: { a: 1 } });
    expect(rest).toEqual(["", ""]);
  });

  test("of a reset makes clients forget their position, one without a position does not", () => {
    expect(resetFrame(events, "lagged").bytes.toString()).toMatch(/^id:\ndata: /);
    expect(staleFrame(events, "away").bytes.toString()).toMatch(/^data: /);
    expect(readyFrame(events, "p-1", 2).bytes.toString()).toMatch(/^id: p-1\ndata: /);
    expect(bookmarkFrame(events, "p-1").bytes.toString()).toMatch(/^id: p-1\ndata: /);
    expect(sse("{}").toString()).toBe("data: {}\n\n");
  });
});

test("frames follow each other without anything between them", () => {
  const { frames } = { frames: momentOf(put("ü", "x".repeat(70_000))).frames(extended) };
  const all = [
    ...frames,
    readyFrame(extended, "p", 1),
    resetFrame(extended, "too_old"),
    staleFrame(extended, "away"),
    bookmarkFrame(dialectOf("extended", true, "1"), "p"),
  ];
  expect(messagesIn(Buffer.concat(all.map(({ bytes }) => bytes)))).toMatchObject([
    { type: "kv_update", key: "ü" },
    { type: "kv_ready", position: "p", count: 1 },
    { type: "kv_reset", reason: "too_old" },
    { type: "kv_stale", reason: "away" },
    { id: "1", type: "kv_bookmark", position: "p" },
  ]);
});

test.each([10, 100, 125, 126, 65_500, 70_000])(
  "a frame with a value of %i bytes can say how many were replaced before it",
  (length) => {
    for (const dialect of [extended, dialectOf("extended", true, "1"), events]) {
      const [frame] = momentOf(put("ü", "ü".repeat(length))).frames(dialect);
      const bytes = withConflated(frame!, dialect, 3);
      const [message] =
        dialect === events
          ? [JSON.parse(bytes.toString().split("\n")[1]!.slice("data: ".length)) as unknown]
          : messagesIn(bytes);
      expect(message).toMatchObject({ key: "ü", conflated: 3 });
      if (dialect === events) expect(bytes.toString()).toMatch(/^id: p7\ndata: .*\}\n\n$/);
    }
  },
);
