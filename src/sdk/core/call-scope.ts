import { JetbucketError } from "./errors.ts";
import type { CallOptions } from "./options.ts";

/** Timers take 31 bits; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The time that a call may take: ends by its timeout or by the caller's signal, whichever is first. */
export class CallScope {
  readonly #controller = new AbortController();
  readonly #deadline: number;
  readonly #caller: AbortSignal | undefined;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ signal, timeoutMs = 0 }: CallOptions) {
    if (!(timeoutMs >= 0)) throw new TypeError("timeoutMs must be a number of milliseconds");
    const bounded = timeoutMs > 0 && timeoutMs <= LONGEST_TIMER_MS;
    this.#deadline = bounded ? Date.now() + timeoutMs : Infinity;
    this.#caller = signal;
    if (signal?.aborted === true) this.#onAbort();
    signal?.addEventListener("abort", this.#onAbort);
    if (bounded) {
      this.#timer = setTimeout(() => {
        this.#controller.abort(
          new JetbucketError("timeout", `no answer within ${timeoutMs} ms`, { retryable: true }),
        );
      }, timeoutMs);
    }
  }

  /** Aborts when the time is over; its reason is the error to reject with. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Milliseconds left. */
  get remaining(): number {
    return this.#deadline - Date.now();
  }

  /** Waits for something that does not know of signals, as long as there is time. */
  race<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this;
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason as JetbucketError);
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort);
      void promise
        .then(resolve, reject)
        .finally(() => signal.removeEventListener("abort", onAbort));
    });
  }

  /** Waits; rejects when the time is over before. */
  async sleep(ms: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      await this.race(new Promise((resolve) => (timer = setTimeout(resolve, ms))));
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lets go of timer and signal. */
  end(): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener("abort", this.#onAbort);
  }

  readonly #onAbort = (): void => {
    this.#controller.abort(
      new JetbucketError("aborted", "the call was aborted", { cause: this.#caller?.reason }),
    );
  };
}
