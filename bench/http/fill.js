/** Fills buckets fast: straight through NATS, with many messages under way. */
import { connect, createInbox, headers } from "nats";
import { VALUE } from "./loads.js";

/** Messages under way: the server drops what is beyond some ten thousand waiting ones. */
const WINDOW = 4_000;

/** The keys of such a bucket. */
export function keyOf(i) {
  return `user.${String(i).padStart(7, "0")}.profile`;
}

/** Bytes of one of them. */
export const KEY_BYTES = keyOf(0).length;

/**
 * Stores keys in a bucket, as jetbucket would store them.
 *
 * @param {string} url of the nats-server
 * @param {string} bucket its name; it has to be there
 */
export async function fill(lifetime, url, bucket, count) {
  await lifetime.within(async (inner) => {
    const nats = await connect({ servers: url, noAsyncTraces: true });
    inner.own(() => nats.close());
    await publishAll(nats, `$KV.APP_${bucket}.`, count);
  });
}

function publishAll(nats, prefix, count) {
  const options = { reply: createInbox(), headers: headers() };
  options.headers.set("Jb-Type", "json");
  const payload = new TextEncoder().encode(JSON.stringify(VALUE));
  let sent = 0;
  let stored = 0;
  return new Promise((resolve, reject) => {
    const send = () => {
      while (sent < count && sent - stored < WINDOW) {
        nats.publish(prefix + keyOf(sent++), payload, options);
      }
    };
    nats.subscribe(options.reply, {
      callback: (error, message) => {
        const answer = error === null ? message.json() : { error };
        if (answer.error !== undefined) reject(new Error(JSON.stringify(answer.error)));
        else if (++stored === count) resolve();
        else if (sent - stored < WINDOW / 2) send();
      },
    });
    nats.closed().then(() => reject(new Error("the connection to NATS was closed")));
    send();
  });
}
