import type { BucketAccess } from "./access.ts";
import type { CallOptions } from "./options.ts";
import { checkedRevision, given } from "./points.ts";
import type { Ttl } from "./ttl.ts";
import { jsonBody, jsonOf } from "./values.ts";
import { durabilityOf, type Durability } from "./writes.ts";

/** A transaction that was stored. */
export interface Committed {
  /** The new revision of every key that was written or removed. */
  revisions: Map<string, number>;
  /** What it survives; undefined when the server does not say. */
  durability?: Durability;
}

/** Options of the operations of a transaction that write a value. */
export interface OperationOptions {
  /** In the notations of `put`. Default: the key stays. */
  ttl?: Ttl | undefined;
}

/** Options of the operations of a transaction that remove a key. */
export interface RemovalOptions {
  /** The key's latest revision must be this one. Default: any. */
  ifRevision?: number | undefined;
}

interface Operation<In> {
  fields: { op: string; key: string; revision?: number | undefined; ttl?: Ttl | undefined };
  value?: { of: In };
}

/**
 * Operations on up to 1000 keys of a bucket that happen all, or not at all; readers and watches never see a part of them.
 * Nothing is sent before {@link commit}. A key may appear once.
 *
 * @typeParam In what values are
 */
export class Transaction<In = unknown> {
  readonly #access: BucketAccess<unknown, In>;
  readonly #operations: Operation<In>[] = [];

  /** @internal */
  constructor(access: BucketAccess<unknown, In>) {
    this.#access = access;
  }

  /** Stores a value, whatever the key holds. */
  put(key: string, value: In, options: OperationOptions = {}): this {
    return this.#add({ op: "put", key, ttl: options.ttl }, { of: value });
  }

  /** Stores a value; the key must not exist. */
  create(key: string, value: In, options: OperationOptions = {}): this {
    return this.#add({ op: "create", key, ttl: options.ttl }, { of: value });
  }

  /** Stores a value; the key's latest revision must be the one given, 0 when it must not exist. */
  update(key: string, value: In, revision: number, options: OperationOptions = {}): this {
    const fields = { op: "update", key, revision: checkedRevision(revision) };
    return this.#add({ ...fields, ttl: options.ttl }, { of: value });
  }

  /** Deletes a key; its history stays readable. */
  delete(key: string, { ifRevision }: RemovalOptions = {}): this {
    return this.#add({ op: "delete", key, revision: given(ifRevision, checkedRevision) });
  }

  /** Deletes a key together with its history. */
  purge(key: string, { ifRevision }: RemovalOptions = {}): this {
    return this.#add({ op: "purge", key, revision: given(ifRevision, checkedRevision) });
  }

  /** Writes nothing: the key's latest revision must be the one given, 0 when it must not exist. */
  check(key: string, revision: number): this {
    return this.#add({ op: "check", key, revision: checkedRevision(revision) });
  }

  /**
   * Carries the operations out, in one step. Values are taken as they are now.
   *
   * Rejects with `key_exists` or `revision_mismatch` when a condition does not hold: the error's `operation` says which one,
   * its `currentRevision` where that key is. Rejects as well with `invalid_value`, `invalid_request` (no operations, too many,
   * or a key twice), `value_too_large`, and `unsupported` when the NATS server is older than 2.12. Nothing was stored then.
   * After `timeout` and `network` it may have been.
   */
  async commit(options: CallOptions = {}): Promise<Committed> {
    const operations: string[] = [];
    for (const { fields, value } of this.#operations) {
      if (value === undefined) {
        operations.push(JSON.stringify(fields));
      } else {
        await this.#access.check(fields.key, value.of);
        operations.push(jsonOf(fields, value.of));
      }
    }
    const { body, headers } = await this.#access.exchange(
      {
        method: "POST",
        path: this.#access.path("transactions"),
        body: jsonBody(`{"operations":[${operations.join(",")}]}`),
      },
      options,
    );
    const { revisions } = body as { revisions: Record<string, number> };
    return { revisions: new Map(Object.entries(revisions)), ...durabilityOf(headers) };
  }

  #add(fields: Operation<In>["fields"], value?: { of: In }): this {
    this.#operations.push({ fields, ...(value === undefined ? {} : { value }) });
    return this;
  }
}
