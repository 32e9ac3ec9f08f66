import type {
  ChangeBody,
  ReadyFrame,
  TransactionFrame,
  UpdateFrame,
} from "../../protocol/messages.ts";
import { backoffDelay } from "./backoff.ts";
import { errorOf, JetbucketError } from "./errors.ts";
import { inOrder } from "./in-order.ts";
import { throwLater } from "./throw-later.ts";
import { realTimer, type SetTimer } from "./timer.ts";
import { WatchLedger } from "./watch-ledger.ts";
import {
  initialState,
  transition,
  type CloseInfo,
  type WatchEffect,
  type WatchEvent,
  type WatchStateName,
} from "./watch-machine.ts";
import type { WatchRequest, WatchSocket } from "./watch-socket.ts";
import type { ChangeDetails, Watcher, WatchCallbacks } from "./watch.ts";

/** What a watch needs of its client. */
export interface WatchContext<R> {
  request: WatchRequest;
  socket: Pick<WatchSocket, "watch" | "jitter">;
  /** A plain request for the bucket, to learn why no connection comes to be. */
  probe: () => Promise<unknown>;
  /** The revision in a frame, as the caller sees it. Throws or rejects when its value is not what it has to be. */
  read: (body: ChangeBody) => R | Promise<R>;
  /** Ends the watch. */
  signal?: AbortSignal | undefined;
}

/** What a watch calls: what the public callbacks say, and what views are built on. */
export interface WatchSink<R> extends Omit<WatchCallbacks, "onUpdate"> {
  onUpdate(change: R & ChangeDetails): void;
  /** All changes that happened at once were told. */
  onTold?(): void;
}

const reconnectBackoff = { base: 250, cap: 15_000 };
/** Spreads the clients of a draining gateway a little. */
const HANDOVER_JITTER_MS = 100;

/** Carries out what the machine decides. */
export class WatchDriver<R> implements Watcher {
  readonly closed: Promise<CloseInfo>;
  readonly #context: WatchContext<R>;
  readonly #sink: WatchSink<R>;
  readonly #setTimer: SetTimer;
  readonly #ledger: WatchLedger;
  #machine = initialState;
  /** Everything that the caller hears of waits for the changes before it, which may have to be checked. */
  #inOrder = inOrder();
  #stopped = false;
  #cancelTimer: (() => void) | undefined;
  #disconnect: (() => void) | undefined;
  #resolveClosed!: (info: CloseInfo) => void;

  constructor(context: WatchContext<R>, sink: WatchSink<R>, setTimer = realTimer) {
    const { request, signal } = context;
    this.#context = context;
    this.#sink = sink;
    this.#setTimer = setTimer;
    this.#ledger = new WatchLedger(request.include ?? "snapshot");
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    signal?.addEventListener("abort", this.stop);
    // Callbacks may use the watcher, so none is called before the caller has it.
    if (signal?.aborted === true) queueMicrotask(this.stop);
    else this.#connect();
  }

  get state(): WatchStateName {
    return this.#machine.name;
  }

  readonly stop = (): void => {
    this.#stopped = true;
    // What waits is void.
    this.#inOrder = inOrder();
    this.#dispatch({ type: "stopped" });
  };

  readonly #dispatch = (event: WatchEvent): void => {
    const before = this.#machine;
    const [after, effects] = transition(before, event);
    this.#machine = after;
    if (before.name !== after.name) {
      this.#inOrder(() => this.#call("onStateChange", after.name));
    }
    for (const effect of effects) {
      // A callback has stopped the watch: the rest is void.
      if (this.#machine !== after) return;
      this.#perform(effect);
    }
  };

