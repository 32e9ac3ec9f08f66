import { request, type ClientRequest, type IncomingMessage } from "node:http";
import { onTestFinished } from "vitest";
import type { WatchFrame } from "../../src/protocol/messages.ts";

/** An event as an `EventSource` would hand it out. */
export interface StreamEvent {
  type: string;
  /** The id that a reconnect would send, as it was after this event. */
  lastId: string;
  frame: WatchFrame;
}

/**
 * A reader of server-sent events by the WHATWG specification: written for tests, apart from the code that makes them.
 */
export class EventsClient {
  readonly response: IncomingMessage;
  readonly events: StreamEvent[] = [];
  readonly comments: string[] = [];
  lastId = "";
  retry: number | undefined;
  isEnded = false;
  readonly #request: ClientRequest;
  #rest = "";
  #data: string[] = [];
  #type = "";

  constructor(request: ClientRequest, response: IncomingMessage) {
    this.#request = request;
    this.response = response;
    response.setEncoding("utf8");
    response.on("data", (text: string) => this.#take(text));
    response.on("error", () => undefined);
    response.on("close", () => (this.isEnded = true));
  }

  get frames(): WatchFrame[] {
    return this.events.map(({ frame }) => frame);
  }

  get types(): WatchFrame["type"][] {
    return this.frames.map(({ type }) => type);
  }

  /** Key and value of each update, deletes as `[key, undefined]`. */
  get pairs(): [string, unknown][] {
    return this.frames
      .filter((frame) => frame.type === "kv_update")
      .map(({ key, value }) => [key, value]);
  }

  /** Goes away without a word. */
  cut(): void {
    this.#request.destroy();
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (line === "") {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "") this.comments.push(value);
    else if (field === "data") this.#data.push(value);
    else if (field === "event") this.#type = value;
    else if (field === "id") this.lastId = value;
    else if (field === "retry") this.retry = Number(value);
    else throw new Error(`a field that does not exist: ${line}`);
  }

  #dispatch(): void {
    const data = this.#data.join("\n");
    const type = this.#type === "" ? "message" : this.#type;
    this.#data = [];
    this.#type = "";
    if (data === "") return;
    this.events.push({ type, lastId: this.lastId, frame: JSON.parse(data) as WatchFrame });
  }
}

/** An answer that is no stream. */
export interface NoEvents {
  status: number;
  headers: IncomingMessage["headers"];
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests read answers of every form
  body: any;
}

/** Opens a stream of events; resolves with the answer when it is none. Inside a test it is cut off with the test. */
export function requestEvents(
  url: string,
  headers: Record<string, string> = {},
): Promise<EventsClient | NoEvents> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { headers: { Accept: "text/event-stream", ...headers } });
    onTestFinished(() => void outgoing.destroy());
    outgoing.on("error", reject);
    outgoing.on("response", (response) => {
      if (response.headers["content-type"] === "text/event-stream") {
        resolve(new EventsClient(outgoing, response));
        return;
      }
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: JSON.parse(Buffer.concat(chunks).toString()),
        }),
      );
    });
    outgoing.end();
  });
}

/** Opens a stream of events that must not be refused. */
export async function openEvents(
  url: string,
  headers: Record<string, string> = {},
): Promise<EventsClient> {
  const answer = await requestEvents(url, headers);
  if (answer instanceof EventsClient) return answer;
  throw new Error(`refused: ${answer.status} ${JSON.stringify(answer.body)}`);
}
