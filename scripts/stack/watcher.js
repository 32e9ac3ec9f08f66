import { once } from "node:events";
import { WebSocket } from "ws";

/** A watch that keeps all frames it has got. It never connects again: one socket has to last. */
export class Watcher {
  frames = [];
  /** Set when it is over. */
  closeCode;
  #socket;

  static async open(url) {
    const watcher = new Watcher(url);
    await once(watcher.#socket, "open", { signal: AbortSignal.timeout(5_000) });
    return watcher;
  }

  constructor(url) {
    this.#socket = new WebSocket(url.replace(/^http/, "ws"), "jetbucket.v1");
    this.#socket.on("message", (data) => this.frames.push(JSON.parse(String(data))));
    // What goes wrong with a socket closes it, and the code tells.
    this.#socket.on("error", () => undefined);
    this.#socket.on("close", (code) => (this.closeCode = code));
  }

  /** What has come so far, as short text: `theme=1 ready theme=2 theme-`. */
  get story() {
    return this.frames
      .map(({ type, key, value, operation }) => {
        if (type !== "kv_update") return type.replace("kv_", "");
        return operation === "delete" ? `${key}-` : `${key}=${JSON.stringify(value)}`;
      })
      .join(" ");
  }

  terminate() {
    this.#socket.terminate();
  }
}
