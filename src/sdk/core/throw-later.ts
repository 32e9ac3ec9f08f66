/** Throws what a callback threw where nobody catches it: it is reported, and disturbs nothing here. */
export function throwLater(thrown: unknown): void {
  queueMicrotask(() => {
    throw thrown;
  });
}
