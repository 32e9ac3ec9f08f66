/** The live views that components share: one per bucket and patterns, as long as any component shows it. */
import type { KvClient } from "./core/kv.ts";
import type { LiveBucket, LiveOptions, LiveSnapshot } from "./core/live-bucket.ts";

/** What has live views: a bucket, whatever is written to it. */
export interface LiveSource<T> {
  live(options?: LiveOptions): LiveBucket<T>;
}

/** What `useSyncExternalStore` takes. */
export interface View<T> {
  subscribe: (listener: () => void) => () => void;
  getSnapshot: () => LiveSnapshot<T>;
  getServerSnapshot: () => LiveSnapshot<T>;
}

/** How long a view stays when nobody shows it: a page that goes from one place to the next keeps it. */
const LINGER_MS = 500;

const nothingYet: LiveSnapshot<never> = {
  entries: new Map<string, never>(),
  ready: false,
  state: "connecting",
  error: undefined,
};

type AnySource = LiveSource<unknown>;

const bucketsOf = new WeakMap<KvClient, Map<string, AnySource>>();
const viewsOf = new WeakMap<AnySource, Map<string, SharedView>>();

/**
 * The view of a bucket. Rendering makes nothing: the view begins when the first component subscribes to it, so that what
 * is rendered on a server, or never shown, costs nothing.
 *
 * @param keys JSON of the list of patterns, undefined for every key
 */
export function viewOf<T>(source: LiveSource<T>, keys: string | undefined): View<T> {
  const name = keys ?? "";
  const shared = () => viewsOf.get(source)?.get(name);
  return {
    subscribe(listener) {
      const views = entryOf(viewsOf, source as AnySource, () => new Map<string, SharedView>());
      const make = () =>
        new SharedView(
          () => source.live({ key: keys === undefined ? keys : (JSON.parse(keys) as string[]) }),
          () => views.delete(name),
        );
      return entryOf(views, name, make).subscribe(listener);
    },
    getSnapshot: () => (shared()?.live.getSnapshot() ?? nothingYet) as LiveSnapshot<T>,
    getServerSnapshot: () => nothingYet,
  };
}

/** The bucket of a name: the same one each time, so that its views are shared. */
export function namedBucket(kv: KvClient, name: string): LiveSource<unknown> {
  const buckets = entryOf(bucketsOf, kv, () => new Map<string, AnySource>());
  return entryOf(buckets, name, () => kv.bucket(name));
}

function entryOf<K, V>(
  map: { get(key: K): V | undefined; set(key: K, value: V): unknown },
  key: K,
  make: () => V,
): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

class SharedView {
  live: LiveBucket;
  readonly #start: () => LiveBucket;
  readonly #onEnd: () => void;
  readonly #listeners = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(start: () => LiveBucket, onEnd: () => void) {
    this.#start = start;
    this.#onEnd = onEnd;
    this.live = this.#open();
  }

  subscribe(listener: () => void): () => void {
    clearTimeout(this.#timer);
    // It was refused for good, but that was then: whoever comes new tries anew.
    if (this.live.state === "closed") this.live = this.#open();
    const own = () => listener();
    this.#listeners.add(own);
    return () => {
      if (!this.#listeners.delete(own) || this.#listeners.size > 0) return;
      this.#timer = setTimeout(() => {
        this.#onEnd();
        this.live.close();
      }, LINGER_MS);
    };
  }

  #open(): LiveBucket {
    const live = this.#start();
    live.subscribe(() => {
      for (const listener of [...this.#listeners]) listener();
    });
    return live;
  }
}
