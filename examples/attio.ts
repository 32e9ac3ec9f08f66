/** Attio's `kv`: an app's cache, its server functions unchanged but for the import. */
import { configureAttio, kv } from "jetbucket/attio"; // was: import { kv } from "attio/server"

configureAttio({ bucket: "example-attio" }); // only for another bucket, server or key than the environment's

async function getAllUsers(): Promise<string[]> {
  const users = await kv.get<string[]>("users");
  if (users !== null) {
    console.log("from the cache");
    return users.value;
  }

  console.log("from afar");
  const data = ["Ada", "Grace"];
  await kv.set("users", data, { ttlInSeconds: 60 * 60 * 24 * 30 });
  return data;
}

await kv.delete("users");
console.log(await getAllUsers());
console.log(await getAllUsers());

await kv.set("nothing", null);
console.log(await kv.mget(["nothing", "missing"]));

/* Prints
from afar
[ 'Ada', 'Grace' ]
from the cache
[ 'Ada', 'Grace' ]
{ nothing: { value: null }, missing: null }
*/
