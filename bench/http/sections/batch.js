import { Client, timed } from "../../support/client.js";
import { milliseconds } from "../../support/format.js";
import { median } from "../../support/statistics.js";
import { BUCKET, keys } from "../loads.js";
import { startStack } from "../stack.js";
import { result } from "../targets.js";

const SIZE = 100;
const ROUNDS = 40;
const WARM_UP = 20;

/** Many keys in one request, against one request for each of them. */
export async function batch({ lifetime, folder }) {
  const stack = await startStack(lifetime, { folder, sync: "2m" });
  const client = new Client(lifetime);
  const bucket = `${stack.url}/${BUCKET}`;
  const times = { batch: [], single: [] };
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    const first = (round * SIZE) % keys.length;
    const some = keys.slice(first, first + SIZE);
    const single = await timed(async () => {
      for (const key of some) await client.get(`${bucket}/keys/${key}`);
    });
    const together = await timed(async () => {
      const { get } = await client.post(`${bucket}/batch`, { get: some });
      if (get.some(({ error }) => error)) throw new Error("a batch with errors");
    });
    if (round < WARM_UP) continue;
    times.single.push(single);
    times.batch.push(together);
  }
  const ratio = median(times.single.map((single, i) => single / times.batch[i]));
  const evidence = `${milliseconds(median(times.batch))}; one by one ${milliseconds(median(times.single))}`;
  return { results: [result("batch", ratio, evidence)] };
}
