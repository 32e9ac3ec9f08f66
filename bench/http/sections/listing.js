import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect } from "nats";
import { Client, post, timed } from "../../support/client.js";
import { count, milliseconds } from "../../support/format.js";
import { startModule } from "../../support/module-process.js";
import { median } from "../../support/statistics.js";
import { fill, KEY_BYTES } from "../fill.js";
import { startStack } from "../stack.js";
import { result } from "../targets.js";

const MANY = 100_000;
const MILLION = 1_000_000;
const PAGE = 100;
/** Pages that are read in one go, and how often. */
const PAGES = 50;
const VISITS = 6;

/** Listing keys: the first time, page by page, all of them, and what the index costs. */
export async function listing({ lifetime, folder, pace, say }) {
  const stack = await startStack(lifetime, { folder, sync: "2m" });
  const client = new Client(lifetime);
  // Each bucket is idle once only, so there are several.
  const idle = Array.from({ length: pace.buckets }, (_, i) => `idle${i}`);
  for (const name of idle) await makeBucket(lifetime, stack, name, MANY);
  say(`${idle.length} buckets of ${count(MANY)} keys`);
  if (pace.million) {
    await makeBucket(lifetime, stack, "million", MILLION);
    say(`a bucket of ${count(MILLION)} keys`);
  }

  const firstPages = [];
  const half = idle.length / 2;
  for (const name of idle.slice(0, half)) {
    firstPages.push(await timed(() => client.get(`${stack.url}/${name}/keys?limit=${PAGE}`)));
  }
  const warm = median(firstPages);
  const all = await listAll(lifetime, stack, client, idle.slice(half));
  const { small, large } = await pages(stack, client, pace.million);
  const memory = await indexMemory(lifetime, stack);
  const whole = (jetbucket) => `${milliseconds(jetbucket)}; kv.keys() ${milliseconds(all.peer)}`;
  const results = [
    result("page-100k", small, `p50 of ${PAGES * VISITS} pages, one connection`),
    result("warm-100k", warm, `median of ${firstPages.length} buckets`),
    result("index-memory", memory.perKey - KEY_BYTES, `${count(memory.keys)} keys, after GC`),
    result("list-all", all.idle / all.peer, whole(all.idle)),
    result("list-all-warm", all.warm / all.peer, whole(all.warm)),
  ];
  if (pace.million) {
    const evidence = `${milliseconds(large)}; out of ${count(MANY)} ${milliseconds(small)}`;
    results.push(result("page-1m", large / small, evidence));
  }
  return { results };
}

async function makeBucket(lifetime, { nats, url }, name, size) {
  await post(url, { name });
  await fill(lifetime, nats.url, name, size);
}

/** All keys at once, beside the KV client of the NATS project; its time is the median of its rounds. */
async function listAll(lifetime, stack, client, buckets) {
  return lifetime.within(async (inner) => {
    const nats = await connect({ servers: stack.nats.url });
    inner.own(() => nats.close());
    const kvm = new Kvm(jetstream(nats));
    const times = { idle: [], warm: [], peer: [] };
    for (const name of buckets) {
      const kv = await kvm.open(`APP_${name}`, { allow_direct: true });
      const listPeer = async () => {
        const keys = [];
        for await (const key of await kv.keys()) keys.push(key);
        expectAll(keys);
      };
      times.peer.push(await timed(listPeer));
      const list = async () => expectAll((await client.get(`${stack.url}/${name}/keys`)).keys);
      times.idle.push(await timed(list));
      times.warm.push(await timed(list));
    }
    return Object.fromEntries(Object.entries(times).map(([name, each]) => [name, median(each)]));
  });
}

function expectAll({ length }) {
  if (length !== MANY) throw new Error(`${length} keys were listed instead of ${MANY}`);
}

/** Pages out of a small and out of a large bucket in turn; the median time of each, in milliseconds. */
async function pages({ url }, client, million) {
  const small = walker(client, `${url}/idle0/keys?limit=${PAGE}`);
  const large = million ? walker(client, `${url}/million/keys?limit=${PAGE}`) : undefined;
  // Fills the index.
  await large?.page();
  const times = { small: [], large: [] };
  for (let visit = 0; visit < VISITS; visit++) {
    for (let i = 0; i < PAGES; i++) times.small.push(await timed(() => small.page()));
    if (large === undefined) continue;
    for (let i = 0; i < PAGES; i++) times.large.push(await timed(() => large.page()));
  }
  return { small: median(times.small), large: large && median(times.large) };
}

/** Goes through a listing page by page, and begins again at its end. */
function walker(client, url) {
  let cursor;
  return {
    async page() {
      const answer = await client.get(cursor === undefined ? url : `${url}&cursor=${cursor}`);
      if (answer.count !== PAGE) throw new Error(`a page of ${answer.count} keys: ${url}`);
      cursor = answer.next_cursor;
    },
  };
}

/** Has a process of its own fill an index from a bucket, as the gateway does, and say what it takes. */
async function indexMemory(lifetime, { nats }) {
  const { ready } = await lifetime.within((inner) =>
    startModule(inner, new URL("../index-memory.js", import.meta.url), {
      env: { NATS_URL: nats.url, BUCKETS: "bench,idle0" },
      execArgv: ["--expose-gc"],
    }),
  );
  return ready;
}
