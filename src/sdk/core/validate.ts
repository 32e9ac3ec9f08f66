import { JetbucketError } from "./errors.ts";
import type { StandardIssue, StandardResult, StandardSchemaV1 } from "./standard-schema.ts";

/** Whose value it is, for the error. */
export interface ValueOwner {
  bucket: string;
  key: string;
  /** Undefined for a value that is not stored yet. */
  revision?: number;
}

/**
 * What a schema makes of a value. Answers at once where the schema does: watches need no detour then.
 *
 * @throws JetbucketError `invalid_value`, or rejects with it
 */
export function validate<Out>(
  schema: StandardSchemaV1<unknown, Out>,
  value: unknown,
  owner: ValueOwner,
): Out | Promise<Out> {
  const judge = (result: StandardResult<Out>): Out => {
    if (result.issues === undefined) return result.value;
    throw new JetbucketError(
      "invalid_value",
      `the value of key ${JSON.stringify(owner.key)} does not fit: ${result.issues.map(issueText).join("; ")}`,
      { issues: result.issues, details: { ...owner } },
    );
  };
  const result = schema["~standard"].validate(value);
  return result instanceof Promise ? result.then(judge) : judge(result);
}

function issueText({ message, path = [] }: StandardIssue): string {
  const where = path.map((part) => String(typeof part === "object" ? part.key : part)).join(".");
  return where === "" ? message : `${where}: ${message}`;
}
