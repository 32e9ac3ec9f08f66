import type { BucketAccess } from "./access.ts";
import type { Revision } from "./entry.ts";
import { infoOf, type EntryInfo } from "./listing.ts";
import { bucketPath } from "./paths.ts";
import { WatchDriver, type WatchSink } from "./watch-driver.ts";
import type { KeysOnly, Watcher, WatchOptions } from "./watch.ts";

/** Starts a watch of a bucket. */
export function watchBucket<Out>(
  access: BucketAccess<Out, never>,
  sink: WatchSink<Revision<Out> | EntryInfo>,
  options: WatchOptions | KeysOnly<WatchOptions>,
): Watcher {
  if (typeof (sink as Partial<typeof sink> | undefined)?.onUpdate !== "function") {
    throw new TypeError("watch needs an onUpdate callback");
  }
  const { key, include, values, signal } = options;
  const keys = typeof key === "string" ? [key] : key;
  if (keys?.length === 0) {
    throw new TypeError("a watch of no keys: leave `key` out for every key");
  }
  const { name: bucket, connection } = access;
  return new WatchDriver<Revision<Out> | EntryInfo>(
    {
      request: { bucket, keys, include, values },
      socket: connection.watches,
      probe: () => connection.transport.send({ method: "GET", path: bucketPath(bucket) }),
      read: (body) =>
        values === false && body.operation === "put" ? infoOf(body) : access.revision(body),
      signal,
    },
    sink,
  );
}