  #perform(effect: WatchEffect): void {
    switch (effect.type) {
      case "connect":
        this.#connect(effect.since);
        return;
      case "disconnect":
        this.#cancelTimer?.();
        this.#disconnect?.();
        return;
      case "wait":
        this.#cancelTimer = this.#setTimer(
          () => this.#dispatch({ type: "retry" }),
          this.#delay(effect.attempt),
        );
        return;
      case "resume":
        this.#ledger.resume();
        return;
      case "start-over":
        this.#ledger.startOver(effect.reason === "epoch_changed");
        return;
      case "deliver":
        this.#deliver(effect.frame);
        return;
      case "complete":
        this.#complete(effect.frame);
        return;
      case "diagnose":
        void this.#diagnose();
        return;
      case "report":
        this.#inOrder(() => this.#call("onError", effect.error));
        return;
      case "finish":
        this.#context.signal?.removeEventListener("abort", this.stop);
        this.#inOrder(() => {
          this.#call("onClose", effect.info);
          this.#resolveClosed(effect.info);
        });
        return;
    }
  }

  #connect(since?: string): void {
    const { request, socket } = this.#context;
    this.#disconnect = socket.watch({ ...request, since }, this.#dispatch);
  }

  #deliver(frame: UpdateFrame | TransactionFrame): void {
    const { bucket, conflated } = frame;
    const isTransaction = frame.type === "kv_transaction";
    const news = (isTransaction ? frame.events : [frame]).filter((body) => this.#ledger.take(body));
    if (news.length === 0) return;
    this.#inOrder(() => {
      // All are checked before the first is told, so that nothing comes between those of a transaction.
      const steps = news.map((body, index) =>
        this.#read(body, {
          bucket,
          ...(body.inferred && { inferred: true }),
          ...(conflated !== undefined && index === 0 && { conflated }),
          ...(isTransaction && {
            transaction: { revision: frame.revision, index, size: news.length },
          }),
        }),
      );
      const tell = (told: (() => void)[]) => {
        for (const step of told) step();
        this.#tell("onTold");
      };
      if (steps.some((step) => step instanceof Promise)) {
        return Promise.all(steps as Promise<() => void>[]).then(tell);
      }
      tell(steps as (() => void)[]);
      return undefined;
    });
  }

  /** Checks a change. What it gives tells the change, or what is wrong with it. */
  #read(body: ChangeBody, details: ChangeDetails): (() => void) | Promise<() => void> {
    const { key, revision } = body;
    const tell = (read: R) => () => this.#tell("onUpdate", { ...read, ...details });
    const report = (thrown: unknown) => () => {
      const of = { bucket: details.bucket, key, revision };
      this.#tell("onError", errorOf(thrown, "invalid_value", `cannot check key "${key}"`, of));
    };
    try {
      const read = this.#context.read(body);
      return read instanceof Promise ? read.then(tell, report) : tell(read);
    } catch (thrown) {
      return report(thrown);
    }
  }

  /** Everything is told: the ledger knows what went unseen. */
  #complete({ position, count }: ReadyFrame): void {
    const { bucket } = this.#context.request;
    const created_at = new Date().toISOString();
    const gone = this.#ledger
      .complete(position)
      .map((where) => ({ ...where, operation: "delete", created_at }) as const);
    this.#inOrder(() => {
      for (const body of gone) {
        (this.#read(body, { bucket, inferred: true }) as () => void)();
      }
      this.#tell("onReady", { position, count });
    });
  }

  async #diagnose(): Promise<void> {
    let error: JetbucketError | undefined;
    try {
      await this.#context.probe();
    } catch (thrown) {
      error = errorOf(thrown, "network", "the server cannot be asked");
    }
    this.#dispatch({ type: "diagnosed", error });
  }

  #delay(attempt: number): number {
    const jitter = this.#context.socket.jitter();
    return attempt === 0
      ? jitter * HANDOVER_JITTER_MS
      : backoffDelay(attempt, jitter, reconnectBackoff);
  }

  /** Tells news, unless the watch was stopped meanwhile. */
  #tell<K extends "onUpdate" | "onTold" | "onReady" | "onError">(
    name: K,
    ...args: Parameters<NonNullable<WatchSink<R>[K]>>
  ): void {
    if (!this.#stopped) this.#call(name, ...args);
  }

  #call<K extends keyof WatchSink<R>>(
    name: K,
    ...args: Parameters<NonNullable<WatchSink<R>[K]>>
  ): void {
    try {
      (this.#sink[name] as ((...args: unknown[]) => void) | undefined)?.(...args);
    } catch (thrown) {
      if (name === "onError" || this.#sink.onError === undefined) {
        throwLater(thrown);
        return;
      }
      this.#call(
        "onError",
        new JetbucketError("callback_failed", `${name} threw`, { cause: thrown }),
      );
    }
  }
}
