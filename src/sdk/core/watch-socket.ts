/**
 * One socket for all watches of a client.
 *
 * It opens with the first watch, asks for a token then, and closes soon after the last one. When it is lost every watch hears
 * of it and waits as its own machine says; the first one that comes back opens the next socket, the others find it there.
 */
import { closeCodes } from "../../protocol/close-codes.ts";
import type { ErrorFrame, Include } from "../../protocol/messages.ts";
import { errorOf, JetbucketError } from "./errors.ts";
import { ABNORMAL_CLOSE, type Socket, type SocketFactory } from "./socket.ts";
import { realTimer, type SetTimer } from "./timer.ts";
import type { TokenSource } from "./transport.ts";
import type { ServerFrame, WatchEvent } from "./watch-machine.ts";

/** What is watched, as it travels; what is undefined is left out. */
export interface WatchRequest {
  bucket: string;
  keys?: readonly string[] | undefined;
  include?: Include | undefined;
  values?: boolean | undefined;
  /** Where an earlier connection ended. */
  since?: string | undefined;
}

/** What happens to a watch on its connection. */
export type ConnectionEvent = Extract<
  WatchEvent,
  { type: "opened" | "frame" | "lost" | "refused" | "ended" }
>;

/** Hears what happens; never before {@link WatchSocket.watch} has returned. */
export type ConnectionListener = (event: ConnectionEvent) => void;

export interface WatchSocketOptions {
  /** The address of the socket. */
  url: string;
  /** Asked each time a socket is opened, with the last token if that is not good any more. */
  token: TokenSource;
  /** Whether it may give another one. Default: no. */
  renews?: boolean;
  openSocket: SocketFactory;
  setTimer?: SetTimer;
  random?: () => number;
}

/** How long a socket may take to open. */
export const OPEN_TIMEOUT_MS = 10_000;
/** How long a socket without watches stays: a page that goes from one view to the next keeps it. */
const LINGER_MS = 100;
/** The server cuts off a socket over which a longer frame comes: with it, all other watches. */
const LONGEST_FRAME = 64 * 1024;

export class WatchSocket {
  readonly #options: Required<WatchSocketOptions>;
  #connections: WatchConnection[] = [];
  /** The last token, and whether it is not good any more. */
  readonly #token: LastToken = {};
  #jitter: number | undefined;

  constructor(options: WatchSocketOptions) {
    this.#options = { setTimer: realTimer, random: () => Math.random(), renews: false, ...options };
  }

