import type { ConfigInfo, ConfigUpdateFrame } from "../../protocol/messages.ts";
import type { Connection } from "./access.ts";
import { SingleSocket } from "./single-socket.ts";
import { WatchDriver } from "./watch-driver.ts";
import type { ServerFrame } from "./watch-machine.ts";
import type { WatchCallbacks, Watcher } from "./watch.ts";

/** A config document as a watch tells it. */
export interface ConfigChange<T> extends ConfigInfo {
  /** Null when the document was deleted. */
  data: T | null;
}

/** What a watch of a config document calls, as {@link WatchCallbacks} says of watches of buckets. */
export interface ConfigWatchCallbacks<T> extends Omit<WatchCallbacks, "onUpdate"> {
  /** The document as it is now: at the beginning, unless there is none, and after each change. */
  onUpdate(change: ConfigChange<T>): void;
}

export interface ConfigWatchOptions {
  /** Ends the watch, as `stop()` does. */
  signal?: AbortSignal | undefined;
}

/** What a watch of a document needs. */
interface ConfigPlace {
  name: string;
  /** Path and query of the watch. */
  url: string;
  /** A plain request for the document, to learn why no connection comes to be. */
  probe: () => Promise<void>;
  connection: Connection;
}

/** Starts a watch of a document: as one of a bucket with one key, whose frames say the same in other words. */
export function watchConfig<T>(
  { name, url, probe, connection }: ConfigPlace,
  callbacks: ConfigWatchCallbacks<T>,
  { signal }: ConfigWatchOptions,
): Watcher {
  if (typeof (callbacks as Partial<typeof callbacks> | undefined)?.onUpdate !== "function") {
    throw new TypeError("watch needs an onUpdate callback");
  }
  const { sockets } = connection;
  const socket = new SingleSocket({ ...sockets, url: sockets.url + url });
  return new WatchDriver<ConfigChange<T>>(
    {
      request: { bucket: name },
      socket: {
        watch: ({ since }, listener) => socket.watch(since, asBucketFrame, listener),
        jitter: () => socket.jitter(),
      },
      probe,
      read: ({ key, value, revision, created_at: updatedAt }) => ({
        name: key,
        data: (value ?? null) as T | null,
        revision,
        updatedAt,
      }),
      signal,
    },
    {
      onUpdate: ({ name, data, revision, updatedAt }) =>
        callbacks.onUpdate({ name, data, revision, updatedAt }),
      onReady: callbacks.onReady?.bind(callbacks),
      onError: callbacks.onError?.bind(callbacks),
      onClose: callbacks.onClose?.bind(callbacks),
      onStateChange: callbacks.onStateChange?.bind(callbacks),
    },
  );
}

function asBucketFrame(received: unknown): ServerFrame | undefined {
  const frame = received as ServerFrame | ConfigUpdateFrame | null | undefined;
  if (frame?.type !== "config_update") return frame ?? undefined;
  const { name: key, data, revision, updatedAt: created_at } = frame;
  const change = { type: "kv_update", bucket: "", key, revision, created_at } as const;
  return data === null
    ? { ...change, operation: "delete" }
    : { ...change, operation: "put", value: data, encoding: "json" };
}
