/** Kestra's KV store: its tasks as functions, and the same values over Kestra's own HTTP API. */
import { JetbucketError, KestraKv } from "jetbucket/kestra";

const kv = new KestraKv({ namespace: "example.kestra" });

await kv.set({ key: "my_key", value: "Hello World", ttl: "P30D", description: "a greeting" });
await kv.set({ key: "test_due", value: "2026-01-31", kvType: "DATE" });
await kv.set({ key: "test_limits", value: { max: 3 } });
console.log(await kv.get({ key: "my_key" }));
console.log(await kv.getKeys({ prefix: "test_" }));

try {
  await kv.set({ key: "my_key", value: "Bonjour", overwrite: false });
} catch (error) {
  if (!(error instanceof JetbucketError)) throw error;
  console.log(error.message);
}

const server = process.env.JETBUCKET_URL ?? "http://localhost:9123";
const response = await fetch(`${server}/api/v1/namespaces/example.kestra/kv/test_due`);
const { type, value } = (await response.json()) as { type: string; value: unknown };
console.log(type, value);

console.log(await kv.delete({ key: "my_key" }), await kv.delete({ key: "my_key" }));

/* Prints
Hello World
[ 'test_due', 'test_limits' ]
Cannot set value for key 'my_key'. Key already exists and `overwrite` is set to `false`.
DATE 2026-01-31
true false
*/
