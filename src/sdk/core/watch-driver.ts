import type { Include, ReadyFrame, UpdateFrame } from "../../protocol/messages.ts";
import { backoffDelay } from "./backoff.ts";
import type { Revision } from "./entry.ts";
import { errorOf, JetbucketError } from "./errors.ts";
import { inOrder } from "./in-order.ts";
import type { Socket, SocketFactory, SocketHandlers } from "./socket.ts";
import { parseFrames } from "./watch-frames.ts";
import { WatchLedger } from "./watch-ledger.ts";
import {
  initialState,
  transition,
  type CloseInfo,
  type WatchEffect,
  type WatchEvent,
  type WatchStateName,
} from "./watch-machine.ts";
import type { Watcher, WatchCallbacks, WatchOptions } from "./watch.ts";

/** What a watch needs of its client and its platform. */
export interface WatchContext<T> {
  bucket: string;
  /** The address of the watch. */
  url: (include: Include) => string;
  token: () => Promise<string | undefined>;
  openSocket: SocketFactory;
  /** A plain request for the bucket, to learn why no connection comes to be. */
  probe: () => Promise<unknown>;
  /** The revision in a frame, as the caller sees it. Throws or rejects when its value is not what it has to be. */
  read: (frame: UpdateFrame) => Revision<T> | Promise<Revision<T>>;
}

/** What of the world a watch touches beside sockets; replaced in tests. */
export interface WatchWorld {
  setTimer(callback: () => void, ms: number): () => void;
  random(): number;
  now(): Date;
}

const realWorld: WatchWorld = {
  setTimer(callback, ms) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
  now: () => new Date(),
};

const OPEN_TIMEOUT_MS = 10_000;
const reconnectBackoff = { base: 250, cap: 15_000 };
/** Spreads the clients of a draining gateway a little. */
const HANDOVER_JITTER_MS = 100;

/** Carries out what the machine decides. */
export class WatchDriver<T> implements Watcher {
  readonly closed: Promise<CloseInfo>;
  readonly #context: WatchContext<T>;
  readonly #callbacks: WatchCallbacks<T>;
  readonly #include: Include;
  readonly #signal: AbortSignal | undefined;
  readonly #world: WatchWorld;
  readonly #ledger: WatchLedger;
  #machine = initialState;
  /** Everything that the caller hears of waits for the changes before it, which may have to be checked. */
  #inOrder = inOrder();
  #stopped = false;
  #cancelTimer: (() => void) | undefined;
  #socket: Socket | undefined;
  /** Names the current connection; handlers of earlier ones are not listened to. */
  #connection = 0;
  #resolveClosed!: (info: CloseInfo) => void;

  constructor(
    context: WatchContext<T>,
    callbacks: WatchCallbacks<T>,
    { include = "snapshot", signal }: WatchOptions,
    world = realWorld,
  ) {
    this.#context = context;
    this.#callbacks = callbacks;
    this.#include = include;
    this.#signal = signal;
    this.#world = world;
    this.#ledger = new WatchLedger(include);
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    signal?.addEventListener("abort", this.stop);
    // Callbacks may use the watcher, so none is called before the caller has it.
    if (signal?.aborted === true) queueMicrotask(this.stop);
    else void this.#connect(include);
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

  #dispatch(event: WatchEvent): void {
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
  }

