/** Ironflow's KV store: the code for its Node SDK with the package's name changed, and what a client for Go or Python reads. */
import { createClient } from "jetbucket/node"; // was: "@ironflow/node"

const client = createClient({ apiKey: process.env.JETBUCKET_API_KEY });
const kv = client.kv();

await kv.createBucket({ name: "example-ironflow", ttlSeconds: 3600, history: 5 });
const bucket = kv.bucket<{ mode: string }>("example-ironflow");
await bucket.put("theme", { mode: "dark" });
const entry = await bucket.get("theme");
console.log(entry.value, entry.revision);
await bucket.update("theme", { mode: "light" }, entry.revision);

// Clients for Go and Python have this as the server's address.
const server = `${process.env.JETBUCKET_URL ?? "http://localhost:9123"}/compat/ironflow`;
const response = await fetch(`${server}/api/v1/kv/buckets/example-ironflow/keys/theme`);
const { value } = (await response.json()) as { value: string };
console.log(value, "is", Buffer.from(value, "base64").toString());

await kv.deleteBucket("example-ironflow");

/* Prints
{ mode: 'dark' } 1
eyJtb2RlIjoibGlnaHQifQ== is {"mode":"light"}
*/
