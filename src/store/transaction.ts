import { isLive, type Entry } from "../protocol/entry.ts";
import { KvError } from "../protocol/errors.ts";
import type { Value } from "../protocol/values.ts";
import type { Bucket } from "./bucket.ts";
import { checkCondition, type Condition } from "./conditions.ts";
import { isWrongRevision } from "./errors.ts";
import { pause } from "./pause.ts";
import { turnsOf } from "./turns.ts";
import type { Message } from "./requests.ts";
import { inWholeSeconds, type ValueExtras } from "./stored-message.ts";

/** One step of a transaction. All happen, or none. */
export type Operation =
  | ({ op: "put"; key: string; value: Value } & OperationExtras)
  /** The key must not exist. */
  | ({ op: "create"; key: string; value: Value } & OperationExtras)
  /** The key must stand at a revision. */
  | ({ op: "update"; key: string; value: Value; revision: number } & OperationExtras)
  | { op: "delete" | "purge"; key: string; revision?: number }
  /** Writes nothing: the key must stand at a revision, or, with 0, not exist. */
  | { op: "check"; key: string; revision: number };

type OperationExtras = Pick<ValueExtras, "ttl" | "firstCreatedAt">;

export interface Committed {
  /** The new revision of every key that was written. */
  revisions: Map<string, number>;
}

/** Attempts to get through when keys that have to be absent have tombstones that come and go. */
const ATTEMPTS = 32;

/**
 * Carries out operations on several keys, all or none: readers and watchers see every one of them, or none.
 *
 * @throws KvError `key_exists` or `revision_mismatch` for the first operation whose condition does not hold, with `index`, `op`,
 * `key` and `current_revision` in its details; `unsupported` when the server is too old; as `Bucket.put` otherwise
 */
export async function transact(
  bucket: Bucket,
  operations: readonly Operation[],
): Promise<Committed> {
  const conditions = operations.map(conditionOf);
  const expected = conditions.map((condition) =>
    condition?.kind === "revision" ? condition.revision : condition && 0,
  );
  if (operations.every(({ op }) => op === "check")) {
    await checkTogether(bucket, operations, conditions);
    return { revisions: new Map() };
  }
  for (let attempt = 1; ; attempt++) {
    const { messages, places } = messagesOf(bucket, operations, expected);
    try {
      const first = await bucket.publishBatch(messages);
      return { revisions: new Map(Array.from(places, ([key, place]) => [key, first + place])) };
    } catch (error) {
      if (!isWrongRevision(error)) throw error;
      const latest = await Promise.all(
        operations.map(async ({ key }, i) =>
          conditions[i] === undefined ? undefined : await bucket.latest(key),
        ),
      );
      operations.forEach((operation, index) =>
        checkOperation(operation, index, conditions[index], latest[index]),
      );
      // All conditions hold: a tombstone stands where a key has to be absent, or somebody else came and went.
      if (attempt === ATTEMPTS) throw tooManyRaces(error);
      conditions.forEach((condition, i) => {
        if (condition !== undefined) expected[i] = latest[i]?.revision ?? 0;
      });
    }
  }
}

/**
 * Carries out what is made of the entries that some keys hold, all or none, again and again until nobody else wrote to any of
 * them in between.
 *
 * @param make gets the latest message of each key, tombstones included, and gives one operation for each, in their order; none
 * of them says a revision itself, for each depends on what was there. May throw to give up
 * @throws KvError as {@link transact}; `store_unavailable` when other writers were faster too many times
 * @example
 * await transactOn(bucket, ["a", "b"], ([a, b]) => [put("a", b), put("b", a)]);
 */
export async function transactOn(
  bucket: Bucket,
  keys: readonly string[],
  make: (latest: readonly (Entry | undefined)[]) => readonly Unconditional[],
): Promise<Committed> {
  return turnsOf(bucket).takeAll(keys, () => transactUndisturbed(bucket, keys, make));
}

