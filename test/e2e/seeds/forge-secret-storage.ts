// The samples of Forge's page about secrets, as they stand there but for the package's name, each with what it gives.
import { storage } from "jetbucket/forge";
import type { Sample } from "./forge-kvs.ts";

export const samples: Sample[] = [
  // prettier-ignore
  ["storage.setSecret: array", () =>
    storage.setSecret('example-key', [ 'Hello', 'World' ]), undefined],
  // prettier-ignore
  ["storage.setSecret: boolean", () =>
    storage.setSecret('example-key', true), undefined],
  // prettier-ignore
  ["storage.setSecret: number", () =>
    storage.setSecret('example-key', 123), undefined],
  // prettier-ignore
  ["storage.setSecret: object", () =>
    storage.setSecret('example-key', { hello: 'world' }), undefined],
  // prettier-ignore
  ["storage.getSecret of an object", async () =>
    await storage.getSecret('example-key'), { hello: "world" }],
  // prettier-ignore
  ["storage.setSecret: string", () =>
    storage.setSecret('example-key', 'Hello world'), undefined],
  // prettier-ignore
  ["storage.getSecret", async () =>
    // Read the value for key `example-key`
    await storage.getSecret('example-key'), "Hello world"],
  // prettier-ignore
  ["storage.deleteSecret", async () =>
    // Delete the value with the key `key`
    await storage.deleteSecret('example-key'), undefined],
  // prettier-ignore
  ["storage.deleteSecret, if it hasn't already been deleted", async () =>
    await storage.deleteSecret('example-key'), undefined],
  // prettier-ignore
  ["storage.getSecret of a key that doesn't exist", async () =>
    await storage.getSecret('example-key'), undefined],
];
