/** The ways to a watch: a WebSocket of its own with or without the subprotocol, a shared one, and server-sent events. */
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import { SUBPROTOCOL } from "../../../src/protocol/close-codes.ts";
import type { WatchFrame } from "../../../src/protocol/messages.ts";

export const transports = ["plain", "extended", "multiplexed", "sse"] as const;
export type Transport = (typeof transports)[number];

export interface WatchRequest {
  bucket: string;
  filters: readonly string[];
  include: "snapshot" | "updates" | "history";
  values: boolean;
  since?: string | undefined;
}

export interface LinkEvents {
  onOpen(): void;
  /** @param id of the server-sent event: a position, empty to forget the last one, undefined for none */
  onFrame(frame: WatchFrame, id?: string): void;
  /** It came to nothing: with the status of the answer, 0 when there was none. */
  onRefused(status: number, code: string): void;
  /** It is over. 1006 is a connection that broke; server-sent events know no other code. */
  onClosed(code: number, reason: string): void;
}

export interface Link {
  /** Ends it as a well-behaved client does. */
  close(): void;
  /** Breaks the connection. */
  cut(): void;
  /** Stops reading from the connection. */
  pause(): void;
  resume(): void;
  /** Whether reading was ever stopped. */
  readonly wasPaused: boolean;
}

function query({ filters, include, values, since }: WatchRequest): string {
  const query = new URLSearchParams();
  for (const filter of filters) query.append("key", filter);
  if (include !== "snapshot") query.set("include", include);
  if (!values) query.set("values", "false");
  if (since !== undefined) query.set("since", since);
  return query.size === 0 ? "" : `?${query.toString()}`;
}

/** @param api base of the key-value API of a gateway */
export function openSocket(
  api: string,
  watch: WatchRequest,
  isPlain: boolean,
  events: LinkEvents,
): Link {
  const url = `${api.replace(/^http/, "ws")}/buckets/${watch.bucket}/watch${query(watch)}`;
  return socketLink(new WebSocket(url, isPlain ? [] : [SUBPROTOCOL]), events);
}

function socketLink(socket: WebSocket, events: LinkEvents): Link {
  let isOpen = false;
  let isRefused = false;
  const refuse = (status: number, code: string): void => {
    if (isRefused) return;
    isRefused = true;
    events.onRefused(status, code);
  };
  socket.on("open", () => {
    isOpen = true;
    events.onOpen();
  });
  socket.on("message", (data: Buffer) => events.onFrame(JSON.parse(data.toString()) as WatchFrame));
  socket.on("unexpected-response", (outgoing: ClientRequest, response: IncomingMessage) => {
    void bodyOf(response).then((body) => refuse(response.statusCode ?? 0, codeOf(body)));
    response.on("end", () => outgoing.destroy());
  });
  socket.on("error", () => {
    if (!isOpen) refuse(0, "");
  });
  socket.on("close", (code, reason) => {
    if (isOpen) events.onClosed(code, reason.toString());
    else refuse(0, "");
  });
  let wasPaused = false;
  return {
    close: () => socket.close(1000),
    cut: () => socket.terminate(),
    pause: () => {
      wasPaused = true;
      socket.pause();
    },
    resume: () => socket.resume(),
    get wasPaused() {
      return wasPaused;
    },
  };
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch {
    // Cut off: what came is what there is.
  }
  return Buffer.concat(chunks).toString();
}

function codeOf(body: string): string {
  try {
    return (JSON.parse(body) as { code: string }).code;
  } catch {
    return body.slice(0, 80);
  }
}

/** @param inHeader whether the position travels in `Last-Event-ID`, as a browser sends it, or in the query */
export function openEvents(
  api: string,
  watch: WatchRequest,
  inHeader: boolean,
  events: LinkEvents,
): Link {
  const { since } = watch;
  const asHeader = inHeader && since !== undefined;
  const path = `/buckets/${watch.bucket}/watch${query(asHeader ? { ...watch, since: undefined } : watch)}`;
  let isOver = false;
  let isOpen = false;
  let response: IncomingMessage | undefined;
  const over = (): void => {
    if (isOver) return;
    isOver = true;
    if (isOpen) events.onClosed(1006, "");
    else events.onRefused(0, "");
  };
  const outgoing = request(`${api}${path}`, {
    agent: false,
    headers: { Accept: "text/event-stream", ...(asHeader ? { "Last-Event-ID": since } : {}) },
  });
  outgoing.on("error", over);
  outgoing.on("close", over);
  outgoing.on("response", (incoming) => {
    if (incoming.statusCode !== 200) {
      isOver = true;
      void bodyOf(incoming).then((body) =>
        events.onRefused(incoming.statusCode ?? 0, codeOf(body)),
      );
      return;
    }
    isOpen = true;
    response = incoming;
    events.onOpen();
    incoming.setEncoding("utf8");
    let rest = "";
    incoming.on("data", (text: string) => {
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop()!;
      for (const block of blocks) takeEvent(block, events);
    });
    incoming.on("error", () => undefined);
    incoming.on("close", over);
  });
  outgoing.end();
  let wasPaused = false;
  return {
    close: () => outgoing.destroy(),
    cut: () => outgoing.destroy(),
    pause: () => {
      wasPaused = true;
      response?.pause();
    },
    resume: () => response?.resume(),
    get wasPaused() {
      return wasPaused;
    },
  };
}

