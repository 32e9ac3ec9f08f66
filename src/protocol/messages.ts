/**
 * Schemas of what travels over HTTP and WebSocket. Requests are validated by them, types are inferred from them.
 */
import { z } from "zod";
import type { Encoding, DeleteReason, Operation } from "./entry.ts";
import { KvError, type ErrorCode } from "./errors.ts";
import { limits } from "./limits.ts";

const description = z.string().max(limits.description);
// Zero means "no limit", as users of NATS know it.
const seconds = z
  .int()
  .min(0)
  .max(limits.ttlMax / 1000);
const valueSize = z.int().min(0).max(limits.maxValueSize);
const bytes = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const history = z.int().min(1).max(limits.history);
const replicas = z.int().min(1).max(5);

/** What can be changed after a bucket was created. */
const mutableSettings = {
  description: description.optional(),
  ttl_seconds: seconds.optional(),
  max_value_size: valueSize.optional(),
  max_bytes: bytes.optional(),
  history: history.optional(),
  replicas: replicas.optional(),
};

export const createBucketSchema = z.strictObject({
  name: z.string(),
  ...mutableSettings,
  storage: z.enum(["file", "memory"]).optional(),
  compression: z.boolean().optional(),
});
export type CreateBucketRequest = z.infer<typeof createBucketSchema>;

export const updateBucketSchema = z.strictObject(mutableSettings);
export type UpdateBucketRequest = z.infer<typeof updateBucketSchema>;

/** A time to live, in any notation that `parseTtl` reads. */
export const ttlSchema = z.union([
  z.number(),
  z.string(),
  z.strictObject({ value: z.number(), unit: z.enum(["SECONDS", "MINUTES", "HOURS", "DAYS"]) }),
]);
const safeInteger = z.int();

export const incrementSchema = z.strictObject({
  by: safeInteger.optional(),
  initial: safeInteger.optional(),
  ttl: ttlSchema.optional(),
});

export const touchSchema = z.strictObject({ ttl: ttlSchema });

const encoding = z.enum(["json", "text", "base64"]).optional();
/** It comes out of a JSON body, so it is JSON. Taken as it is: a schema of JSON would drop members called `__proto__`. */
const jsonValue = z.unknown().refine((value) => value !== undefined, "is missing");
const operation = z.discriminatedUnion("op", [
  z.strictObject({
    op: z.literal("put"),
    key: z.string(),
    value: jsonValue,
    encoding,
    ttl: ttlSchema.optional(),
  }),
  z.strictObject({
    op: z.literal("create"),
    key: z.string(),
    value: jsonValue,
    encoding,
    ttl: ttlSchema.optional(),
  }),
  z.strictObject({
    op: z.literal("update"),
    key: z.string(),
    value: jsonValue,
    encoding,
    revision: z.int().min(0),
    ttl: ttlSchema.optional(),
  }),
  z.strictObject({ op: z.literal("delete"), key: z.string(), revision: z.int().min(0).optional() }),
  z.strictObject({ op: z.literal("purge"), key: z.string(), revision: z.int().min(0).optional() }),
  z.strictObject({ op: z.literal("check"), key: z.string(), revision: z.int().min(0) }),
]);

export const transactionSchema = z.strictObject({
  operations: z.array(operation).min(1).max(limits.items),
});

/** A writer's own name for what a value is. */
export const valueTypeName = /^[A-Za-z0-9_-]{1,32}$/;

export const batchSchema = z.strictObject({
  get: z.array(z.string()).optional(),
  set: z
    .array(
      z.strictObject({
        key: z.string(),
        value: jsonValue,
        encoding,
        ttl: ttlSchema.optional(),
        description: z.string().max(limits.keyDescription).optional(),
        value_type: z
          .string()
          .regex(valueTypeName, 'is a name of 1 to 32 letters, digits, "_" and "-"')
          .optional(),
      }),
    )
    .optional(),
  delete: z.array(z.string()).optional(),
});

export const compactSchema = z.strictObject({ older_than: ttlSchema.optional() });

export const restoreSchema = z.strictObject({ revision: z.int().min(1) });

export const environmentSchema = z
  .string()
  .regex(
    new RegExp(`^[A-Za-z0-9_-]{1,${limits.environment}}$`),
    `an environment's name is 1 to ${limits.environment} letters, digits, "_" and "-"`,
  );

/**
 * The environment that a request is about. Some clients send `current` for the one that their key belongs to.
 *
 * @param header `X-Ironflow-Environment`
 * @param own the environment of whoever asks
 * @throws KvError `invalid_request`
 */
