import type { IncomingMessage } from "node:http";
import { WebSocket, type ClientOptions } from "ws";
import { SUBPROTOCOL } from "../protocol/close-codes.ts";
import { errorOf, errorOfAnswer } from "./core/errors.ts";
import type { SocketFactory } from "./core/socket.ts";

/** The server pings every 25 s: after this long without a sign of it the connection is dead, whatever TCP says. */
const SILENCE_MS = 60_000;
/** How long a server may take to say goodbye back; until then the socket keeps the process alive. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Of a refusal's body no more than this is read. */
const REFUSAL_BYTES = 16 * 1024;

/** Opens WebSockets by `ws`, which shows how a server refuses one, and lets a client send headers. */
export function nodeSockets({ silenceMs = SILENCE_MS } = {}): SocketFactory {
  return ({ url, token }, handlers) => {
    // The published types do not know `closeTimeout` yet.
    const options: ClientOptions & { closeTimeout: number } = {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      perMessageDeflate: false,
      closeTimeout: CLOSE_TIMEOUT_MS,
    };
    const socket = new WebSocket(url, SUBPROTOCOL, options);
    let opened = false;
    let refused = false;
    const silence = setTimeout(() => socket.terminate(), silenceMs).unref();
    const onSign = () => silence.refresh();
    socket.on("ping", onSign);
    socket.on("open", () => {
      opened = true;
      onSign();
      handlers.onOpen();
    });
    socket.on("message", (data, isBinary) => {
      onSign();
      if (!isBinary) handlers.onMessage((data as Buffer).toString());
    });
    socket.on("unexpected-response", (request, response) => {
      refused = true;
      void readSome(response).then((body) => {
        request.destroy();
        clearTimeout(silence);
        const retryAfter = response.headers["retry-after"];
        handlers.onRefused(errorOfAnswer({ status: response.statusCode ?? 0, body, retryAfter }));
      });
    });
    socket.on("error", (thrown) => {
      // After opening, an error is followed by a close that says as much.
      if (refused || opened) return;
      refused = true;
      handlers.onRefused(errorOf(thrown, "network", `cannot reach ${new URL(url).host}`));
    });
    socket.on("close", (code, reason) => {
      clearTimeout(silence);
      if (!refused) handlers.onClose(code, reason.toString());
    });
    return {
      send: (text) => socket.send(text),
      close() {
        if (socket.readyState === WebSocket.OPEN) socket.close(1000);
        else socket.terminate();
      },
    };
  };
}

async function readSome(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size >= REFUSAL_BYTES) break;
    }
  } catch {
    // What has arrived has to do; the status is known.
  }
  return Buffer.concat(chunks).toString();
}
