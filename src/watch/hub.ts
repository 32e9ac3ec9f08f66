import { closeCodes } from "../protocol/close-codes.ts";
import { KvError } from "../protocol/errors.ts";
import type { Buckets } from "../store/buckets.ts";
import { Channel } from "./channel.ts";
import type { OutboxLimits } from "./outbox.ts";
import { Watch, type WatchOptions, type WatchSocket } from "./watch.ts";

export interface HubOptions {
  /** Bounds of what a slow watcher may cost. */
  outbox?: OutboxLimits;
  /** How long a bucket that nobody watches any more keeps its feed, in milliseconds. Default: 10 s. */
  linger?: number;
}

const DEFAULT_OUTBOX: OutboxLimits = { sinkBacklog: 256 * 1024, waiting: 4 * 1024 * 1024 };
const DEFAULT_LINGER = 10_000;

/** A watch in progress, as the owner of its socket holds it. */
export interface WatchHandle {
  /** The socket has room again. */
  drained(): void;
  /** The socket is gone. */
  close(): void;
}

/**
 * Brings changes of buckets to any number of watchers, through one feed per bucket.
 */
export class Hub {
  readonly #buckets: Buckets;
  readonly #outbox: OutboxLimits;
  readonly #linger: number;
  readonly #channels = new Map<string, Promise<Channel>>();
  /** The same channels, as soon as they begin to open. */
  readonly #current = new Map<string, Channel>();
  readonly #idle = new Map<Channel, NodeJS.Timeout>();
  readonly #offDeleted: () => void;
  #closed = false;

  constructor(buckets: Buckets, options: HubOptions = {}) {
    this.#buckets = buckets;
    this.#outbox = options.outbox ?? DEFAULT_OUTBOX;
    this.#linger = options.linger ?? DEFAULT_LINGER;
    this.#offDeleted = buckets.onDeleted((name) => {
      void this.#channels.get(name)?.then(
        (channel) => channel.feed.bucketDeleted(),
        () => undefined,
      );
    });
  }

  /**
   * Makes ready to watch a bucket: after this resolves, {@link Prepared.attach} cannot fail for want of the bucket.
   * Split in two so that a watch can be refused before its socket is upgraded.
   *
   * @throws KvError `bucket_not_found`, `store_unavailable`, `shutting_down`
   */
  async prepare(name: string): Promise<Prepared> {
    if (this.#closed)
      throw new KvError("shutting_down", "this gateway is shutting down", { retryAfter: 1 });
    const { epoch } = await this.#buckets.open(name);
    let opening = this.#channels.get(name);
    if (opening === undefined) {
      opening = this.#openChannel(name);
      this.#channels.set(name, opening);
    }
    const channel = await opening;
    // The bucket was deleted and created again, and the news of it has not come yet.
    if (channel.bucket.epoch !== epoch) await channel.feed.bucketDeleted();
    if (channel.feed.hasEnded) return this.prepare(name);
    if (channel.size === 0) this.#rest(channel);
    if (!channel.feed.isCurrent) {
      throw new KvError("store_unavailable", `bucket "${name}" cannot be followed now`, {
        retryAfter: 1,
      });
    }
    return { attach: (options, socket) => this.#attach(channel, options, socket) };
  }

  /** Ends every watch with 1001: clients go to another gateway at once. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#offDeleted();
    for (const timer of this.#idle.values()) clearTimeout(timer);
    for (const opening of this.#channels.values()) {
      const channel = await opening.catch(() => undefined);
      channel?.close(closeCodes.goingAway, "this gateway is shutting down: connect again");
    }
    this.#channels.clear();
    this.#current.clear();
  }

  async #openChannel(name: string): Promise<Channel> {
    const channel = new Channel(name, () => this.#drop(channel));
    this.#current.set(name, channel);
    try {
      channel.start(await this.#buckets.follow(name, channel));
    } catch (error) {
      this.#drop(channel);
      throw error;
    }
    return channel;
  }

  #attach(channel: Channel, options: WatchOptions, socket: WatchSocket): WatchHandle {
    clearTimeout(this.#idle.get(channel));
    this.#idle.delete(channel);
    const watch = new Watch(options, socket, this.#outbox);
    channel.join(watch);
    return {
      drained: () => watch.flush(),
      close: () => {
        watch.close();
        channel.leave(watch);
        if (channel.size === 0) this.#rest(channel);
      },
    };
  }

  /** Closes a channel that nobody watches, after a while. */
  #rest(channel: Channel): void {
    if (this.#closed || this.#current.get(channel.name) !== channel) return;
    clearTimeout(this.#idle.get(channel));
    const timer = setTimeout(() => {
      this.#drop(channel);
      channel.close(closeCodes.goingAway, "the watch went idle: connect again");
    }, this.#linger);
    this.#idle.set(channel, timer.unref());
  }

  #drop(channel: Channel): void {
    clearTimeout(this.#idle.get(channel));
    this.#idle.delete(channel);
    // Under the name may be a later channel by now: the bucket was created again and is watched again.
    const { name } = channel;
    if (this.#current.get(name) === channel) {
      this.#current.delete(name);
      this.#channels.delete(name);
    }
  }
}

export interface Prepared {
  attach(options: WatchOptions, socket: WatchSocket): WatchHandle;
}
