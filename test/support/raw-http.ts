import { Agent, request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { onTestFinished } from "vitest";

export interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  bytes: Buffer;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests read answers of every form
  body: any;
  /** Client's port: the same for two requests means that they went over the same connection. */
  connection: number;
}

/**
 * One keep-alive connection. Paths are sent as they are given, without the changes that fetch makes to them, and a body
 * in parts is sent chunked.
 */
export class Connection {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #base: URL;

  constructor(base: string) {
    this.#base = new URL(base);
    onTestFinished(() => this.#agent.destroy());
  }

  send(
    method: string,
    path: string,
    body: Uint8Array | string | readonly Uint8Array[] = "",
    headers: OutgoingHttpHeaders = {},
  ): Promise<RawAnswer> {
    return new Promise((resolve, reject) => {
      const isChunked = Array.isArray(body);
      const outgoing = request({
        agent: this.#agent,
        host: this.#base.hostname,
        port: this.#base.port,
        method,
        path,
        headers: {
          ...headers,
          ...(isChunked ? {} : { "Content-Length": Buffer.byteLength(body as string) }),
        },
      });
      outgoing.on("error", reject);
      outgoing.on("response", (response) => {
        const connection = response.socket.localPort ?? 0;
        const chunks: Buffer[] = [];
        response.on("error", reject);
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const bytes = Buffer.concat(chunks);
          const isJson = response.headers["content-type"]?.startsWith("application/json") ?? false;
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            bytes,
            body: isJson && bytes.length > 0 ? JSON.parse(bytes.toString()) : bytes.toString(),
            connection,
          });
        });
      });
      if (isChunked) Readable.from(body as Uint8Array[]).pipe(outgoing);
      // As bytes: with a string node:http would write the path as UTF-8, too.
      else outgoing.end(Buffer.from(body as string));
    });
  }
}

/** Sends bytes as they are over a connection of their own, and resolves with all that comes until it is closed. */
export function sendRaw(base: string, bytes: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    let received = "";
    socket.setTimeout(5_000, () => socket.destroy(new Error(`no end after: ${received}`)));
    socket.on("data", (chunk) => (received += chunk.toString("latin1")));
    socket.on("error", reject);
    socket.on("close", () => resolve(received));
    socket.write(bytes);
  });
}
