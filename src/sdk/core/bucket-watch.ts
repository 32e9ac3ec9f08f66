import type { BucketAccess } from "./access.ts";
import { bucketPath } from "./paths.ts";
import { WatchDriver } from "./watch-driver.ts";
import type { WatchCallbacks, Watcher, WatchOptions } from "./watch.ts";

/** Starts a watch of a bucket. */
export function watchBucket<Out>(
  access: BucketAccess<Out, never>,
  callbacks: WatchCallbacks<Out>,
  options: WatchOptions,
): Watcher {
  if (typeof (callbacks as Partial<WatchCallbacks<Out>> | undefined)?.onUpdate !== "function") {
    throw new TypeError("watch needs an onUpdate callback");
  }
  const { key } = options;
  if (typeof key === "object" && key.length === 0) {
    throw new TypeError("a watch of no keys: leave `key` out for every key");
  }
  const { name, connection } = access;
  const { transport, openSocket, socketUrl, token } = connection;
  return new WatchDriver<Out>(
    {
      bucket: name,
      url: (include) => `${socketUrl}${access.path("watch", { key, include })}`,
      token,
      openSocket,
      probe: () => transport.send({ method: "GET", path: bucketPath(name) }),
      read: (frame) => access.revision(frame),
    },
    callbacks,
    options,
  );
}