export function environmentOf(header: string | undefined, own = "default"): string {
  if (header === undefined || header === "" || header === "current") return own;
  return parseWith(environmentSchema, header);
}

const utf8Length = (text: string): number => new TextEncoder().encode(text).length;

/** The name of a config document or a secret. It is a segment of a path, where `.` and `..` would not arrive. */
const nameSchema = z
  .string()
  .refine((name) => name !== "", "must not be empty")
  .refine((name) => utf8Length(name) <= limits.key, `has at most ${limits.key} bytes in UTF-8`)
  .refine(
    (name) => name.isWellFormed() && !/[\u0000-\u001f\u007f-\u009f]/.test(name),
    "must be valid Unicode without control characters",
  )
  .refine((name) => name !== "." && name !== "..", 'must not be "." or ".."');
const namedSchema = z.strictObject({ name: nameSchema });

/** Checks the name of a config document or a secret. @throws KvError `invalid_request` */
export function parseName(name: string): string {
  return parseWith(namedSchema, { name }).name;
}

const secretValue = z
  .string()
  // Half of a surrogate pair would come back as another character.
  .refine((value) => value.isWellFormed(), "must be valid Unicode")
  .refine((value) => utf8Length(value) <= limits.secret, `has at most ${limits.secret} bytes`);
const secretDescription = z
  .string()
  .max(limits.keyDescription)
  .refine((text) => text.isWellFormed(), "must be valid Unicode")
  .optional();

export const createSecretSchema = z.strictObject({
  name: nameSchema,
  value: secretValue,
  description: secretDescription,
});
export const setSecretSchema = z.strictObject({
  value: secretValue,
  description: secretDescription,
});
export const changeSecretSchema = z.strictObject({
  name: nameSchema.optional(),
  description: secretDescription,
});

/** A config document in a listing. Its names are those of the clients that know these routes. */
export interface ConfigInfo {
  name: string;
  revision: number;
  updatedAt: string;
}

export interface ConfigList {
  configs: ConfigInfo[];
}

/** A config document as the API shows it. */
export interface ConfigBody extends ConfigInfo {
  data: Record<string, unknown>;
}

/** What is known of a secret beside its value. */
export interface SecretInfo {
  name: string;
  revision: number;
  description?: string;
  created_at: string;
  /** When the value was set; neither a new name or description nor a new encryption key changes it. */
  updated_at: string;
  /** When it goes by itself. */
  expires_at?: string;
}

/** A secret, revealed. */
export interface SecretValue {
  name: string;
  value: string;
  revision: number;
}

/** A bucket as the API shows it. */
export interface BucketInfo {
  name: string;
  description?: string;
  ttl_seconds?: number;
  max_value_size?: number;
  max_bytes?: number;
  history: number;
  replicas: number;
  storage: "file" | "memory";
  compression: boolean;
  /** All stored revisions, tombstones included. This and the next two are left out for those who may not read all keys. */
  values?: number;
  /** Live keys. */
  keys?: number;
  /** Size on the server, in bytes. */
  bytes?: number;
  created_at: string;
}

export interface BucketList {
  buckets: BucketInfo[];
  count: number;
}

/** One revision of a key as the API shows it. A delete has no value. */
export interface EntryBody {
  key: string;
  value?: unknown;
  encoding?: Encoding;
  revision: number;
  created_at: string;
  operation: Operation;
  reason?: DeleteReason;
  expires_at?: string;
  /** When the key was first written, where its writers kept that. */
  first_created_at?: string;
  content_type?: string;
  description?: string;
  value_type?: string;
}

export interface PutResult {
  revision: number;
  created_at: string;
  expires_at?: string;
}

export interface KeyList {
  keys: string[];
  count: number;
  next_cursor?: string;
}

export interface HistoryList {
  entries: EntryBody[];
  count: number;
}

/** Which part of a bucket a watch delivers: current values and changes, changes only, or every stored revision and changes. */
export const includes = ["snapshot", "updates", "history"] as const;
export type Include = (typeof includes)[number];

/** A change of one key, without what says whose it is. */
export interface ChangeBody extends EntryBody {
  /** Bytes of the value, in a watch without values. */
  size?: number;
  /**
   * The gateway found out late that the key is gone. The revision says when it was noticed, and other changes may have been
   * delivered with higher ones before.
   */
  inferred?: true;
}

/** What any frame of a gateway can have. */
interface ServerFrame {
  /** Which watch it is for; on a multiplexed socket only, where it comes first. */
  id?: string;
  /** So many older frames were replaced by newer ones since the frame before, because the socket did not keep up. */
  conflated?: number;
}