  /**
   * Watches on the socket that there is, or on a new one. More than one is there only while a server takes no more watches
   * on the others.
   *
   * @returns ends the watch; the listener hears nothing more then
   */
  watch(request: WatchRequest, listener: ConnectionListener): () => void {
    this.#connections = this.#connections.filter(({ isOver }) => !isOver);
    let connection = this.#connections.find(({ isFull }) => !isFull);
    if (connection === undefined) {
      connection = new WatchConnection(this.#options, this.#token);
      this.#connections.push(connection);
    }
    return connection.add(request, listener);
  }

  /**
   * A number in [0, 1) by chance: the same one for all who ask in a turn, so that watches that lose their socket together come
   * back together.
   */
  jitter(): number {
    if (this.#jitter === undefined) {
      this.#jitter = this.#options.random();
      queueMicrotask(() => (this.#jitter = undefined));
    }
    return this.#jitter;
  }
}

export interface LastToken {
  text?: string | undefined;
  isBad?: boolean;
}

interface Member {
  request: WatchRequest;
  listener: ConnectionListener;
}

/** The life of one socket. */
class WatchConnection {
  isOver = false;
  /** The server takes no more watches here until one of them has ended. */
  isFull = false;
  readonly #options: Required<WatchSocketOptions>;
  readonly #token: LastToken;
  /** By id. Ids count from 1 on each socket, so that pages with the same watches get the same frames. */
  readonly #members = new Map<string, Member>();
  #lastId = 0;
  #socket: Socket | undefined;
  #isOpen = false;
  #cancelTimer: () => void;

  constructor(options: Required<WatchSocketOptions>, token: LastToken) {
    this.#options = options;
    this.#token = token;
    this.#cancelTimer = options.setTimer(
      () => this.#end({ type: "lost", code: ABNORMAL_CLOSE, reason: "not open in time" }),
      OPEN_TIMEOUT_MS,
    );
    void this.#open();
  }

  add(request: WatchRequest, listener: ConnectionListener): () => void {
    const id = String(++this.#lastId);
    this.#members.set(id, { request, listener });
    if (this.#isOpen) {
      this.#cancelTimer();
      queueMicrotask(() => this.#begin(id));
    }
    return () => {
      if (!this.#members.delete(id)) return;
      this.isFull = false;
      if (this.#isOpen) this.#send({ type: "unwatch", id });
      this.#onRemoved();
    };
  }

  async #open(): Promise<void> {
    const { url, token, openSocket } = this.#options;
    try {
      const last = this.#token;
      const bearer = await token(last.isBad === true ? last.text : undefined);
      last.text = bearer;
      last.isBad = false;
      if (this.isOver) return;
      this.#socket = openSocket(
        { url, token: bearer },
        {
          onOpen: () => this.#onOpen(),
          onMessage: (text) => this.#onMessage(text),
          onClose: (code, reason) => this.#onLost(code, reason),
          onRefused: (error) => {
            if (this.#options.renews && error.status === 401)
              this.#onLost(closeCodes.unauthenticated, error.message);
            else this.#end({ type: "refused", error });
          },
        },
      );
    } catch (thrown) {
      this.#end({ type: "refused", error: errorOf(thrown, "network", "cannot watch") });
    }
  }

  #onOpen(): void {
    if (this.isOver) return;
    this.#isOpen = true;
    this.#cancelTimer();
    for (const id of [...this.#members.keys()]) this.#begin(id);
  }

  #begin(id: string): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    if (this.#send({ type: "watch", id, ...member.request })) member.listener({ type: "opened" });
    else this.#endOne(id, new JetbucketError("invalid_filter", "the filters are too long"));
  }

  #onMessage(text: string): void {
    let frame: ServerFrame | null;
    try {
      frame = JSON.parse(text) as ServerFrame | null;
    } catch {
      return;
    }
    const id = frame?.id;
    if (frame?.type === "error") this.#onError(id, frame);
    else if (frame && id !== undefined) this.#members.get(id)?.listener({ type: "frame", frame });
  }

  #onError(id: string | undefined, frame: ErrorFrame): void {
    const { code, message, retryable } = frame;
    if (id === undefined) {
      // Of the socket: its close follows.
      for (const { listener } of [...this.#members.values()]) listener({ type: "frame", frame });
      return;
    }
    if (code === "too_many_watches") this.isFull = true;
    this.#endOne(id, new JetbucketError(code, message, { retryable }));
  }

  #endOne(id: string, error: JetbucketError): void {
    const member = this.#members.get(id);
    this.#members.delete(id);
    member?.listener({ type: "ended", error });
    this.#onRemoved();
  }

  #onRemoved(): void {
    if (this.#members.size > 0) return;
    this.#cancelTimer();
    if (this.#isOpen) this.#cancelTimer = this.#options.setTimer(() => this.#close(), LINGER_MS);
    // Whatever holds it up must not hold up the next watch.
    else this.#close();
  }

  /** Whether it was short enough to be sent. */
  #send(frame: object): boolean {
    const text = JSON.stringify(frame);
    if (new TextEncoder().encode(text).length > LONGEST_FRAME) return false;
    this.#socket?.send(text);
    return true;
  }

  #onLost(code: number, reason: string): void {
    const { renews } = this.#options;
    if (code === closeCodes.unauthenticated) this.#token.isBad = true;
    this.#end({ type: "lost", code, reason, ...(renews && { renews }) });
  }

  #end(event: ConnectionEvent): void {
    if (this.isOver) return;
    this.#close();
    const members = [...this.#members.values()];
    this.#members.clear();
    for (const { listener } of members) listener(event);
  }

  #close(): void {
    this.isOver = true;
    this.#isOpen = false;
    this.#cancelTimer();
    this.#socket?.close();
  }
}
