import type { WatchCallbacks, Watcher } from "./watch.ts";

/**
 * The changes of a watch as an iterable. It starts the watch when the first change is asked for, keeps those that nobody
 * has asked for yet, and stops the watch when the loop is left.
 */
export async function* changesOf<C>(
  start: (callbacks: WatchCallbacks<unknown, C>) => Watcher,
  onError: WatchCallbacks["onError"],
): AsyncGenerator<C, void, undefined> {
  let waiting: C[] = [];
  let wake = (): void => undefined;
  // Said otherwise, the compiler takes it for false for ever.
  let ended = false as boolean;
  const watcher = start({
    onUpdate(change) {
      waiting.push(change);
      wake();
    },
    onError,
  });
  const end = watcher.closed.then((info) => {
    ended = true;
    wake();
    return info;
  });
  try {
    for (;;) {
      const batch = waiting;
      waiting = [];
      yield* batch;
      if (waiting.length > 0) continue;
      if (ended) break;
      await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    watcher.stop();
  }
  const { error } = await end;
  if (error !== undefined) throw error;
}