/** A change of one key. */
export interface UpdateFrame extends ServerFrame, ChangeBody {
  type: "kv_update";
  bucket: string;
}

/** Changes that were made at once, all or none: those of them that the watch wants. */
export interface TransactionFrame extends ServerFrame {
  type: "kv_transaction";
  bucket: string;
  /** The last revision of the transaction, also when the watch does not want the change that has it. */
  revision: number;
  events: ChangeBody[];
}

/** The snapshot or the catch-up is complete; everything that follows is live. */
export interface ReadyFrame extends ServerFrame {
  type: "kv_ready";
  /** Opaque: where in the bucket's life the watch stands. */
  position: string;
  /** Entries sent since the watch began. */
  count: number;
}

/** Everything up to a position was delivered, although there may have been nothing to deliver. */
export interface BookmarkFrame extends ServerFrame {
  type: "kv_bookmark";
  position: string;
}

/** Why a watch cannot go on where it was. */
export const resetReasons = [
  "epoch_changed",
  "too_old",
  "future",
  "filter_changed",
  "lagged",
] as const;
export type ResetReason = (typeof resetReasons)[number];

/** A snapshot follows, and what it does not name is gone. */
export interface ResetFrame extends ServerFrame {
  type: "kv_reset";
  reason: ResetReason;
}

/** The gateway has lost touch with JetStream; `kv_ready` follows when it is current again. */
export interface StaleFrame extends ServerFrame {
  type: "kv_stale";
  reason: string;
}

/** The watch ends. Of a socket with one watch the close follows; on a multiplexed one the others go on. */
export interface ErrorFrame extends ServerFrame {
  type: "error";
  code: ErrorCode;
  message: string;
  /** Whether the same watch may succeed later. */
  retryable: boolean;
}

/** A config document as it is now; the marks of its watch are those of other watches. */
export interface ConfigUpdateFrame extends ServerFrame, ConfigInfo {
  type: "config_update";
  /** Null when there is no document any more. */
  data: unknown;
}

/** The answer to `unwatch`: nothing with this id follows. */
export interface UnwatchedFrame extends ServerFrame {
  id: string;
  type: "unwatched";
}

/** What a gateway sends. */
export type WatchFrame =
  | UpdateFrame
  | TransactionFrame
  | ReadyFrame
  | BookmarkFrame
  | ResetFrame
  | StaleFrame
  | ErrorFrame
  | UnwatchedFrame;

/** What a client may send over a multiplexed socket, apart from the id, which is checked before. */
export const watchSchema = z.strictObject({
  type: z.literal("watch"),
  id: z.string(),
  bucket: z.string(),
  keys: z.array(z.string()).optional(),
  include: z.enum(includes).optional(),
  since: z.string().optional(),
  values: z.boolean().optional(),
});
export const unwatchSchema = z.strictObject({ type: z.literal("unwatch"), id: z.string() });
export type WatchRequest = z.infer<typeof watchSchema>;
export type UnwatchRequest = z.infer<typeof unwatchSchema>;
export type ClientFrame = WatchRequest | UnwatchRequest;

/**
 * Validates a value by a schema.
 *
 * @throws KvError `invalid_request` that names the first field that does not fit
 */
export function parseWith<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  if (issue.code === "unrecognized_keys") {
    const names = issue.keys.map((name) => JSON.stringify(name)).join(", ");
    throw new KvError("invalid_request", `unknown field ${names}`, {
      details: { fields: issue.keys },
    });
  }
  const field = issue.path.map(String).join(".");
  const isTtl = issue.path.at(-1) === "ttl_seconds";
  throw new KvError(
    isTtl ? "invalid_ttl" : "invalid_request",
    field === "" ? sentence(issue) : `"${field}" ${sentence(issue)}`,
    {
      ...(field === "" ? {} : { details: { field } }),
    },
  );
}

/** What is wrong with a value, to be read behind the name of its field. */
function sentence(issue: z.core.$ZodIssue): string {
  if (issue.input === undefined && issue.code !== "custom") return "is missing";
  switch (issue.code) {
    case "too_big":
      return `is at most ${issue.maximum}`;
    case "too_small":
      return `is at least ${issue.minimum}`;
    case "invalid_type":
      return `is of type ${issue.expected}`;
    case "invalid_value":
      return `is one of ${issue.values.map(String).join(", ")}`;
    case "invalid_union":
      return issue.discriminator === undefined
        ? "is not of a form that is understood"
        : "is not one that is known";
    default:
      return issue.message;
  }
}
