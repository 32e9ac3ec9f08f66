import type { Entry, Revision } from "./entry.ts";
import { JetbucketError } from "./errors.ts";
import { added, callAll } from "./listeners.ts";
import type { WatchSink } from "./watch-driver.ts";
import type { CloseInfo, WatchStateName } from "./watch-machine.ts";
import type { WatchCallbacks, Watcher, WatchOptions } from "./watch.ts";

/** Options of {@link Bucket.live}. */
export interface LiveOptions extends Pick<WatchOptions, "key" | "signal"> {
  /**
   * As for a watch: something needs attention. The key of a value that does not fit the bucket's schema is left out of the
   * view, and the error told here.
   */
  onError?: WatchCallbacks["onError"];
}

/** A view as it was at a moment; it never changes. */
export interface LiveSnapshot<T = unknown> {
  /** What there is, sorted by key. The same map as in the snapshot before, unless an entry has changed. */
  readonly entries: ReadonlyMap<string, Entry<T>>;
  /** Whether the view was complete once; until then it is empty. */
  readonly ready: boolean;
  /** What the view is doing: `live` when it shows the bucket as it is, `closed` when it has ended. */
  readonly state: WatchStateName;
  /** Why the view is behind or has ended; undefined when all is well. */
  readonly error: JetbucketError | undefined;
}

/**
 * A bucket's values, kept up to date: a read-only `Map` of values by key, sorted as JavaScript sorts strings.
 *
 * It is always consistent. It shows nothing until everything is there, a transaction appears whole, and after a gap the old
 * state stays until all that was missed is known. Each of these is one step, and one notification.
 *
 * @example
 * const users = bucket.live({ key: "user.*" });
 * await users.ready;
 * console.log(users.size, users.get("user.ada"));
 * const unsubscribe = users.onChange((keys) => console.log("changed:", [...keys]));
 * users.close();
 */
export class LiveBucket<T = unknown> implements ReadonlyMap<string, T> {
  /** Resolves when the view is complete for the first time. Rejects with a {@link JetbucketError} when it ends before. */
  readonly ready: Promise<void>;
  /** Resolves when the view has ended; never rejects. */
  readonly closed: Promise<CloseInfo>;
  readonly #watcher: Watcher;
  readonly #entries = new Map<string, Entry<T>>();
  /** What is to become visible with the next step; undefined for a key that goes. */
  readonly #pending = new Map<string, Entry<T> | undefined>();
  readonly #listeners = new Set<() => void>();
  readonly #changeListeners = new Set<(keys: ReadonlySet<string>) => void>();
  #state: WatchStateName = "connecting";
  #isReady = false;
  #error: JetbucketError | undefined;
  /** Made when they are asked for, and forgotten when they no longer hold. */
  #snapshot: LiveSnapshot<T> | undefined;
  #sorted: ReadonlyMap<string, Entry<T>> | undefined;
  #keys: string[] | undefined;

  /** @internal */
  constructor(start: (sink: WatchSink<Revision<T>>) => Watcher, onError: LiveOptions["onError"]) {
    let resolveReady!: () => void;
    let rejectReady!: (error: JetbucketError) => void;
    this.ready = new Promise((resolve, reject) => {
      resolveReady = resolve;
      rejectReady = reject;
    });
    // Who does not ask need not know.
    this.ready.catch(() => undefined);
    this.#watcher = start({
      onUpdate: (change) => {
        this.#pending.set(change.key, change.operation === "put" ? change : undefined);
      },
      onTold: () => {
        if (this.#state === "live") this.#commit();
      },
      onReady: () => {
        this.#state = "live";
        this.#isReady = true;
        this.#error = undefined;
        if (!this.#commit()) this.#notify();
        resolveReady();
      },
      onStateChange: (state) => {
        // What `live` and `closed` bring comes right behind.
        if (state === "live" || state === "closed") return;
        this.#state = state;
        this.#notify();
      },
      onError: (error) => {
        if (error.code === "invalid_value") {
          this.#pending.set(error.details?.key as string, undefined);
        } else {
          this.#error = error;
          this.#notify();
        }
        onError?.(error);
      },
      onClose: ({ error }) => {
        this.#state = "closed";
        this.#notify();
        rejectReady(error ?? new JetbucketError("aborted", "the view was closed"));
      },
    });
    this.closed = this.#watcher.closed;
  }

