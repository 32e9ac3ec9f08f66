// The memory that the index of a bucket's keys takes, in a process that has nothing else to do.
import { Buckets } from "../../dist/store/buckets.js";
import { StoreConnection } from "../../dist/store/connection.js";
import { heapAfterCollection } from "../support/heap.js";
import { endWithParent } from "../support/module-process.js";

const connection = await StoreConnection.open({ servers: [process.env.NATS_URL] });
const buckets = new Buckets(connection);
endWithParent(async () => {
  await buckets.close();
  await connection.close();
});

/** Fills the index of a bucket through its feed; it stays for a while, see `Feeds`. */
async function index(name) {
  const bucket = await buckets.open(name);
  return (await buckets.keys(bucket, {})).keys.length;
}

// The small one first: what is loaded and compiled with it is not the index.
const [small, large] = process.env.BUCKETS.split(",");
await index(small);
const before = await heapAfterCollection();
const keys = await index(large);
process.send({ keys, perKey: ((await heapAfterCollection()) - before) / keys });
