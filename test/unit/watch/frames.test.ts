import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Entry } from "../../../src/protocol/entry.ts";
import { errorFrame, readyFrame, staleFrame, updateFrame } from "../../../src/watch/frames.ts";
import { decodeFrames, messagesIn } from "../../support/frame-decoder.ts";

const put = (key: string, value: string | Uint8Array, more: Partial<Entry> = {}): Entry => ({
  key,
  revision: 7,
  createdAt: "2026-01-02T03:04:05.678Z",
  operation: "put",
  value: typeof value === "string" ? Buffer.from(value) : value,
  valueType: "text",
  contentType: undefined,
  expiresAt: undefined,
  firstCreatedAt: undefined,
  description: undefined,
  label: undefined,
  size: value.length,
  ...more,
});

describe("an update's frame", () => {
  test("is one text frame with the fields of the contract, and no other", () => {
    expect(messagesIn(updateFrame("b", put("k", '{"a":1}', { valueType: "json" })).bytes)).toEqual([
      {
        type: "kv_update",
        bucket: "b",
        key: "k",
        value: { a: 1 },
        encoding: "json",
        operation: "put",
        revision: 7,
        created_at: "2026-01-02T03:04:05.678Z",
      },
    ]);
  });

  test("of a delete has a reason and neither value nor encoding", () => {
    const entry = put("k", "", { operation: "delete", reason: "expired" });
    expect(messagesIn(updateFrame("b", entry).bytes)).toEqual([
      {
        type: "kv_update",
        bucket: "b",
        key: "k",
        operation: "delete",
        revision: 7,
        created_at: "2026-01-02T03:04:05.678Z",
        reason: "expired",
      },
    ]);
  });

  test.each([124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 200_000])(
    "has a right header where its payload is %i bytes long",
    (length) => {
      const empty = decodeFrames(updateFrame("b", put("k", "")).bytes)[0]!.payload.length;
      const padding = length - empty;
      // A short payload cannot hold a value: it is padded by a shorter frame of another kind.
      const { bytes } =
        padding >= 0
          ? updateFrame("b", put("k", "x".repeat(padding)))
          : staleFrame("x".repeat(length - '{"type":"kv_stale","reason":""}'.length));
      const [decoded, ...others] = decodeFrames(bytes);
      expect(decoded).toMatchObject({ final: true, opcode: 1 });
      expect(decoded?.payload.length).toBe(length);
      expect(others).toEqual([]);
    },
  );

  test("carries any key, value and content type unharmed", () => {
    const text = fc.string({ unit: "binary", maxLength: 60 });
    fc.assert(
      fc.property(text, text, text, (key, value, contentType) => {
        const frame = updateFrame("b", put(key, value, { contentType }));
        expect(messagesIn(frame.bytes)).toEqual([
          expect.objectContaining({ key, value, encoding: "text", content_type: contentType }),
        ]);
        expect(frame.key).toBe(key);
      }),
    );
  });

  test("has bytes as base64", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (noise) => {
        const bytes = Buffer.concat([Buffer.of(0xff), noise]);
        expect(messagesIn(updateFrame("b", put("k", bytes)).bytes)).toEqual([
          expect.objectContaining({ value: bytes.toString("base64"), encoding: "base64" }),
        ]);
      }),
    );
  });
});

test("frames follow each other without anything between them", () => {
  const frames = [updateFrame("b", put("ü", "x".repeat(70_000))), readyFrame("p", 1)];
  frames.push(staleFrame("away"), errorFrame("bucket_not_found", 'bucket "b" was deleted'));
  expect(messagesIn(Buffer.concat(frames.map(({ bytes }) => bytes)))).toMatchObject([
    { type: "kv_update", key: "ü" },
    { type: "kv_ready", position: "p", count: 1 },
    { type: "kv_stale", reason: "away" },
    { type: "error", code: "bucket_not_found", message: 'bucket "b" was deleted' },
  ]);
});

test("only updates can be replaced by newer ones of the same key", () => {
  expect(readyFrame("p", 1).key).toBeUndefined();
  expect(staleFrame("away").key).toBeUndefined();
  expect(errorFrame("internal", "no").key).toBeUndefined();
});
