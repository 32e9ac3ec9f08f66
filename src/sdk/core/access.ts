import type { EntryBody } from "../../protocol/messages.ts";
import { revisionOf, type Entry, type Revision } from "./entry.ts";
import type { CallOptions } from "./options.ts";
import { bucketPath, keyPath, queryOf, type KeyRoute, type Query } from "./paths.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import type { ApiAnswer, ApiRequest, Transport } from "./transport.ts";
import { validate } from "./validate.ts";
import type { WatchSocket, WatchSocketOptions } from "./watch-socket.ts";

/** What a bucket is reached through. */
export interface Connection {
  transport: Transport;
  /** The socket of all watches of buckets. */
  watches: WatchSocket;
  /** How sockets are opened, to an address that begins with this one. */
  sockets: WatchSocketOptions;
}

/** A bucket as its methods see it: where it is, and what its values have to be. */
export class BucketAccess<Out, In> {
  readonly connection: Connection;
  readonly name: string;
  readonly schema: StandardSchemaV1<unknown, Out> | undefined;

  constructor(
    connection: Connection,
    name: string,
    schema: StandardSchemaV1<unknown, Out> | undefined,
  ) {
    this.connection = connection;
    this.name = name;
    this.schema = schema;
  }

  /** Path of something about the whole bucket. */
  path(route: string, query: Query = {}): string {
    return `${bucketPath(this.name)}/${route}${queryOf(query)}`;
  }

  /** Path of something about a key. */
  keyPath(route: KeyRoute, key: string, query?: Query): string {
    return keyPath(this.name, route, key, query);
  }

  exchange(request: ApiRequest, call: CallOptions): Promise<ApiAnswer> {
    return this.connection.transport.exchange(request, call);
  }

  async send(request: ApiRequest, call: CallOptions): Promise<unknown> {
    return (await this.exchange(request, call)).body;
  }

  async get(path: string, call: CallOptions): Promise<unknown> {
    return this.send({ method: "GET", path }, call);
  }

  /** Lets a value that is to be written pass, or rejects with `invalid_value`. */
  async check(key: string, value: In): Promise<void> {
    const { schema, name: bucket } = this;
    if (schema !== undefined) await validate(schema, value, { bucket, key });
  }

  /** A value that was read; at once, where the schema answers at once. */
  value(value: unknown, key: string, revision: number): Out | Promise<Out> {
    const { schema, name: bucket } = this;
    return schema === undefined
      ? (value as Out)
      : validate(schema, value, { bucket, key, revision });
  }

  /** A revision that was read, its value checked; at once, where the schema answers at once. */
  revision(body: EntryBody): Revision<Out> | Promise<Revision<Out>> {
    const revision = revisionOf(body);
    if (this.schema === undefined || revision.operation === "delete") {
      return revision as Revision<Out>;
    }
    const value = this.value(revision.value, revision.key, revision.revision);
    return value instanceof Promise
      ? value.then((checked) => ({ ...revision, value: checked }))
      : { ...revision, value };
  }

  /** A value that was read. */
  async entry(body: EntryBody): Promise<Entry<Out>> {
    return (await this.revision(body)) as Entry<Out>;
  }

  /** A value that was read, where there was one. */
  async maybeEntry(body: EntryBody | null | undefined): Promise<Entry<Out> | undefined> {
    return body?.operation === "put" ? this.entry(body) : undefined;
  }
}