/** Tries again until nobody came between. */
async function transactUndisturbed(
  bucket: Bucket,
  keys: readonly string[],
  make: (latest: readonly (Entry | undefined)[]) => readonly Unconditional[],
): Promise<Committed> {
  for (let attempt = 1; ; attempt++) {
    const latest = await Promise.all(keys.map((key) => bucket.latest(key)));
    const operations = make(latest).map((operation, i) => conditional(operation, latest[i]));
    try {
      return await transact(bucket, operations);
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (attempt === ATTEMPTS) throw tooManyRaces(error);
      await pause(attempt);
    }
  }
}

/** A step whose condition is what it was made from. */
export type Unconditional =
  | ({ op: "put"; key: string; value: Value } & OperationExtras)
  | { op: "delete" | "check"; key: string };

function conditional(operation: Unconditional, latest: Entry | undefined): Operation {
  const revision = isLive(latest) ? latest.revision : 0;
  if (operation.op === "put")
    return revision === 0
      ? { ...operation, op: "create" }
      : { ...operation, op: "update", revision };
  // There is nothing to delete: it is enough that this is still so.
  return revision === 0
    ? { op: "check", key: operation.key, revision }
    : { ...operation, revision };
}

function isConflict(error: unknown): boolean {
  return (
    error instanceof KvError && (error.code === "revision_mismatch" || error.code === "key_exists")
  );
}

/**
 * Checks conditions without a write that they could travel with. The keys are read one by one, so they are read until they stand
 * at the same revisions twice: then they all stood so at one moment in between.
 */
async function checkTogether(
  bucket: Bucket,
  operations: readonly Operation[],
  conditions: readonly (Condition | undefined)[],
): Promise<void> {
  let before: (number | undefined)[] | undefined;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const latest = await Promise.all(operations.map(({ key }) => bucket.latest(key)));
    operations.forEach((operation, i) => checkOperation(operation, i, conditions[i], latest[i]));
    const now = latest.map((entry) => entry?.revision);
    if (now.length === 1 || before?.every((revision, i) => revision === now[i]) === true) return;
    before = now;
  }
  throw tooManyRaces();
}

function tooManyRaces(cause?: unknown): KvError {
  return new KvError("store_unavailable", "other writers were faster too many times: try again", {
    retryAfter: 1,
    cause,
  });
}

function conditionOf(operation: Operation): Condition | undefined {
  if (operation.op === "create") return { kind: "absent" };
  if (operation.op === "put" || operation.revision === undefined) return undefined;
  return { kind: "revision", revision: operation.revision };
}

function checkOperation(
  { op, key }: Operation,
  index: number,
  condition: Condition | undefined,
  latest: Entry | undefined,
): void {
  try {
    checkCondition(key, condition, latest);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    throw new KvError(error.code, `operation ${index} (${op}): ${error.message}`, {
      details: { ...error.details, index, op, key },
      cause: error,
    });
  }
}

/**
 * The messages of a transaction, and at which place each written key stands among them.
 *
 * A message carries one condition, its own key's or another's. So a check rides on a write that has none; when there are more
 * checks than such writes, the others get carriers, which nobody ever sees.
 */
function messagesOf(
  bucket: Bucket,
  operations: readonly Operation[],
  expected: readonly (number | undefined)[],
): { messages: Message[]; places: Map<string, number> } {
  const messages: Message[] = [];
  const places = new Map<string, number>();
  const free: Message[] = [];
  operations.forEach((operation, i) => {
    if (operation.op === "check") return;
    const revision = expected[i];
    const message = !("value" in operation)
      ? bucket.messages.tombstone(operation.key, operation.op === "purge", revision)
      : bucket.messages.value(
          operation.key,
          operation.value,
          inWholeSeconds(extrasOf(operation)),
          revision,
        );
    places.set(operation.key, messages.length);
    messages.push(message);
    if (revision === undefined) free.push(message);
  });
  operations.forEach((operation, i) => {
    if (operation.op !== "check") return;
    let carrier = free.pop();
    if (carrier === undefined) {
      carrier = bucket.messages.carrier();
      messages.push(carrier);
    }
    bucket.messages.addCheck(carrier, operation.key, expected[i] ?? 0);
  });
  return { messages, places };
}

function extrasOf({ ttl, firstCreatedAt }: OperationExtras): OperationExtras {
  return {
    ...(ttl === undefined ? {} : { ttl }),
    ...(firstCreatedAt === undefined ? {} : { firstCreatedAt }),
  };
}