  #perform(effect: WatchEffect): void {
    switch (effect.type) {
      case "connect":
        void this.#connect(
          effect.resumes && this.#include === "updates" ? "snapshot" : this.#include,
        );
        return;
      case "disconnect":
        this.#disconnect();
        return;
      case "wait":
        this.#setTimer(this.#delay(effect.attempt), { type: "retry" });
        return;
      case "begin":
        this.#setTimer(undefined);
        this.#ledger.begin();
        return;
      case "deliver":
        if (this.#ledger.take(effect.frame)) this.#inOrder(() => this.#deliver(effect.frame));
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
        this.#signal?.removeEventListener("abort", this.stop);
        this.#inOrder(() => {
          this.#call("onClose", effect.info);
          this.#resolveClosed(effect.info);
        });
        return;
    }
  }

  async #connect(include: Include): Promise<void> {
    const { bucket, url, token, openSocket } = this.#context;
    const connection = ++this.#connection;
    const dispatch = (event: WatchEvent) => {
      if (connection === this.#connection) this.#dispatch(event);
    };
    this.#setTimer(OPEN_TIMEOUT_MS, { type: "timed-out" });
    const handlers: SocketHandlers = {
      onOpen: () => dispatch({ type: "opened" }),
      onMessage: (text) => {
        for (const frame of parseFrames(text)) dispatch({ type: "frame", frame });
      },
      onClose: (code, reason) => dispatch({ type: "lost", code, reason }),
      onRefused: (error) => dispatch({ type: "refused", error }),
    };
    try {
      const bearer = await token();
      // Stopped or given up while the token was on its way.
      if (connection !== this.#connection) return;
      this.#socket = openSocket({ url: url(include), token: bearer }, handlers);
    } catch (thrown) {
      const error = errorOf(thrown, "network", `cannot watch bucket "${bucket}"`);
      dispatch({ type: "refused", error });
    }
  }

  #disconnect(): void {
    this.#connection++;
    this.#setTimer(undefined);
    this.#socket?.close();
    this.#socket = undefined;
  }

  #deliver(frame: UpdateFrame): Promise<void> | undefined {
    const { bucket, read } = this.#context;
    const tell = (revision: Revision<T>) => this.#tell("onUpdate", { ...revision, bucket });
    const report = (thrown: unknown) => {
      this.#tell("onError", errorOf(thrown, "invalid_value", `cannot check key "${frame.key}"`));
    };
    let revision: Revision<T> | Promise<Revision<T>>;
    try {
      revision = read(frame);
    } catch (thrown) {
      report(thrown);
      return undefined;
    }
    if (revision instanceof Promise) return revision.then(tell, report);
    tell(revision);
    return undefined;
  }

  /** Everything is told: the ledger knows what went unseen. */
  #complete({ position, count }: ReadyFrame): void {
    const createdAt = this.#world.now().toISOString();
    const { bucket } = this.#context;
    const gone = this.#ledger.complete(position);
    this.#inOrder(() => {
      for (const { key, revision } of gone) {
        this.#tell("onUpdate", {
          bucket,
          key,
          revision,
          createdAt,
          operation: "delete",
          reason: "delete",
          inferred: true,
        });
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
    const random = this.#world.random();
    return attempt === 0
      ? random * HANDOVER_JITTER_MS
      : backoffDelay(attempt, random, reconnectBackoff);
  }

  /** There is one thing to wait for at a time. */
  #setTimer(ms: number | undefined, event?: WatchEvent): void {
    this.#cancelTimer?.();
    this.#cancelTimer =
      ms === undefined || event === undefined
        ? undefined
        : this.#world.setTimer(() => this.#dispatch(event), ms);
  }

  /** Tells news, unless the watch was stopped meanwhile. */
  #tell<K extends "onUpdate" | "onReady" | "onError">(
    name: K,
    ...args: Parameters<NonNullable<WatchCallbacks<T>[K]>>
  ): void {
    if (!this.#stopped) this.#call(name, ...args);
  }

  #call<K extends keyof WatchCallbacks<T>>(
    name: K,
    ...args: Parameters<NonNullable<WatchCallbacks<T>[K]>>
  ): void {
    try {
      (this.#callbacks[name] as ((...args: unknown[]) => void) | undefined)?.(...args);
    } catch (thrown) {
      if (name === "onError" || this.#callbacks.onError === undefined) {
        queueMicrotask(() => {
          throw thrown;
        });
        return;
      }
      this.#call(
        "onError",
        new JetbucketError("callback_failed", `${name} threw`, { cause: thrown }),
      );
    }
  }
}
