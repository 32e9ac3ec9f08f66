/** unstorage: items of any kind, and a watch that sees what other processes do. */
import { EventEmitter, once } from "node:events";
import { createClient } from "jetbucket/node";
import { jetbucketDriver } from "jetbucket/unstorage";
import { createStorage, prefixStorage } from "unstorage";

const serverUrl = process.env.JETBUCKET_URL ?? "http://localhost:9123";

// The bucket is made by the first write.
const storage = createStorage({ driver: jetbucketDriver(`${serverUrl}/example-unstorage`) });
await storage.clear();
await storage.setItem("user:ada", { age: 36 }, { ttl: 60 });
await storage.setItemRaw("logo", new Uint8Array([1, 2, 3]));
console.log(await storage.getItem("user:ada"), await storage.getItemRaw("logo"));
console.log(await prefixStorage(storage, "user").getKeys());

const { ttl, size } = await storage.getMeta("user:ada");
console.log(ttl, size);

const changes = new EventEmitter();
await storage.watch((event, key) => changes.emit("change", `${event} ${key}`));
const change = once(changes, "change");
await createClient({ serverUrl }).kv().bucket("example-unstorage").delete("user:ada");
console.log((await change)[0]);
await storage.dispose();

/* Prints
{ age: 36 } Uint8Array(3) [ 1, 2, 3 ]
[ 'ada' ]
60 10
remove user:ada
*/
