import type { Hono } from "hono";
import { parseTtl } from "../../protocol/durations.ts";
import { KvError } from "../../protocol/errors.ts";
import { assertKey } from "../../protocol/keys.ts";
import { limits } from "../../protocol/limits.ts";
import { batchSchema, parseWith, transactionSchema } from "../../protocol/messages.ts";
import type { KeyVerb } from "../../protocol/scopes.ts";
import { valueFromJson } from "../../protocol/values.ts";
import type { Bucket } from "../../store/bucket.ts";
import type { Buckets } from "../../store/buckets.ts";
import { transact, type Operation } from "../../store/transaction.ts";
import { answerJsonText } from "../answer.ts";
import { keysSubject } from "../auditor.ts";
import { readJson } from "../body.ts";
import { discreet } from "../discreet.ts";
import type { PublicError } from "../errors.ts";
import { entryJson } from "../entry-json.ts";
import { isAbout } from "../note.ts";
import { resource } from "../resource.ts";
import { targetOf } from "../target.ts";

type BatchRequest = ReturnType<typeof batchSchema.parse>;
type SetItem = NonNullable<BatchRequest["set"]>[number];
type OperationRequest = ReturnType<typeof transactionSchema.parse>["operations"][number];

/** Many keys in one request: a batch, item by item, or a transaction, all or none. */
export function batchRoutes(
  app: Hono,
  base: string,
  buckets: Buckets,
  publicError: PublicError,
): void {
  const target = targetOf(base, buckets);

  resource(app, `${base}/:bucket/batch`, {
    POST: async (c) => {
      const { bucketName, grants, open } = target.known(c);
      const request = parseWith(batchSchema, await readJson(c, limits.itemsBody));
      const { get, set, delete: remove } = request;
      const count = (get?.length ?? 0) + (set?.length ?? 0) + (remove?.length ?? 0);
      if (count === 0 || count > limits.items) {
        throw new KvError(
          "invalid_request",
          `a batch has 1 to ${limits.items} items, not ${count}`,
        );
      }
      isAbout(
        c,
        keysSubject([...(get ?? []), ...(set ?? []).map(({ key }) => key), ...(remove ?? [])]),
      );
      const bucket = await open();
      /** Each item's result as JSON text, its error in its place. */
      const each = async <T>(
        verb: KeyVerb,
        items: readonly T[],
        keyOf: (item: T) => string,
        run: (item: T, key: string) => Promise<string>,
      ) => {
        const results = items.map(async (item) => {
          const key = keyOf(item);
          try {
            assertKey(key);
            grants.require(verb, bucketName, key);
            return await run(item, key);
          } catch (error) {
            return `{"key":${JSON.stringify(key)},"error":${JSON.stringify(publicError(c, error).toBody())}}`;
          }
        });
        return `[${(await Promise.all(results)).join(",")}]`;
      };
      const parts = await Promise.all([
        get &&
          each("read", get, String, async (_, key) => entryJson(await bucket.get(key))).then(
            (json) => `"get":${json}`,
          ),
        set &&
          each(
            "write",
            set,
            ({ key }) => key,
            (item, key) => setItem(bucket, key, item),
          ).then((json) => `"set":${json}`),
        remove &&
          each("delete", remove, String, (_, key) => deleteItem(bucket, key)).then(
            (json) => `"delete":${json}`,
          ),
      ]);
      const json = `{${parts.filter((part) => part !== undefined).join(",")}}`;
      return answerJsonText(c, json, 200, { Durability: bucket.durability });
    },
  });

  resource(app, `${base}/:bucket/transactions`, {
    POST: async (c) => {
      const { bucketName, grants, open } = target.known(c);
      const request = parseWith(transactionSchema, await readJson(c, limits.itemsBody));
      const operations = request.operations.map(operationOf);
      isAbout(c, keysSubject(operations.map(({ key }) => key)));
      operations.forEach((operation, index) => {
        const { op, key } = operation;
        if (!grants.allows(verbOf[op], bucketName, key)) throw forbidden(operation, index);
      });
      const seen = new Set<string>();
      operations.forEach(({ key, op }, index) => {
        if (seen.has(key)) {
          throw new KvError(
            "invalid_request",
            `operation ${index} (${op}): key "${key}" appears more than once`,
            {
              details: { index, op, key },
            },
          );
        }
        seen.add(key);
      });
      const bucket = await open();
      const { revisions } = await transact(bucket, operations).catch((error: unknown) => {
        const key = error instanceof KvError ? error.details?.key : undefined;
        throw typeof key === "string" ? discreet(error, grants, bucketName, key) : error;
      });
      const members = Array.from(
        revisions,
        ([key, revision]) => `${JSON.stringify(key)}:${revision}`,
      );
      const json = `{"revisions":{${members.join(",")}}}`;
      return answerJsonText(c, json, 200, { Durability: bucket.durability });
    },
  });
}

/** What an operation needs. */
const verbOf: Record<Operation["op"], KeyVerb> = {
  put: "write",
  create: "write",
  update: "write",
  delete: "delete",
  purge: "delete",
  check: "read",
};

/** Says only what the caller said. */
function forbidden({ op, key }: Operation, index: number): KvError {
  return new KvError(
    "forbidden",
    `operation ${index} (${op}): the credentials do not allow "${verbOf[op]}" on "${key}"`,
    { details: { index, op, key } },
  );
}

async function setItem(
  bucket: Bucket,
  key: string,
  { value, encoding, description, value_type: label, ...item }: SetItem,
): Promise<string> {
  const { revision, createdAt, expiresAt } = await bucket.put(key, valueFromJson(value, encoding), {
    ...ttlOf(item),
    ...(description === undefined || description === "" ? {} : { description }),
    ...(label === undefined ? {} : { label }),
  });
  const expires = expiresAt === undefined ? "" : `,"expires_at":"${expiresAt}"`;
  return `{"key":${JSON.stringify(key)},"revision":${revision},"created_at":"${createdAt}"${expires}}`;
}

async function deleteItem(bucket: Bucket, key: string): Promise<string> {
  const existed = await bucket.delete(key);
  return `{"key":${JSON.stringify(key)},"existed":${existed}}`;
}

function operationOf(request: OperationRequest, index: number): Operation {
  try {
    assertKey(request.key);
    switch (request.op) {
      case "put":
      case "create":
        return {
          op: request.op,
          key: request.key,
          value: valueFromJson(request.value, request.encoding),
          ...ttlOf(request),
        };
      case "update": {
        const { op, key, revision } = request;
        return {
          op,
          key,
          revision,
          value: valueFromJson(request.value, request.encoding),
          ...ttlOf(request),
        };
      }
      case "delete":
      case "purge": {
        const { op, key, revision } = request;
        return revision === undefined ? { op, key } : { op, key, revision };
      }
      case "check":
        return request;
    }
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    throw new KvError(error.code, `operation ${index} (${request.op}): ${error.message}`, {
      details: { ...error.details, index, op: request.op, key: request.key },
    });
  }
}

function ttlOf({ ttl }: { ttl?: SetItem["ttl"] }): { ttl?: number } {
  return ttl === undefined ? {} : { ttl: parseTtl(ttl) };
}
