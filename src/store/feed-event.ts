import type { Entry } from "../protocol/entry.ts";
import type { BatchPart } from "./stored-message.ts";

/** A change of a key, with the subject suffix under which it is stored. */
export interface Change extends Entry {
  suffix: string;
  /** A delete that was found out only after the fact: its revision says when it was noticed, not when it happened. */
  isLate?: true;
}

/** What became visible at once: one change, or all changes of a transaction. */
export interface FeedEvent {
  readonly changes: readonly Change[];
  /** Sequence of its last message, those included that nobody sees. */
  readonly revision: number;
}

/**
 * Makes events of messages, in their order. The messages of a transaction stand one behind the other in the stream, and wait
 * here for the last of them.
 */
export class EventBuilder {
  readonly #emit: (event: FeedEvent) => void;
  #id: string | undefined;
  #changes: Change[] = [];
  #revision = 0;

  /** @param emit takes each event as it becomes complete */
  constructor(emit: (event: FeedEvent) => void) {
    this.#emit = emit;
  }

  /** Sequence of the last message of a transaction that waits for more; undefined when none does. */
  get waitsBehind(): number | undefined {
    return this.#id === undefined ? undefined : this.#revision;
  }

  /**
   * Takes the next message.
   *
   * @param change what it says; undefined when nobody is to see it
   * @param batch its part in a transaction
   */
  add(revision: number, change: Change | undefined, batch: BatchPart | undefined): void {
    // What is left of a transaction can lack its end: a later write to the same key removes it.
    if (this.#id !== undefined && this.#id !== batch?.id) this.flush();
    if (batch === undefined) {
      this.#emit({ changes: change === undefined ? [] : [change], revision });
      return;
    }
    this.#id = batch.id;
    this.#revision = revision;
    if (change !== undefined) this.#changes.push(change);
    if (batch.isLast) this.flush();
  }

  /** Emits what waits, as it is. */
  flush(): void {
    if (this.#id === undefined) return;
    const event = { changes: this.#changes, revision: this.#revision };
    this.reset();
    this.#emit(event);
  }

  /** Forgets what waits: it will be read again from its beginning. */
  reset(): void {
    this.#id = undefined;
    this.#changes = [];
  }
}
