import { throwLater } from "./throw-later.ts";

/** Adds a listener; returns what removes it. The same function may be added twice. */
export function added<A extends unknown[]>(
  listeners: Set<(...args: A) => void>,
  listener: (...args: A) => void,
): () => void {
  const own = (...args: A) => listener(...args);
  listeners.add(own);
  return () => void listeners.delete(own);
}

/** Calls all of them, whatever one of them throws. */
export function callAll<A extends unknown[]>(
  listeners: Set<(...args: A) => void>,
  ...args: A
): void {
  for (const listener of [...listeners]) {
    try {
      listener(...args);
    } catch (thrown) {
      throwLater(thrown);
    }
  }
}
