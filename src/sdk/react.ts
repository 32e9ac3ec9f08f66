"use client";
/**
 * Buckets in React components. All components that show the same keys share one live view, and all views of a client one
 * socket.
 *
 * @example
 * import { createClient } from "jetbucket/browser";
 * import { JetbucketProvider, useKey } from "jetbucket/react";
 *
 * const client = createClient({ serverUrl: "https://kv.example.com" });
 * root.render(<JetbucketProvider client={client}><Mode /></JetbucketProvider>);
 *
 * function Mode() {
 *   const { value, ready } = useKey<{ mode: string }>("settings", "theme");
 *   return ready ? <p>{value?.mode ?? "none"}</p> : <p>…</p>;
 * }
 */
import {
  createContext,
  createElement,
  useContext,
  useMemo,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from "react";
import type { Client } from "./core/client.ts";
import type { Entry } from "./core/entry.ts";
import type { JetbucketError } from "./core/errors.ts";
import type { KvClient } from "./core/kv.ts";
import type { LiveSnapshot } from "./core/live-bucket.ts";
import type { WatchStateName } from "./core/watch-machine.ts";
import { namedBucket, viewOf, type LiveSource, type View } from "./react-views.ts";

export type { LiveSource };

const Context = createContext<KvClient | undefined>(undefined);

/** Properties of {@link JetbucketProvider}. */
export interface JetbucketProviderProps {
  /** What `createClient` of `jetbucket/browser` or `jetbucket/node` gave, or the `jetbucket` of a page. The same one in every render. */
  client: Pick<Client, "kv">;
  children?: ReactNode;
}

/**
 * Says which client the components below use.
 *
 * @example
 * <JetbucketProvider client={jetbucket}><App /></JetbucketProvider>
 */
export function JetbucketProvider({ client, children }: JetbucketProviderProps): ReactElement {
  return createElement(Context.Provider, { value: client.kv() }, children);
}

/**
 * The buckets of the provider's client, to write to them.
 *
 * @throws Error outside of a {@link JetbucketProvider}
 * @example
 * const kv = useKv();
 * return <button onClick={() => kv.bucket("settings").put("theme", "dark")}>dark</button>;
 */
export function useKv(): KvClient {
  return provided(useContext(Context));
}

function provided(kv: KvClient | undefined): KvClient {
  if (kv === undefined) throw new Error("there is no <JetbucketProvider> around this component");
  return kv;
}

/** Options of {@link useBucket}. */
export interface UseBucketOptions {
  /** Only these keys; wildcards as in listings: `user.*`, `user.>`. Default: every key. */
  key?: string | readonly string[] | undefined;
}

/**
 * The entries of a bucket, kept up to date. The component renders again with every change of what it shows.
 *
 * While a page is rendered on a server, and until the bucket has been read, there are no entries and `ready` is false.
 *
 * @param bucket its name, or a bucket made by `kv.bucket(name, { schema })`; the same one in every render, so make it
 * outside of the component
 * @param options `key`, one or several patterns (default: every key)
 * @returns `entries` (a sorted `Map`, the same one until an entry changes), `ready`, `state`, `error`
 * @example
 * const { entries, ready } = useBucket<User>("users", { key: "user.*" });
 * return <ul>{[...entries].map(([key, { value }]) => <li key={key}>{value.name}</li>)}</ul>;
 */
export function useBucket<T = unknown>(
  bucket: string | LiveSource<T>,
  options: UseBucketOptions = {},
): LiveSnapshot<T> {
  const { subscribe, getSnapshot, getServerSnapshot } = useView(bucket, options.key);
  return useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
}

/** What {@link useKey} gives. */
export interface KeyState<T = unknown> {
  /** Undefined while there is none. */
  readonly value: T | undefined;
  /** Of the value, as `update` takes it: 0 when the key does not exist. */
  readonly revision: number;
  /** The value with everything that is known of it. */
  readonly entry: Entry<T> | undefined;
  /** Whether the key has been read. */
  readonly ready: boolean;
  /** What the view behind it is doing: `live` when it shows the key as it is. */
  readonly state: WatchStateName;
  /** Why the view is behind or has ended; undefined when all is well. */
  readonly error: JetbucketError | undefined;
}

/**
 * A key's value, kept up to date.
 *
 * For many keys of a bucket take {@link useBucket}, in a component above: each key here is a watch of its own.
 *
 * @param bucket as for {@link useBucket}
 * @example
 * const { value, revision, ready } = useKey<Theme>("settings", "theme");
 */
export function useKey<T = unknown>(bucket: string | LiveSource<T>, key: string): KeyState<T> {
  const view = useView(bucket, patternOf(key));
  const { subscribe, getSnapshot, getServerSnapshot } = view;
  const [select, selectOnServer] = useMemo(
    () => [selector(getSnapshot, key), selector(getServerSnapshot, key)],
    [getSnapshot, getServerSnapshot, key],
  );
  return useSyncExternalStore(subscribe, select, selectOnServer);
}

function useView<T>(bucket: string | LiveSource<T>, key: UseBucketOptions["key"]): View<T> {
  const kv = useContext(Context);
  const source = (
    typeof bucket === "string" ? namedBucket(provided(kv), bucket) : bucket
  ) as LiveSource<T>;
  // Lists are equal when their patterns are.
  const keys = JSON.stringify(typeof key === "string" ? [key] : key) as string | undefined;
  return useMemo(() => viewOf(source, keys), [source, keys]);
}

/** The pattern that covers a key. A token that would end a pattern is covered by a star. */
function patternOf(key: string): string {
  return key
    .split(".")
    .map((token) => (token === ">" ? "*" : token))
    .join(".");
}

/** The state of one key, the same object until that key changes. */
function selector<T>(getSnapshot: () => LiveSnapshot<T>, key: string): () => KeyState<T> {
  let last: KeyState<T> | undefined;
  return () => {
    const { entries, ready, state, error } = getSnapshot();
    const entry = entries.get(key);
    if (
      last?.entry !== entry ||
      last?.ready !== ready ||
      last.state !== state ||
      last.error !== error
    ) {
      last = { value: entry?.value, revision: entry?.revision ?? 0, entry, ready, state, error };
    }
    return last;
  };
}
