/** An app of Atlassian Forge: its own code is as it was, and installForge says where the data is. */
import { kvs, WhereConditions, type ForgeKvsAPIError } from "@forge/kvs";
import { installForge, storage } from "jetbucket/forge";

installForge({ bucket: "example-forge" }); // JETBUCKET_URL, else http://localhost:9123
await kvs.batchDelete([{ key: "task:1" }, { key: "task:3" }]);

await kvs.set("task:1", { title: "Write" }, { keyPolicy: "FAIL_IF_EXISTS" });
await kvs
  .set("task:1", { title: "Read" }, { keyPolicy: "FAIL_IF_EXISTS" })
  .catch((error: unknown) => {
    console.log((error as ForgeKvsAPIError).code);
  });
await kvs.batchSet([
  { key: "task:2", value: { title: "Read" } },
  { key: "draft", value: { title: "For an hour" }, options: { ttl: { value: 1, unit: "HOURS" } } },
]);
const tasks = kvs.query().where("key", WhereConditions.beginsWith("task:"));
for (const { key, value } of (await tasks.getMany()).results) console.log(key, value);

await kvs.transact().set("task:3", { title: "Rest" }).delete("task:2").execute();
console.log(await kvs.get("task:2"), await kvs.get("task:3"));

await storage.setSecret("token", { key: "hunter2" }); // was: from "@forge/api"
console.log(await kvs.getSecret("token"), await kvs.get("token"));

/* Prints
KEY_CONFLICT
task:1 { title: 'Write' }
task:2 { title: 'Read' }
undefined { title: 'Rest' }
{ key: 'hunter2' } undefined
*/
