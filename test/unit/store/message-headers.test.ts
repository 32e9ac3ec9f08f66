import fc from "fast-check";
import { headers as newHeaders, type MsgHdrs } from "nats";
import { describe, expect, test } from "vitest";
import { headersOfBytes } from "../../../src/store/message-headers.ts";

const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,8}$/);
const value = fc.stringMatching(/^[ -~]{0,12}$/);

/** As the client puts them on the wire. */
const encoded = (headers: MsgHdrs): Uint8Array =>
  (headers as MsgHdrs & { encode(): Uint8Array }).encode();

describe("headers read from their bytes", () => {
  test("are those that the client reads", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value), { minLength: 1 }), name, (pairs, other) => {
        const headers = newHeaders();
        for (const [key, text] of pairs) headers.append(key, text);
        const raw = headersOfBytes(encoded(headers));
        for (const [key] of pairs) expect(raw.get(key)).toBe(headers.get(key));
        expect(raw.get(other)).toBe(headers.get(other));
        expect(raw.code).toBe(0);
      }),
    );
  });

  test.each([
    ["NATS/1.0 404 No Messages\r\n\r\n", 404],
    ["NATS/1.0 100\r\nA: 1\r\n\r\n", 100],
    ["NATS/1.0\r\nA: 404\r\n\r\n", 0],
    ["NATS/1.0 \r\n\r\n", 0],
  ])("have the status %j", (text, code) => {
    expect(headersOfBytes(Buffer.from(text)).code).toBe(code);
  });

  test("are not taken for another header that contains the name, or a value that does", () => {
    const headers = headersOfBytes(
      Buffer.from("NATS/1.0\r\nX-TTL: 1\r\nA: TTL:2\r\nTTL-X: 3\r\nTTL:4\r\n\r\n"),
    );
    expect(headers.get("TTL")).toBe("4");
    expect(headers.get("Missing")).toBe("");
  });
});
