/** Watches of config documents: each of one document, through whatever happens to the bucket of its environment. */
import { closeCodes } from "../protocol/close-codes.ts";
import { isLive } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import { keyPattern } from "../protocol/keys.ts";
import type { ReadyFrame, ResetFrame } from "../protocol/messages.ts";
import { encodePosition, parsePosition } from "../protocol/position.ts";
import type { Buckets } from "../store/buckets.ts";
import { sse, wsText } from "../watch/frames.ts";
import type { Hub, Prepared } from "../watch/hub.ts";
import type {
  Begin,
  End,
  Format,
  WatchHandle,
  WatchOptions,
  WatchSocket,
  Wording,
} from "../watch/watch.ts";
import { CONFIG_BUCKET } from "./configs.ts";
import { documentJson } from "./document.ts";

/** How often it is looked for buckets that are waited for, should the news of them be lost, in milliseconds. */
const LOOK = 5_000;

const wording: Wording = {
  name: "config",
  update: (change) =>
    isLive(change)
      ? updateMembers(change.key, documentJson(change), change.revision, change.createdAt)
      : updateMembers(change.key, "null", change.revision, change.createdAt),
};

/** Where a watch stands that waits for its environment's bucket: in no bucket's life. */
const NOWHERE = encodePosition({ epoch: new Date(0).toISOString(), revision: 0 });

/**
 * Watches documents. A watch may begin before anything is in its environment, and goes on when somebody deletes the environment's
 * bucket, which is news of a deleted document.
 *
 * @example
 * const begin = await watches.prepare("production", "app");
 * const watch = begin(socket);
 */
export class ConfigWatches {
  readonly #buckets: Buckets;
  readonly #hub: Hub;
  /** Those that wait for a bucket, by its name. */
  readonly #absences = new Map<string, Absence>();
  readonly #offCreated: () => void;
  readonly #timer: NodeJS.Timeout;

  constructor(buckets: Buckets, hub: Hub) {
    this.#buckets = buckets;
    this.#hub = hub;
    this.#offCreated = buckets.onCreated((bucket) => void this.#absences.get(bucket)?.look());
    this.#timer = setInterval(() => void this.#look(), LOOK).unref();
  }

