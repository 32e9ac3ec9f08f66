/**
 * The client's end of a WebSocket, as cheap as it can be: all sockets read into the same buffer, and of a frame nothing is
 * read but its header. It leaves the processor to what is measured.
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";

const RECEIVE_BUFFER = Buffer.allocUnsafeSlow(256 * 1024);
const HEADERS_END = Buffer.from("\r\n\r\n");
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class RawWebSocket {
  /** Bytes of a frame, or of the handshake, that came without their end. */
  #carry = undefined;
  #carried = 0;
  #isOpen = false;
  #socket;
  #handler;
  #closeCode;
  #isOver = false;

  /**
   * @param {{ port: number, path: string, protocol?: string, localAddress?: string }} options
   * @param {object} handler
   * @param {() => void} handler.onOpen
   * @param {(bytes: Buffer, start: number, end: number) => void} handler.onMessage a whole message; the bytes are only
   *   valid during the call
   * @param {(reason: string) => void} handler.onEnd called once when it ends by itself
   */
  constructor({ port, path, protocol, localAddress }, handler) {
    this.#handler = handler;
    this.#socket = connect({
      port,
      host: "127.0.0.1",
      localAddress,
      noDelay: true,
      onread: { buffer: RECEIVE_BUFFER, callback: (length) => this.#onBytes(length) },
    });
    this.#socket.on("connect", () =>
      this.#socket.write(
        `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${protocol === undefined ? "" : `Sec-WebSocket-Protocol: ${protocol}\r\n`}\r\n`,
      ),
    );
    let failure;
    this.#socket.on("error", (error) => (failure = error.code ?? error.message));
    this.#socket.on("close", () => {
      if (this.#isOver) return;
      const code = this.#closeCode;
      handler.onEnd(
        code === undefined ? (failure ?? "the connection ended") : `close code ${code}`,
      );
    });
  }

  /** Sends text in a frame. */
  send(text) {
    this.#write(TEXT, Buffer.from(text));
  }

  /** Reads nothing any more. */
  stall() {
    this.#socket.pause();
  }

  /** What the system knows of the connection: the state, and bytes that wait to be read. Linux only. */
  get tcp() {
    const { localPort, remotePort } = this.#socket;
    const hex = (port) => port.toString(16).toUpperCase().padStart(4, "0");
    const ends = new RegExp(`:${hex(localPort)} [0-9A-F]+:${hex(remotePort)} `);
    const line = readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .find((each) => ends.test(each));
    if (line === undefined) return { isEstablished: false, unread: 0 };
    const [, , , state, queues] = line.trim().split(/\s+/);
    return { isEstablished: state === "01", unread: parseInt(queues.split(":")[1], 16) };
  }

  /** Cuts the connection, without a word. */
  destroy() {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #write(opcode, payload) {
    const long = payload.length > 125;
    const frame = Buffer.alloc((long ? 8 : 6) + payload.length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (long ? 126 : payload.length);
    if (long) frame.writeUInt16BE(payload.length, 2);
    // The mask is zero, so the payload stays as it is.
    payload.copy(frame, long ? 8 : 6);
    this.#socket.write(frame);
  }

  #onBytes(length) {
    let at = 0;
    if (!this.#isOpen) {
      at = this.#handshake(length);
      if (at < 0) return true;
    }
    if (this.#carried > 0) at = this.#finishCarried(at, length);
    at = this.#frames(RECEIVE_BUFFER, at, length);
    if (at < length) this.#keep(RECEIVE_BUFFER, at, length);
    return true;
  }

  /** Whole frames; returns where the first one begins that is not. */
  #frames(bytes, start, end) {
    let at = start;
    while (end - at >= 2) {
      let length = bytes[at + 1];
      let payload = at + 2;
      if (length === 126) {
        if (end - at < 4) break;
        length = (bytes[at + 2] << 8) | bytes[at + 3];
        payload = at + 4;
      } else if (length === 127) {
        if (end - at < 10) break;
        length = bytes.readUInt32BE(at + 6);
        payload = at + 10;
      }
      const next = payload + length;
      if (next > end) break;
      const opcode = bytes[at] & 0x0f;
      // A message in several frames comes as several messages: who needs them joined has a stream of bytes anyway.
      if (opcode <= BINARY) this.#handler.onMessage(bytes, payload, next);
      else this.#onControl(opcode, bytes.subarray(payload, next));
      at = next;
    }
    return at;
  }

  #onControl(opcode, payload) {
    if (opcode === PING) this.#write(PONG, payload);
    if (opcode === CLOSE) {
      this.#closeCode = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      this.#socket.end();
    }
  }

  /** Completes the frame that was cut off. Returns where the next one begins. */
  #finishCarried(start, length) {
    let at = start;
    for (;;) {
      const missing = this.#missing();
      const take = Math.min(missing, length - at);
      this.#keep(RECEIVE_BUFFER, at, at + take);
      at += take;
      if (take < missing) return at;
      if (this.#missing() > 0) continue;
      const frame = this.#carry;
      const end = this.#carried;
      this.#carried = 0;
      this.#frames(frame, 0, end);
      return at;
    }
  }

  /** Bytes that the carried frame lacks, as far as that is known by now. */
  #missing() {
    const bytes = this.#carry;
    const carried = this.#carried;
    if (carried < 2) return 2 - carried;
    const length = bytes[1];
    const header = length === 126 ? 4 : length === 127 ? 10 : 2;
    if (carried < header) return header - carried;
    const payload =
      header === 2 ? length : header === 4 ? bytes.readUInt16BE(2) : bytes.readUInt32BE(6);
    return header + payload - carried;
  }

  #keep(bytes, start, end) {
    const needed = this.#carried + end - start;
    if (this.#carry === undefined || this.#carry.length < needed) {
      const larger = Buffer.allocUnsafeSlow(Math.max(1024, needed * 2));
      this.#carry?.copy(larger, 0, 0, this.#carried);
      this.#carry = larger;
    }
    bytes.copy(this.#carry, this.#carried, start, end);
    this.#carried = needed;
  }

  /** Reads the answer to the upgrade; -1 when it is not complete. */
  #handshake(length) {
    const carried = this.#carried;
    this.#keep(RECEIVE_BUFFER, 0, length);
    const answer = this.#carry.subarray(0, this.#carried);
    const end = answer.indexOf(HEADERS_END);
    if (end < 0) return -1;
    if (!answer.subarray(0, 13).equals(Buffer.from("HTTP/1.1 101 "))) {
      this.#socket.destroy(new Error(answer.toString().replaceAll("\r\n", " ")));
      return -1;
    }
    this.#carried = 0;
    this.#carry = undefined;
    this.#isOpen = true;
    this.#handler.onOpen();
    return end + HEADERS_END.length - carried;
  }
}
