// The writer, in a process of its own: writes straight to JetStream, the same way for every system, one connection, and
// notes when each write was acknowledged.
import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect, createInbox, headers } from "nats";
import { announce, answerCalls, endWithParent } from "../support/module-process.js";
import { clock } from "./clock.js";
import { Keys, valueOf } from "./values.js";

/** Writes under way when buckets are filled: the server drops what is beyond some ten thousand waiting ones. */
const FILL_WINDOW = 2_000;
/** How long the last writes may take to be acknowledged, in milliseconds. */
const ACKNOWLEDGED = 10_000;

const nats = await connect({ servers: process.env.NATS_URL, noAsyncTraces: true });
/** Where the buckets stand, by name: their keys, and the number of the last update. */
const buckets = new Map();
let writing;

/** Writes one update after the other, until it is stopped. */
class Writing {
  /** When each was acknowledged, by the system's clock in milliseconds. */
  acknowledged = [];
  #name;
  #bucket;
  #inbox = createInbox();
  #options = { reply: this.#inbox, headers: headers() };
  #subscription;
  #timer;
  #sent = 0;
  #isStopped = false;
  #onIdle;
  #onDone;
  #failure;

  constructor(name, { rate, window, total = Infinity }) {
    this.#name = name;
    this.#bucket = buckets.get(name);
    this.first = this.#bucket.n + 1;
    this.started = clock();
    this.#options.headers.set("Jb-Type", "json");
    const refill = () => {
      while (!this.#isStopped && this.#sent < total && this.#waiting < window) this.#publish();
    };
    this.#subscription = nats.subscribe(this.#inbox, {
      callback: (error, message) => {
        this.#acknowledge(error, message);
        if (window !== undefined) refill();
        if (this.acknowledged.length === total) this.#onDone?.();
        if (this.#isStopped && this.#waiting === 0) this.#onIdle?.();
      },
    });
    if (window !== undefined) refill();
    else this.#pace(rate);
  }

  get #waiting() {
    return this.#sent - this.acknowledged.length;
  }

  /** Resolves when as many as were asked for are acknowledged. */
  done() {
    return new Promise((resolve) => (this.#onDone = resolve));
  }

  #pace(rate) {
    const due = ((clock() - this.started) / 1000) * rate;
    while (this.#sent < due && this.#waiting < FILL_WINDOW) this.#publish();
    const next = this.started + (this.#sent / rate) * 1000;
    this.#timer = setTimeout(() => this.#pace(rate), Math.max(0, next - clock()));
  }

  #publish() {
    this.#sent += 1;
    const n = ++this.#bucket.n;
    nats.publish(`$KV.APP_${this.#name}.${this.#bucket.keys.of(n)}`, valueOf(n), this.#options);
  }

  /** Acknowledgements come in the order of the writes: it is one connection. */
  #acknowledge(error, { data }) {
    // {"stream":… or {"error":…
    if (error !== null || data[2] !== 0x73) {
      this.#failure ??= new Error(`a write failed: ${error ?? Buffer.from(data).toString()}`);
    }
    this.acknowledged.push(clock());
  }

  async stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    if (this.#waiting > 0) {
      await new Promise((resolve, reject) => {
        this.#onIdle = resolve;
        const late = () => reject(new Error(`${this.#waiting} writes were not acknowledged`));
        setTimeout(late, ACKNOWLEDGED).unref();
      });
    }
    this.#subscription.unsubscribe();
    if (this.#failure !== undefined) throw this.#failure;
    const written = this.acknowledged.length;
    if (written === 0) throw new Error("nothing was written");
    return {
      /** Number of the last update. */
      n: this.#bucket.n,
      first: this.first,
      acknowledged: Float64Array.from(this.acknowledged),
      /** Acknowledged per second. */
      rate: written / ((this.acknowledged.at(-1) - this.started) / 1000),
    };
  }
}

endWithParent();
answerCalls({
  /** Makes a bucket as the NATS project's KV client does. */
  async create({ bucket, history }) {
    await new Kvm(jetstream(nats)).create(`APP_${bucket}`, { history });
  },
  use({ bucket, groups, perGroup }) {
    buckets.set(bucket, { keys: new Keys(groups, perGroup), n: 0 });
  },
  /** Writes every key once. Returns the number of the last update. */
  async fill({ bucket }) {
    const total = buckets.get(bucket).keys.count;
    const filling = new Writing(bucket, { window: FILL_WINDOW, total });
    await filling.done();
    return (await filling.stop()).n;
  },
  /** Begins to write: `rate` updates per second, or `window` of them always under way. */
  start({ bucket, rate, window }) {
    writing = new Writing(bucket, { rate, window });
  },
  /** The number of the last update of a bucket. */
  position: ({ bucket }) => buckets.get(bucket).n,
  /** The number of the last update that was acknowledged so far. */
  reached() {
    return writing.first + writing.acknowledged.length - 1;
  },
  stop() {
    return writing.stop();
  },
  /** Writes large values of other keys: `count` of them, `size` bytes each, in turn to some keys. */
  async flood({ bucket, prefix, keys, count, size }) {
    const payload = Buffer.from(JSON.stringify("x".repeat(size - 2)));
    const options = { headers: headers() };
    options.headers.set("Jb-Type", "json");
    for (let i = 0; i < count; i++) {
      await nats.request(`$KV.APP_${bucket}.${prefix}.${i % keys}`, payload, {
        ...options,
        timeout: ACKNOWLEDGED,
      });
    }
  },
});
announce();
