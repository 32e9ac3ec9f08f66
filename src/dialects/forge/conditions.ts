/** Conditions of transactions, on the members of the object that a key holds. */
import { isLive, type Entry } from "../../protocol/entry.ts";
import { utf8 } from "../../protocol/values.ts";
import { ForgeError } from "./errors.ts";
import type { Condition, Conditions } from "./requests.ts";

type Test = (actual: unknown, values: readonly unknown[]) => boolean;

const ordered =
  (holds: (order: number) => boolean): Test =>
  (actual, [value]) => {
    const order = orderOf(actual, value);
    return order !== undefined && holds(order);
  };

const equal: Test = (actual, [value]) => actual === value;
const contains: Test = (actual, [value]) =>
  Array.isArray(actual)
    ? actual.includes(value)
    : typeof actual === "string" && typeof value === "string" && actual.includes(value);
const exists: Test = (actual) => actual !== undefined;
const not =
  (test: Test): Test =>
  (actual, values) =>
    !test(actual, values);
const atLeast = ordered((order) => order >= 0);
const atMost = ordered((order) => order <= 0);

/** A member that is not there is undefined, and equal to nothing. */
const tests: ReadonlyMap<string, Test> = new Map<string, Test>([
  ["EQUAL_TO", equal],
  ["NOT_EQUAL_TO", not(equal)],
  ["EXISTS", exists],
  ["NOT_EXISTS", not(exists)],
  ["GREATER_THAN", ordered((order) => order > 0)],
  ["GREATER_THAN_EQUAL_TO", atLeast],
  ["LESS_THAN", ordered((order) => order < 0)],
  ["LESS_THAN_EQUAL_TO", atMost],
  ["BETWEEN", (actual, [low, high]) => atLeast(actual, [low]) && atMost(actual, [high])],
  [
    "BEGINS_WITH",
    (actual, [value]) =>
      typeof actual === "string" && typeof value === "string" && actual.startsWith(value),
  ],
  ["CONTAINS", contains],
  ["NOT_CONTAINS", not(contains)],
]);

/** Numbers have an order, and texts have one; undefined for all else. */
function orderOf(actual: unknown, value: unknown): number | undefined {
  const isOrdered =
    (typeof actual === "number" && typeof value === "number") ||
    (typeof actual === "string" && typeof value === "string");
  if (!isOrdered) return undefined;
  return actual === value ? 0 : actual < value ? -1 : 1;
}

/**
 * Checks that conditions can be understood.
 *
 * @throws ForgeError `INVALID_FILTER_CONDITION`, `INVALID_FILTER_VALUES`
 */
export function checkConditions(conditions: Conditions): void {
  for (const { condition, values } of listOf(conditions)) {
    if (!tests.has(condition)) {
      throw new ForgeError("INVALID_FILTER_CONDITION", `there is no condition "${condition}"`);
    }
    const wanted = condition === "BETWEEN" ? 2 : 1;
    if (values.length !== wanted) {
      throw new ForgeError(
        "INVALID_FILTER_VALUES",
        `${condition} wants ${wanted} ${wanted === 1 ? "value" : "values"}, not ${values.length}`,
      );
    }
  }
}

/** Whether conditions hold for what a key holds; for a key that is not there, none of its members exists. */
export function hold(conditions: Conditions, latest: Entry | undefined): boolean {
  const members = membersOf(latest);
  const holds = ({ property, condition, values }: Condition): boolean =>
    tests.get(condition)!(Object.hasOwn(members, property) ? members[property] : undefined, values);
  return "and" in conditions ? conditions.and.every(holds) : conditions.or.some(holds);
}

function listOf(conditions: Conditions): readonly Condition[] {
  return "and" in conditions ? conditions.and : conditions.or;
}

function membersOf(latest: Entry | undefined): Record<string, unknown> {
  if (!isLive(latest) || latest.valueType === "text" || latest.valueType === "bytes") return {};
  try {
    const value: unknown = JSON.parse(utf8(latest.value) ?? "null");
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}
