// The samples of Forge's page about key-value pairs, as they stand there, each with what it gives.
import { kvs, MetadataField, WhereConditions } from "@forge/kvs";
import { expect } from "vitest";

/** A line of the page, the sample under it, and what that gives. `cursor` stands for the page's dots. */
export type Sample = [title: string, run: (cursor: string) => Promise<unknown>, gives: unknown];

const number: unknown = expect.any(Number);

export const samples: Sample[] = [
  // prettier-ignore
  ["kvs.set: array", () =>
    kvs.set('example-key', [ 'Hello', 'World' ]), undefined],
  // prettier-ignore
  ["kvs.set: boolean", () =>
    kvs.set('example-key', true), undefined],
  // prettier-ignore
  ["kvs.set: number", () =>
    kvs.set('example-key', 123), undefined],
  // prettier-ignore
  ["kvs.set: object", () =>
    kvs.set('example-key', { hello: 'world' }), undefined],
  // prettier-ignore
  ["kvs.set: string", () =>
    kvs.set('example-key', 'Hello world'), undefined],
  // prettier-ignore
  ["kvs.get", async () =>
    await kvs.get('example-key'), "Hello world"], // returns 'Hello world'
  // prettier-ignore
  ["Set a TTL", async () =>
    await kvs.set('example-key', { hello: 'world' }, {
      ttl: {
        unit: 'DAYS',
        value: 7,
      },
    }), undefined],
  // prettier-ignore
  ["kvs.get with metadata", async () =>
    await kvs.get('example-key', {
      metadataFields: [MetadataField.CREATED_AT, MetadataField.UPDATED_AT, MetadataField.EXPIRE_TIME]
    }),
    { key: "example-key", value: { hello: "world" }, createdAt: number, updatedAt: number, expireTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as unknown }],
  // prettier-ignore
  ["kvs.query", async (cursor) =>
    await kvs.query({ metadataFields: [MetadataField.CREATED_AT, MetadataField.UPDATED_AT, MetadataField.EXPIRE_TIME] })
      // Filter the response to only keys that start with the string 'value'
      .where('key', WhereConditions.beginsWith('example'))

      // Limit the result size to 10 values
      .limit(10)

      // Use the cursor provided (returned from a previous invocation)
      .cursor(cursor)

      // Get a list of results
      .getMany(),
    { nextCursor: undefined, results: [{ key: "example-key", value: { hello: "world" }, createdAt: number, updatedAt: number, expireTime: expect.any(String) as unknown }] }],
  // prettier-ignore
  ["keyPolicy OVERRIDE", async () =>
    // override the value if key already exists
    await kvs.set('example-key', { hello: 'world' }, {
      keyPolicy: 'OVERRIDE',
    }), undefined],
  // prettier-ignore
  ["keyPolicy FAIL_IF_EXISTS", async () =>
    // fail the set request if the key already exists
    await kvs.set('example-key', { hello: 'world' }, {
      keyPolicy: 'FAIL_IF_EXISTS',
    }).catch((error: unknown) => (error as { code: string }).code), "KEY_CONFLICT"],
  // prettier-ignore
  ["returnValue LATEST", async () =>
    // return the written value
    // @ts-expect-error the package's types want a keyPolicy beside it, which the page leaves out
    await kvs.set('example-key', { hello: 'world' }, {
      returnValue: 'LATEST',
    }), { key: "example-key", value: { hello: "world" } }],
  // prettier-ignore
  ["returnValue PREVIOUS", async () =>
    // returns the overwritten value
    // @ts-expect-error as above: the types want a keyPolicy
    await kvs.set('example-key', { hello: 'world' }, {
      returnValue: 'PREVIOUS',
    }), { key: "example-key", value: { hello: "world" } }],
  // prettier-ignore
  ["Return metadata: the page's slip, which stores the options as the value", async () =>
    await kvs.set('example-key', {
      returnValue: 'LATEST',
      metadataFields: [MetadataField.CREATED_AT, MetadataField.UPDATED_AT, MetadataField.EXPIRE_TIME]
    }), undefined],
  // prettier-ignore
  ["Return metadata: as the signature above it has it", async () =>
    await kvs.set('example-key', "example-value", {
      keyPolicy: 'OVERRIDE',
      returnValue: 'LATEST',
      returnMetadataFields: [MetadataField.CREATED_AT, MetadataField.UPDATED_AT, MetadataField.EXPIRE_TIME]
    }),
    { key: "example-key", value: "example-value", createdAt: number, updatedAt: number, expireTime: undefined }],
  // prettier-ignore
  ["kvs.delete", async () =>
    // Delete the value with the key `example-key`
    await kvs.delete('example-key'), undefined],
  // prettier-ignore
  ["kvs.delete, if it hasn't already been deleted", async () =>
    await kvs.delete('example-key'), undefined],
  // prettier-ignore
  ["kvs.get of a key that doesn't exist", async () =>
    await kvs.get('example-key'), undefined],
];