  /**
   * Makes ready to watch a document, whether there is one or not.
   *
   * @param since a position where an earlier watch of it ended
   * @throws KvError `store_unavailable`, `shutting_down`
   */
  async prepare(environment: string, name: string, since?: string): Promise<Begin> {
    const bucket = CONFIG_BUCKET + environment;
    const prepared = await this.#hub.prepareSystem(bucket).catch(asAbsent);
    return (socket) => {
      const watch = new ConfigWatch(name, socket, (waiting) => this.#wait(bucket, waiting));
      if (prepared === undefined) watch.wait(since !== undefined);
      else if (since !== undefined && isNowhere(since)) watch.startOver(prepared);
      else watch.begin(prepared, since);
      return watch;
    };
  }

  /** Looks for no bucket any more. Watches that wait for one are their sockets' to end. */
  close(): void {
    this.#offCreated();
    clearInterval(this.#timer);
  }

  /** @returns takes it off again */
  #wait(bucket: string, watch: ConfigWatch): () => void {
    let absence = this.#absences.get(bucket);
    if (absence === undefined) {
      absence = new Absence(() => this.#hub.prepareSystem(bucket));
      this.#absences.set(bucket, absence);
    }
    const { waiting } = absence;
    waiting.add(watch);
    // It may have come just before.
    void absence.look();
    return () => {
      waiting.delete(watch);
      if (waiting.size === 0) this.#absences.delete(bucket);
    };
  }

  async #look(): Promise<void> {
    if (this.#absences.size === 0) return;
    // Without an answer there will be another time.
    const present = await this.#buckets.systemNames(CONFIG_BUCKET).catch(() => []);
    for (const bucket of present) void this.#absences.get(bucket)?.look();
  }
}

/** Watches of an environment that has no bucket now. */
class Absence {
  readonly waiting = new Set<ConfigWatch>();
  readonly #prepare: () => Promise<Prepared>;
  #isLooking = false;
  #looksAgain = false;

  constructor(prepare: () => Promise<Prepared>) {
    this.#prepare = prepare;
  }

  /** Begins the watches if the bucket is there. */
  async look(): Promise<void> {
    this.#looksAgain = true;
    if (this.#isLooking) return;
    this.#isLooking = true;
    while (this.#looksAgain && this.waiting.size > 0) {
      this.#looksAgain = false;
      // Not there yet, or not to be reached: that is waited for.
      const prepared = await this.#prepare().catch(() => undefined);
      if (prepared !== undefined) for (const watch of [...this.waiting]) watch.begin(prepared);
    }
    this.#isLooking = false;
  }
}

/**
 * A watch of one document. It stands between the hub, for which it is a socket, and the socket of its client. Whenever there is
 * no bucket it waits for one.
 */
class ConfigWatch implements WatchHandle, WatchSocket {
  readonly format: Format;
  readonly #options: WatchOptions;
  readonly #name: string;
  readonly #socket: WatchSocket;
  readonly #onWait: (watch: ConfigWatch) => () => void;
  #handle: WatchHandle | undefined;
  #stopWaiting: (() => void) | undefined;
  #isClosed = false;

  constructor(name: string, socket: WatchSocket, onWait: (watch: ConfigWatch) => () => void) {
    this.format = socket.format;
    this.#name = name;
    this.#socket = socket;
    this.#onWait = onWait;
    this.#options = { patterns: [keyPattern(name)], include: "snapshot", values: true, wording };
  }

  get count(): number {
    return this.#handle?.count ?? 0;
  }

  get backlog(): number {
    return this.#socket.backlog;
  }

  begin(prepared: Prepared, since?: string): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
    if (this.#isClosed) return;
    const options = since === undefined ? this.#options : { ...this.#options, since };
    const handle = prepared.attach(options, this);
    // It can be over, and another one begun or waited for, only later than this.
    this.#handle = handle;
  }

  /** Begins for a client that has heard of the bucket's coming at most, and perhaps of some of what is in it. */
  startOver(prepared: Prepared): void {
    this.#mark({ type: "kv_reset", reason: "too_old" });
    this.begin(prepared);
  }

  /** Waits for a bucket: there is no document now. @param isNews whether the client may believe that there is one */
  wait(isNews: boolean): void {
    if (isNews) this.#tellGone();
    if (this.format !== "plain") {
      this.#mark({ type: "kv_ready", position: NOWHERE, count: this.count });
    }
    this.#stopWaiting = this.#onWait(this);
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  end({ count }: WatchHandle, end: End): void {
    if (this.#isClosed) return;
    if (end.code === closeCodes.bucketGone) {
      this.wait(count > 0);
      return;
    }
    this.#isClosed = true;
    this.#socket.end(this, end);
  }

  drained(): void {
    this.#handle?.drained();
  }

  close(): void {
    this.#isClosed = true;
    this.#stopWaiting?.();
    this.#handle?.close();
  }

  #tellGone(): void {
    if (this.format !== "plain") this.#mark({ type: "kv_reset", reason: "epoch_changed" });
    const members = updateMembers(this.#name, "null", 0, new Date().toISOString());
    this.#write(`{${members}}`);
  }

  #mark(frame: ReadyFrame | ResetFrame): void {
    this.#write(JSON.stringify(frame), frame.type === "kv_ready" ? frame.position : "");
  }

  #write(json: string, position?: string): void {
    this.#socket.write(this.format === "sse" ? sse(json, position) : wsText(json));
  }
}

/** Whether a position, however far a client has moved it on, is that of a watch that waits for a bucket. */
function isNowhere(since: string): boolean {
  return parsePosition(since)?.epoch === 0;
}

function updateMembers(name: string, json: string, revision: number, updatedAt: string): string {
  return `"type":"config_update","name":${JSON.stringify(name)},"data":${json},"revision":${revision},"updatedAt":"${updatedAt}"`;
}

function asAbsent(error: unknown): undefined {
  if (error instanceof KvError && error.code === "bucket_not_found") return undefined;
  throw error;
}