  /** Ends the view; it keeps what it shows. May be called again. */
  close(): void {
    this.#watcher.stop();
  }

  /** What the view is doing: `live` when it shows the bucket as it is, `closed` when it has ended. */
  get state(): WatchStateName {
    return this.#state;
  }

  /** Whether the view was complete once; until then it is empty. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Why the view is behind or has ended; undefined when all is well. */
  get error(): JetbucketError | undefined {
    return this.#error;
  }

  /** How many keys there are. */
  get size(): number {
    return this.#entries.size;
  }

  /** The value of a key; undefined when there is none. */
  get(key: string): T | undefined {
    return this.#entries.get(key)?.value;
  }

  /** The value of a key with its revision and all the rest; undefined when there is none. */
  entry(key: string): Entry<T> | undefined {
    return this.#entries.get(key);
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** The keys, sorted. Iterating goes over what there is now, whatever changes meanwhile. */
  keys(): MapIterator<string> {
    return this.getSnapshot().entries.keys();
  }

  /** The values, sorted by key. */
  *values(): Generator<T, undefined> {
    for (const [, value] of this) yield value;
  }

  /** Keys and values, sorted by key. */
  *entries(): Generator<[string, T], undefined> {
    for (const [key, { value }] of this.getSnapshot().entries) yield [key, value];
  }

  [Symbol.iterator](): Generator<[string, T], undefined> {
    return this.entries();
  }

  forEach(callback: (value: T, key: string, view: LiveBucket<T>) => void, self?: unknown): void {
    for (const [key, value] of this) callback.call(self, value, key, this);
  }

  /**
   * Calls back after each step that changed entries, with the keys that have changed or gone: of the beginning all keys, of a
   * transaction those of the transaction.
   *
   * @returns ends it
   * @example
   * const unsubscribe = users.onChange((keys) => render(keys));
   */
  onChange(listener: (keys: ReadonlySet<string>) => void): () => void {
    return added(this.#changeListeners, listener);
  }

  /**
   * Calls back when {@link getSnapshot} has something new: entries, the state, or an error. For `useSyncExternalStore` and
   * its like; need not be called as a method.
   *
   * @returns ends it
   * @example
   * const { entries, ready } = useSyncExternalStore(users.subscribe, users.getSnapshot);
   */
  readonly subscribe = (listener: () => void): (() => void) => added(this.#listeners, listener);

  /**
   * The view as it is now; the same object until something changes. Making one after a change costs as much as there are keys,
   * so nothing is made before it is asked for.
   */
  readonly getSnapshot = (): LiveSnapshot<T> =>
    (this.#snapshot ??= {
      entries: (this.#sorted ??= this.#sort()),
      ready: this.#isReady,
      state: this.#state,
      error: this.#error,
    });

  #sort(): ReadonlyMap<string, Entry<T>> {
    this.#keys ??= [...this.#entries.keys()].sort();
    return new Map(this.#keys.map((key) => [key, this.#entries.get(key)!]));
  }

  /** Makes visible what has come together. Whether there was anything. */
  #commit(): boolean {
    const changed = new Set<string>();
    for (const [key, entry] of this.#pending) {
      const existed = this.#entries.has(key);
      if (entry !== undefined) this.#entries.set(key, entry);
      else if (!this.#entries.delete(key)) continue;
      if (entry === undefined || !existed) this.#keys = undefined;
      changed.add(key);
    }
    this.#pending.clear();
    if (changed.size === 0) return false;
    this.#sorted = this.#snapshot = undefined;
    callAll(this.#changeListeners, changed);
    this.#notify();
    return true;
  }

  #notify(): void {
    this.#snapshot = undefined;
    callAll(this.#listeners);
  }
}
