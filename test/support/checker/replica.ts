import type { Seen, SeenChange } from "./frames.ts";
import type { ClientPlan } from "./client.ts";
import { advanced, parsed } from "./position.ts";

/**
 * What a client makes of its frames: the state of its keys, and where in the bucket's life it stands.
 *
 *     building ──ready──> live <──ready── resuming
 *        ^──────reset──────┴─────reset──────┘
 */
export class Replica {
  /** `plain` clients are told nothing of all this. */
  phase: "plain" | "building" | "resuming" | "live";
  state = new Map<string, SeenChange>();
  position: string | undefined;
  isStale = false;
  /** A watch of updates only knows keys that changed after this revision; undefined until it is ready. */
  knowsAfter: number | undefined;
  #building = new Map<string, SeenChange>();
  /** Before the first change that came: changes can come before the ready mark. */
  #first = Infinity;

  constructor(phase: Replica["phase"]) {
    this.phase = phase;
    if (phase === "plain") this.knowsAfter = 0;
  }

  /** A new connection begins where this one stands. */
  resume(position: string): void {
    this.phase = "resuming";
    this.position = position;
    this.isStale = false;
    this.#building = new Map();
  }

  copy(): Replica {
    const copy = new Replica(this.phase);
    copy.state = new Map(this.state);
    copy.position = this.position;
    copy.isStale = this.isStale;
    copy.knowsAfter = this.knowsAfter;
    copy.#building = new Map(this.#building);
    copy.#first = this.#first;
    return copy;
  }

  take(frame: Seen, { transport, watch }: ClientPlan): void {
    const isSse = transport === "sse";
    const isUpdatesOnly = watch.include === "updates";
    switch (frame.type) {
      case "changes": {
        const state = this.phase === "building" ? this.#building : this.state;
        if (this.phase === "building")
          for (const { revision } of frame.changes)
            this.#first = Math.min(this.#first, revision - 1);
        for (const change of frame.changes) {
          if (change.operation === "put") state.set(change.key, change);
          else state.delete(change.key);
        }
        // Server-sent events say themselves where the client stands.
        if (frame.id !== undefined) {
          this.position = frame.id === "" ? undefined : frame.id;
          break;
        }
        if (isSse) break;
        const isInferred = frame.changes.every((change) => change.isInferred);
        // While the gateway makes up for a loss, removals may come later than what was written after them.
        if (this.phase === "live" && !this.isStale && this.position !== undefined && !isInferred)
          this.position = advanced(this.position, frame.revision);
        break;
      }
      case "ready":
        if (this.phase === "building") {
          this.state = this.#building;
          this.#building = new Map();
          this.knowsAfter ??= isUpdatesOnly
            ? Math.min(parsed(frame.position)?.revision ?? 0, this.#first)
            : 0;
        }
        this.phase = "live";
        this.position = frame.position;
        this.isStale = false;
        break;
      case "bookmark":
        this.position = frame.position;
        break;
      case "reset":
        this.phase = "building";
        this.#building = new Map();
        this.position = undefined;
        this.knowsAfter = 0;
        break;
      case "stale":
        this.isStale = true;
        break;
      case "error":
      case "unknown":
        break;
    }
  }
}
