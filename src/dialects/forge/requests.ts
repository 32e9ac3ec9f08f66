/** What requests of Forge's clients say, checked. */
import { z } from "zod";
import { parseTtl, type Ttl } from "../../protocol/durations.ts";
import { limits } from "../../protocol/limits.ts";
import { parseWith } from "../../protocol/messages.ts";
import { jsonValue, valueFromJson, type Value } from "../../protocol/values.ts";
import { ForgeError } from "./errors.ts";

/** Forge's limits. Sizes are bytes of JSON without spaces. */
export const forgeLimits = {
  /** Characters. */
  key: 500,
  value: 240 * 1024,
  secret: 128 * 1024,
  /** Arrays and objects inside each other. */
  depth: 31,
  /** Keys of a batch, operations of a transaction. */
  items: 25,
  /** Body of a batch or a transaction. */
  itemsBody: 4 * 1024 * 1024,
  /** Body with one value: escaped in JSON it can be six times as long. */
  body: 6 * 240 * 1024 + 16 * 1024,
  queryDefault: 10,
  queryMost: 100,
} as const;

const metadataFields = z.array(z.enum(["CREATED_AT", "UPDATED_AT", "EXPIRE_TIME"]));
export type MetadataField = z.infer<typeof metadataFields>[number];

const present = z.unknown().refine((value) => value !== undefined, "is missing");
const ttl = z.strictObject({
  value: z.number(),
  unit: z.enum(["SECONDS", "MINUTES", "HOURS", "DAYS"]),
});
// Not strict: the package's own query() writes into the object of options that it is given, which apps use for get() as well.
const readOptions = z.object({ metadataFields: metadataFields.optional() }).optional();
const ttlOptions = z.strictObject({ ttl: ttl.optional() }).optional();
const setOptions = z
  .strictObject({
    ttl: ttl.optional(),
    keyPolicy: z.enum(["OVERRIDE", "FAIL_IF_EXISTS"]).optional(),
    returnValue: z.enum(["PREVIOUS", "LATEST"]).optional(),
    returnMetadataFields: metadataFields.optional(),
  })
  .superRefine((options, context) => {
    if (options.returnValue !== undefined && options.keyPolicy === "FAIL_IF_EXISTS") {
      const message = "does not go together with the keyPolicy FAIL_IF_EXISTS";
      context.addIssue({ code: "custom", path: ["returnValue"], message });
    }
    if (options.returnMetadataFields !== undefined && options.returnValue === undefined) {
      const message = "wants a returnValue";
      context.addIssue({ code: "custom", path: ["returnMetadataFields"], message });
    }
  })
  .optional();

export const getSchema = z.object({ key: z.string(), options: readOptions });
export const setSchema = z.strictObject({ key: z.string(), value: present, options: setOptions });
export const deleteSchema = z.object({ key: z.string() });

const entity = { entityName: z.string().optional() };
/** What has to be right about an item of a batch, so that it can be told what is wrong with the rest of it. */
export const itemSchema = z.looseObject({ key: z.string(), ...entity });
export const batchGetSchema = getSchema.extend(entity);
export const batchSetSchema = z.strictObject({
  key: z.string(),
  value: present,
  options: ttlOptions,
  ...entity,
});
export const batchDeleteSchema = deleteSchema.extend(entity);

const condition = z.strictObject({
  property: z.string(),
  condition: z.string(),
  values: z.array(z.unknown()),
});
export type Condition = z.infer<typeof condition>;
const conditions = z.union([
  z.strictObject({ and: z.array(condition).min(1) }),
  z.strictObject({ or: z.array(condition).min(1) }),
]);
export type Conditions = z.infer<typeof conditions>;
const conditional = { ...entity, conditions: conditions.optional() };
export const transactionSchema = z.strictObject({
  set: z.array(batchSetSchema.extend(conditional)).optional(),
  delete: z.array(z.strictObject({ key: z.string(), ...conditional })).optional(),
  check: z.array(z.strictObject({ key: z.string(), ...entity, conditions })).optional(),
});

export const querySchema = z.strictObject({
  limit: z.number().optional(),
  after: z.string().optional(),
  where: z.array(condition).optional(),
  options: readOptions,
});

/** @throws KvError `invalid_request` */
export function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  return parseWith(schema, body);
}

const grammar = /^(?!\s+$)[a-zA-Z0-9:._\s#-]+$/;

/** Whether Forge's clients can name a key. */
export function isForgeKey(key: string): boolean {
  return key.length <= forgeLimits.key && grammar.test(key);
}

/** @throws ForgeError `KEY_TOO_SHORT`, `KEY_TOO_LONG`, `INVALID_KEY` */
export function checkKey(key: string): void {
  if (key === "") throw new ForgeError("KEY_TOO_SHORT", "a key has at least one character");
  if (key.length > forgeLimits.key) {
    throw new ForgeError("KEY_TOO_LONG", `a key has at most ${forgeLimits.key} characters`);
  }
  if (!grammar.test(key)) {
    throw new ForgeError("INVALID_KEY", `the key does not match ${String(grammar)}`);
  }
  // White space of other scripts has three bytes each.
  if (Buffer.byteLength(key) > limits.key) {
    throw new ForgeError("KEY_TOO_LONG", `a key has at most ${limits.key} bytes in UTF-8`);
  }
}

/**
 * A value, ready to be stored: a string as text, as all other clients store it, anything else as JSON.
 *
 * @throws ForgeError `MAX_DEPTH`, `MAX_SIZE`
 */
export function valueOf(value: unknown): Value {
  const stored = jsonOf(value, forgeLimits.value);
  // Half of a surrogate pair can be said in JSON alone.
  return typeof value === "string" && value.isWellFormed() ? valueFromJson(value, "text") : stored;
}

/**
 * The JSON of a value.
 *
 * @throws ForgeError `MAX_DEPTH`, `MAX_SIZE`
 */
export function jsonOf(value: unknown, limit: number): Value {
  checkDepth(value);
  const stored = jsonValue(value);
  if (stored.bytes.length > limit) {
    throw new ForgeError(
      "MAX_SIZE",
      `the value has ${stored.bytes.length} bytes, ${limit} are the most`,
      { limit },
    );
  }
  return stored;
}

/** Level by level: one that calls itself would run out of stack on hostile values. */
function checkDepth(value: unknown): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > forgeLimits.depth) {
      throw new ForgeError(
        "MAX_DEPTH",
        `the value has more than ${forgeLimits.depth} arrays and objects inside each other`,
        { limit: forgeLimits.depth },
      );
    }
    level = level.filter(isNested).flatMap((each): unknown[] => Object.values(each));
  }
}

function isNested(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** The option of the store for a time to live. @throws KvError `invalid_ttl` */
export function ttlOf(time: Ttl | undefined): { ttl?: number } {
  return time === undefined ? {} : { ttl: parseTtl(time) };
}
