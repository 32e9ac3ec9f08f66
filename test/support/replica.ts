import type { UpdateFrame, WatchFrame } from "../../src/protocol/messages.ts";
import { advancePosition } from "../../src/protocol/position.ts";
import { openWatch, watchUrl, type WatchClient } from "./watch-client.ts";

type Change = Omit<UpdateFrame, "type" | "bucket">;

/**
 * A copy of a bucket that a client keeps over any number of connections, as docs/watch-protocol.md tells clients to.
 */
export class Replica {
  readonly state = new Map<string, unknown>();
  /** Every change that was received, in order, over all connections. */
  readonly changes: Change[] = [];
  readonly resets: string[] = [];
  /** Where the next connection goes on. */
  position: string | undefined;
  isLive = false;
  client: WatchClient | undefined;
  /** Keys that were named since the last reset, while one is under way. */
  #named: Set<string> | undefined;

  /** Opens a connection, which goes on where the last one was. */
  async connect(api: string, bucket: string, query: Record<string, string> = {}): Promise<void> {
    const since = this.position === undefined ? {} : { since: this.position };
    const parameters = new URLSearchParams({ ...query, ...since }).toString();
    if (this.position === undefined) this.#named = new Set();
    // Frames can come together with the answer to the upgrade.
    const client = await openWatch(watchUrl(api, bucket, parameters));
    this.client = client;
    for (const frame of client.frames) this.#take(frame);
    client.socket.on("message", () => this.#take(client.frames.at(-1)!));
  }

  /** Breaks the connection. What is under way on it is lost. */
  cut(): void {
    this.client?.socket.terminate();
    this.client?.socket.removeAllListeners("message");
    this.client = undefined;
    this.isLive = false;
  }

  get revisions(): number[] {
    return this.changes.map(({ revision }) => revision);
  }

  #take(frame: WatchFrame): void {
    switch (frame.type) {
      case "kv_update":
        this.#apply([frame], frame.inferred === true ? undefined : frame.revision);
        break;
      case "kv_transaction":
        this.#apply(frame.events, frame.revision);
        break;
      case "kv_reset":
        this.resets.push(frame.reason);
        this.#named = new Set();
        this.isLive = false;
        break;
      case "kv_stale":
        this.isLive = false;
        break;
      case "kv_ready":
        if (this.#named !== undefined)
          for (const key of this.state.keys()) if (!this.#named.has(key)) this.state.delete(key);
        this.#named = undefined;
        this.position = frame.position;
        this.isLive = true;
        break;
      case "kv_bookmark":
        this.position = frame.position;
        break;
      case "error":
      case "unwatched":
        break;
    }
  }

  #apply(changes: readonly Change[], revision: number | undefined): void {
    for (const change of changes) {
      this.changes.push(change);
      this.#named?.add(change.key);
      if (change.operation === "put") this.state.set(change.key, change.value);
      else this.state.delete(change.key);
    }
    if (this.isLive && this.position !== undefined && revision !== undefined)
      this.position = advancePosition(this.position, revision);
  }
}
