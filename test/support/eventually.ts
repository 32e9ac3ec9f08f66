import { expect } from "vitest";

/** `expect.poll` with the patience that a busy machine needs: what takes longer is broken. */
export function eventually<T>(read: () => T, timeout = 10_000): ReturnType<typeof expect.poll<T>> {
  return expect.poll(read, { timeout, interval: 5 });
}
