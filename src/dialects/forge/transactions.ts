/** Several keys at once, all or none. */
import { isLive, type Entry } from "../../protocol/entry.ts";
import type { Buckets } from "../../store/buckets.ts";
import { transactOn, type Unconditional } from "../../store/transaction.ts";
import { checkDistinct } from "./batches.ts";
import { checkConditions, hold } from "./conditions.ts";
import { entitiesNotSupported, ForgeError } from "./errors.ts";
import type { Handler } from "./keys.ts";
import {
  checkKey,
  forgeLimits,
  parse,
  transactionSchema,
  ttlOf,
  valueOf,
  type Conditions,
} from "./requests.ts";

interface Step {
  key: string;
  conditions: Conditions | undefined;
  make(latest: Entry | undefined): Unconditional;
}

/** Carries out transactions. Nothing is written unless all conditions hold for what is there at that moment. */
export function transactions(buckets: Buckets): Handler {
  return async ({ bucket: name, body, grants }) => {
    const request = parse(transactionSchema, body);
    const { set = [], delete: removed = [], check = [] } = request;
    const items = [...set, ...removed, ...check];
    checkItems(items);
    for (const { key } of set) grants.require("write", name, key);
    for (const { key } of removed) grants.require("delete", name, key);
    // Whether a condition holds tells what is there.
    for (const { key, conditions } of items) {
      if (conditions !== undefined) grants.require("read", name, key);
    }
    const steps: Step[] = [
      ...set.map(({ key, conditions, value: given, options }) => {
        const value = valueOf(given);
        const ttl = ttlOf(options?.ttl);
        const make = (latest: Entry | undefined): Unconditional => ({
          op: "put",
          key,
          value,
          ...ttl,
          ...(isLive(latest) ? { firstCreatedAt: latest.firstCreatedAt ?? latest.createdAt } : {}),
        });
        return { key, conditions, make };
      }),
      ...removed.map((item) => stepOf("delete", item)),
      ...check.map((item) => stepOf("check", item)),
    ];
    const plan = (latest: readonly (Entry | undefined)[]): Unconditional[] =>
      steps.map((step, i) => {
        if (step.conditions !== undefined && !hold(step.conditions, latest[i])) {
          throw new ForgeError(
            "CONDITIONAL_CHECK_FAILED",
            `the conditions on key "${step.key}" do not hold`,
            { key: step.key },
          );
        }
        return step.make(latest[i]);
      });
    const keys = steps.map(({ key }) => key);
    if (set.length > 0) {
      await buckets.write(name, (bucket) => transactOn(bucket, keys, plan));
    } else if (
      (await buckets.read(name, (bucket) => transactOn(bucket, keys, plan))) === undefined
    ) {
      // There is no bucket, so there is nothing to delete, but conditions may ask for something.
      plan([]);
    }
    return undefined;
  };
}

function stepOf(
  op: "delete" | "check",
  { key, conditions }: { key: string; conditions?: Conditions | undefined },
): Step {
  return { key, conditions, make: () => ({ op, key }) };
}

interface Item {
  key: string;
  entityName?: string | undefined;
  conditions?: Conditions | undefined;
}

function checkItems(items: readonly Item[]): void {
  if (items.length === 0)
    throw new ForgeError("EMPTY_TRANSACTION", "the transaction has no operations");
  if (items.length > forgeLimits.items) {
    throw new ForgeError(
      "TRANSACTION_LIMIT_EXCEEDED",
      `a transaction has at most ${forgeLimits.items} operations, not ${items.length}`,
    );
  }
  for (const { key, entityName, conditions } of items) {
    if (entityName !== undefined) throw entitiesNotSupported();
    checkKey(key);
    if (conditions !== undefined) checkConditions(conditions);
  }
  checkDistinct(items);
}
