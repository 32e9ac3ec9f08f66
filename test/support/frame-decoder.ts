/** One WebSocket frame as a server sends it. */
export interface DecodedFrame {
  final: boolean;
  opcode: number;
  payload: Buffer;
}

/** Reads whole, unmasked WebSocket frames by RFC 6455: written for tests, apart from the code that makes them. */
export function decodeFrames(bytes: Buffer): DecodedFrame[] {
  const frames: DecodedFrame[] = [];
  for (let at = 0; at < bytes.length;) {
    const first = bytes.readUInt8(at);
    const second = bytes.readUInt8(at + 1);
    if ((first & 0x70) !== 0) throw new Error("a reserved bit is set");
    if ((second & 0x80) !== 0) throw new Error("a server's frame must not be masked");
    let length = second & 0x7f;
    let header = 2;
    if (length === 126) {
      length = bytes.readUInt16BE(at + 2);
      header = 4;
      if (length < 126) throw new Error("the length is not written in its shortest form");
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(at + 2));
      header = 10;
      if (length < 65_536) throw new Error("the length is not written in its shortest form");
    }
    if (at + header + length > bytes.length) throw new Error("the frame is cut off");
    frames.push({
      final: (first & 0x80) !== 0,
      opcode: first & 0x0f,
      payload: bytes.subarray(at + header, at + header + length),
    });
    at += header + length;
  }
  return frames;
}

/** The JSON messages of text frames. */
export function messagesIn(bytes: Buffer): unknown[] {
  return decodeFrames(bytes).map(({ final, opcode, payload }) => {
    if (!final || opcode !== 1) throw new Error("not a whole text frame");
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)) as unknown;
  });
}