function takeEvent(block: string, events: LinkEvents): void {
  let id: string | undefined;
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!;
    if (field === "id") id = value ?? "";
    else if (field === "data") data.push(value ?? "");
  }
  if (data.length > 0) events.onFrame(JSON.parse(data.join("\n")) as WatchFrame, id);
}

/** One socket with many watches. */
export class SharedSocket {
  readonly #socket: WebSocket;
  readonly #link: Link;
  readonly #watches = new Map<string, LinkEvents>();
  readonly #waiting: (() => void)[] = [];
  #number = 0;
  #isOpen = false;
  #closed: { code: number; reason: string; status: number; error: string } | undefined;
  /** Frames for watches that are over. */
  readonly strays: string[] = [];

  /** @param api base of the key-value API of a gateway */
  constructor(api: string) {
    this.#socket = new WebSocket(`${api.replace(/^http/, "ws")}/watch`, [SUBPROTOCOL]);
    this.#link = socketLink(this.#socket, {
      onOpen: () => {
        this.#isOpen = true;
        for (const start of this.#waiting.splice(0)) start();
      },
      onFrame: (frame) => this.#dispatch(frame),
      onRefused: (status, error) => this.#end(1006, "", status, error),
      onClosed: (code, reason) => this.#end(code, reason, 0, ""),
    });
  }

  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** How many watches are on it. */
  get size(): number {
    return this.#watches.size;
  }

  watch(watch: WatchRequest, events: LinkEvents): Link {
    const id = `w${++this.#number}`;
    this.#watches.set(id, events);
    const start = (): void => {
      if (this.#watches.get(id) !== events) return;
      const { bucket, filters, include, values, since } = watch;
      events.onOpen();
      this.#send({
        type: "watch",
        id,
        bucket,
        ...(filters.length === 0 ? {} : { keys: filters }),
        ...(include === "snapshot" ? {} : { include }),
        ...(values ? {} : { values: false }),
        ...(since === undefined ? {} : { since }),
      });
    };
    if (this.#isOpen) start();
    else this.#waiting.push(start);
    const link = this.#link;
    return {
      close: () => this.#send({ type: "unwatch", id }),
      cut: () => link.cut(),
      pause: () => link.pause(),
      resume: () => link.resume(),
      get wasPaused() {
        return link.wasPaused;
      },
    };
  }

  cut(): void {
    this.#link.cut();
  }

  #send(frame: object): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #dispatch(frame: WatchFrame & { id?: string }): void {
    const watch = this.#watches.get(frame.id ?? "");
    if (watch === undefined) {
      this.strays.push(JSON.stringify(frame).slice(0, 200));
      return;
    }
    const type: string = frame.type;
    if (type === "unwatched") {
      this.#watches.delete(frame.id!);
      watch.onClosed(1000, "unwatched");
      return;
    }
    watch.onFrame(frame);
    if (frame.type !== "error") return;
    this.#watches.delete(frame.id!);
    watch.onClosed(closeCodeOf(frame.code), frame.message);
  }

  #end(code: number, reason: string, status: number, error: string): void {
    this.#closed = { code, reason, status, error };
    for (const watch of this.#watches.values()) {
      if (this.#isOpen) watch.onClosed(code, reason);
      else watch.onRefused(status, error);
    }
    this.#watches.clear();
  }
}

/** What a socket of its own would have been closed with. */
function closeCodeOf(error: string): number {
  if (error === "bucket_not_found") return 4404;
  if (error === "shutting_down") return 1001;
  return error === "store_unavailable" ? 1013 : 4400;
}
