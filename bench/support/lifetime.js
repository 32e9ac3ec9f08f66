/**
 * What has been started and has to end: processes, servers, folders. Ends them in reverse order, once, however the work
 * ends: at its end, at a failure, or at a signal.
 */
export class Lifetime {
  #ends = [];
  #closing;

  /**
   * Takes charge of something that was started.
   *
   * @param {() => unknown} end stops it; may return a promise
   */
  own(end) {
    if (this.#closing !== undefined) {
      void end();
      throw new Error("the benchmark is being stopped");
    }
    this.#ends.push(end);
  }

  /** Runs work with a lifetime of its own, which ends when the work does. */
  async within(work) {
    const inner = new Lifetime();
    this.own(() => inner.close());
    try {
      return await work(inner);
    } finally {
      await inner.close();
    }
  }

  /** Whether it has begun to end. */
  get isClosing() {
    return this.#closing !== undefined;
  }

  /** Ends everything. May be called again. */
  close() {
    return (this.#closing ??= this.#close());
  }

  async #close() {
    for (const end of this.#ends.reverse()) {
      try {
        await end();
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/** A lifetime that ends when the terminal or the system asks this process to end. */
export function lifetimeOfProcess() {
  const lifetime = new Lifetime();
  for (const [signal, number] of Object.entries({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1 })) {
    process.once(signal, () => {
      console.error(`\nstopped by ${signal}: ending what was started`);
      void lifetime.close().then(() => process.exit(128 + number));
    });
  }
  return lifetime;
}
