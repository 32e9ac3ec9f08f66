/** Keyv, and cache-manager on top of it: a cache that several processes share. */
import { createCache } from "cache-manager";
import { KeyvJetbucket } from "jetbucket/keyv";
import { createClient } from "jetbucket/node";
import Keyv from "keyv";

const serverUrl = process.env.JETBUCKET_URL ?? "http://localhost:9123";

// The bucket is made by the first write. One store is for one Keyv.
const users = new Keyv({
  store: new KeyvJetbucket(`${serverUrl}/example-keyv`),
  namespace: "users",
});
await users.clear();
await users.set("ada", { age: 36 }, 60_000);
await users.setMany([
  { key: "eve", value: { age: 41 } },
  { key: "bob", value: { age: 8 } },
]);
console.log(await users.get("ada"), await users.get(["eve", "nobody"]));
console.log(await users.delete("bob"), await users.delete("bob"));

// What is stored is the value itself, with jetbucket's own time to live.
const bucket = createClient({ serverUrl }).kv().bucket("example-keyv");
const { key, value, expiresAt } = await bucket.get("users:ada");
console.log(key, value, expiresAt !== undefined);

const cache = createCache({ stores: [users], ttl: 10_000 });
const load = () => {
  console.log("loading");
  return { name: "Ada" };
};
console.log(await cache.wrap("name", load), await cache.wrap("name", load));

/* Prints
{ age: 36 } [ { age: 41 }, undefined ]
true false
users:ada { age: 36 } true
loading
{ name: 'Ada' } { name: 'Ada' }
*/
