// The Node half of the page that the SDK's shapes are modelled on, as it stands there but for the package's name.
/* eslint-disable @typescript-eslint/no-unused-vars -- it names what it does not use */
import { createClient } from "jetbucket/node";
const client = createClient({ apiKey: process.env.JETBUCKET_API_KEY });
const kv = client.kv();
// Create a bucket with 1h TTL and 5 revisions of history
await kv.createBucket({
  name: "settings",
  ttlSeconds: 3600,
  history: 5,
});
const bucket = kv.bucket("settings");
// Unconditional put
await bucket.put("theme", { mode: "dark" });
// Atomic create — fails if key exists (HTTP 412)
await bucket.create("flags", { betaEnabled: false });
// Read with revision
const entry = await bucket.get("theme");
console.log(entry.value, entry.revision);
// Compare-and-swap update
await bucket.update("theme", { mode: "light" }, entry.revision);
// List keys with wildcard filter
const keys = await bucket.listKeys("user.*");
// Soft delete (tombstone) and full purge
await bucket.delete("flags");
await bucket.purge("flags");
// Bucket management
const buckets = await kv.listBuckets();
const info = await kv.getBucketInfo("settings");
await kv.deleteBucket("settings");
