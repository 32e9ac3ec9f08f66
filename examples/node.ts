/** The Node SDK: settings that several processes share, read, written and watched. */
import { createClient, JetbucketError } from "jetbucket/node";

interface Theme {
  mode: "dark" | "light";
}

const kv = createClient().kv(); // JETBUCKET_URL, else http://localhost:9123
await kv.deleteBucket("example-node").catch(() => undefined);
await kv.createBucket({ name: "example-node", history: 5 });
const settings = kv.bucket<Theme>("example-node");

const { revision } = await settings.create("theme", { mode: "dark" });
await settings.update("theme", { mode: "light" }, revision);
try {
  await settings.update("theme", { mode: "dark" }, revision);
} catch (error) {
  if (!(error instanceof JetbucketError)) throw error;
  console.log(error.code, "the key is at revision", error.currentRevision);
}

for (const { revision, value } of await settings.history("theme")) {
  if (value !== undefined) console.log(revision, value.mode);
}

const session = await settings.put("session.1", { mode: "dark" }, { ttl: "30m" });
console.log("expires:", session.expiresAt !== undefined);

for await (const change of settings.changes({ key: "theme" })) {
  console.log(change.key, "is", change.value);
  break;
}

/* Prints
revision_mismatch the key is at revision 2
1 dark
2 light
expires: true
theme is { mode: 'light' }
*/
