import type { JetbucketError } from "./errors.ts";

/** What is needed of a WebSocket; the entries bring one for their platform. */
export interface Socket {
  /** Sends text over an open socket; what is sent over one that is closing is lost. */
  send(text: string): void;
  /** Says goodbye. Handlers may still be called; nobody listens any more. */
  close(): void;
}

export interface SocketRequest {
  /** Begins with `ws:` or `wss:`. */
  url: string;
  token: string | undefined;
}

export interface SocketHandlers {
  onOpen(): void;
  onMessage(text: string): void;
  /** The connection is gone, or never came to be; called once, and last. */
  onClose(code: number, reason: string): void;
  /** Instead of `onClose`, where the platform shows how the server refused the connection. */
  onRefused(error: JetbucketError): void;
}

export type SocketFactory = (request: SocketRequest, handlers: SocketHandlers) => Socket;

/** Close code of a connection that ended without a goodbye. */
export const ABNORMAL_CLOSE = 1006;
