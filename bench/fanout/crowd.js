/**
 * A crowd: many watchers of one bucket, who all look for the same. What is known of each stands in typed arrays, and of an
 * update only its number is read.
 */
import { clock } from "./clock.js";
import { Keys, NUMBER_MARK, numberAt, pad } from "./values.js";
import { RawWebSocket } from "./websocket.js";

const CONFLATED = Buffer.from('"conflated":');
/** Latencies that are kept of one measurement. */
const SAMPLES = 4_000_000;
/** Every so many updates one is parsed, to see that it is what its number says. */
const SPOT_CHECK = 1 << 14;
/** How often it is looked whether all have come so far, in milliseconds. */
const LOOK = 2;

const sampleNumbers = new Uint32Array(SAMPLES);
const sampleTimes = new Float64Array(SAMPLES);

export class Crowd {
  #options;
  #keys;
  #isDivided;
  /** Keys of which each watcher gets updates. */
  #keysEach;
  /** Number of the last update of each. */
  #last;
  /** Number of the last update of each key of each. */
  #state;
  #sockets = [];
  /** When each became ready; NaN while it is not. */
  #readyAt;
  /** Whether what comes is a snapshot: stored values, in any order. */
  #isSnapshot;
  #positions;
  /** Connections made so far. */
  #opened = 0;
  #onProgress;
  #failure;
  #now = 0;
  // Of the measurement that is under way.
  #base = 0;
  #frames = 0;
  #duplicates = 0;
  #resets = {};
  /** Updates that each has got, those that it was told were replaced, and whether it had to begin anew. */
  #received;
  #conflated;
  #wasReset;
  #stale = 0;
  #samples = 0;
  #sampleEvery = 1;
  #untilSample = 1;
  /** Where the number usually stands in a frame, and the length of one that says nothing unusual. */
  #numberOffset = 0;
  #usualLength = 0;
  #untilCheck = 1;
  /** Revision of an update, less its number. */
  #revisionOffset = 0;

  /**
   * @param {object} options
   * @param {"jetbucket" | "plain" | "nats"} options.kind whom they speak to
   * @param {number} options.size watchers
   * @param {number} options.port
   * @param {string} options.bucket
   * @param {number} options.groups of keys in the bucket
   * @param {number} options.perGroup
   * @param {"all" | "own" | "first"} [options.share] which groups of keys a watcher gets: all of them (the default), one of
   *   its own, or the first one, like every other watcher
   * @param {string[]} [options.filters] what each asks for; `{}` stands for the watcher's own group
   * @param {"updates" | "snapshot"} [options.include]
   * @param {number} [options.addresses] local addresses to connect from: there are not enough ports for many connections,
   *   one after the other, from one
   */
  constructor(options) {
    this.#options = { include: "updates", filters: [], addresses: 1, share: "all", ...options };
    const { size, groups, perGroup, share } = this.#options;
    this.#keys = new Keys(groups, perGroup);
    this.#isDivided = share !== "all";
    this.#keysEach = this.#isDivided ? perGroup : this.#keys.count;
    this.#last = new Uint32Array(size);
    this.#state = new Uint32Array(size * this.#keysEach);
    this.#readyAt = new Float64Array(size).fill(NaN);
    this.#isSnapshot = new Uint8Array(size);
    this.#received = new Uint32Array(size);
    this.#conflated = new Uint32Array(size);
    this.#wasReset = new Uint8Array(size);
    this.#positions = new Array(size);
  }

  /**
   * Connects all, some at a time, and resolves when all are ready.
   *
   * @param {{ parallel: number, isResuming?: boolean, patience: number }} options `isResuming`: each goes on from its
   *   position; `patience` in milliseconds
   * @returns how long it took until all, and half of them, were ready, in milliseconds
   */
  async connect({ parallel, isResuming = false, patience }) {
    const { size, include } = this.#options;
    const started = clock();
    this.#sockets = [];
    this.#failure = undefined;
    this.#readyAt.fill(NaN);
    this.#isSnapshot.fill(include === "snapshot" && !isResuming ? 1 : 0);
    let waiting = 0;
    let ready = 0;
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`only ${ready} of ${size} sockets were ready after ${patience} ms`));
      }, patience);
      const fill = () => {
        while (waiting < parallel && this.#sockets.length < size) {
          waiting += 1;
          this.#open(this.#sockets.length, isResuming);
        }
      };
      this.#onProgress = () => {
        if (this.#failure !== undefined) {
          clearTimeout(timer);
          reject(new Error(this.#failure));
          return;
        }
        waiting -= 1;
        ready += 1;
        fill();
        if (ready < size) return;
        clearTimeout(timer);
        resolve();
      };
      fill();
    }).finally(() => (this.#onProgress = undefined));
    const times = this.#readyAt.map((at) => at - started).sort();
    return { all: times[size - 1], half: times[size >> 1], at: Math.max(...this.#readyAt) };
  }

  /** Cuts all connections at once. Returns when that was. */
  disconnect() {
    const at = clock();
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets = [];
    return at;
  }

  /**
   * Begins to count.
   *
   * @param {{ base: number, sampleEvery?: number }} options number of the last update that was written before; of how many
   *   updates one is timed
   */
  begin({ base, sampleEvery = 1 }) {
    this.#base = base;
    this.#last.fill(base);
    this.#received.fill(0);
    this.#conflated.fill(0);
    this.#wasReset.fill(0);
    this.#duplicates = 0;
    this.#resets = {};
    this.#stale = 0;
    this.#samples = 0;
    this.#sampleEvery = sampleEvery;
    this.#untilSample = sampleEvery;
  }

  /** How many updates have come so far, and when that is. */
  mark() {
    return { at: clock(), frames: this.#frames };
  }

  /**
   * Waits until all have come so far as an update.
   *
   * @param {{ n: number, patience: number }} options
   * @returns when that was; undefined when it was not within the patience
   */
  async reach({ n, patience }) {
    const deadline = clock() + patience;
    for (;;) {
      const now = clock();
      if (this.#last.every((last, i) => last >= this.#newestFor(i, n))) return now;
      if (now > deadline) return undefined;
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  }

  /**
   * What came of a measurement.
   *
   * @param {{ n: number, first: number, acknowledged: Float64Array }} written
   */
  finish({ n, first, acknowledged }) {
    const { size } = this.#options;
    const sum = { expected: 0, received: 0, conflated: 0, untold: 0 };
    for (let i = 0; i < size; i++) {
      const expected = this.#expected(i, n);
      sum.expected += expected;
      sum.received += this.#received[i];
      sum.conflated += this.#conflated[i];
      // Who had to begin anew was told that things are missing, not how many.
      if (this.#wasReset[i] === 1) continue;
      sum.untold += Math.abs(expected - this.#received[i] - this.#conflated[i]);
    }
    return {
      ...sum,
      duplicates: this.#duplicates,
      lost: this.#lost(n),
      closed: this.#readyAt.filter((at) => Number.isNaN(at)).length,
      failure: this.#failure,
      resets: this.#resets,
      stale: this.#stale,
      latency: this.#latency(first, acknowledged),
    };
  }

  /** Updates that a watcher has to get of all up to a number. */
  #expected(i, n) {
    if (!this.#isDivided) return n - this.#base;
    const newest = this.#newestFor(i, n);
    return newest <= this.#base ? 0 : Math.ceil((newest - this.#base) / this.#options.groups);
  }

  /** How many keys of how many watchers are not in their last state. */
  #lost(n) {
    const { size, groups } = this.#options;
    const newest = Array.from({ length: this.#keys.count }, (_, i) => this.#keys.newest(i, n));
    let lost = 0;
    for (let i = 0; i < size; i++) {
      for (let k = 0; k < this.#keysEach; k++) {
        const want = newest[this.#isDivided ? this.#groupOf(i) + k * groups : k];
        if (want > this.#base && this.#state[i * this.#keysEach + k] !== want) lost += 1;
      }
    }
    return lost;
  }

  /** The number of the newest update, up to one, that a watcher gets. */
  #newestFor(i, n) {
    if (!this.#isDivided) return n;
    const first = this.#groupOf(i) + 1;
    return n < first ? 0 : n - ((n - first) % this.#options.groups);
  }

  #groupOf(i) {
    return this.#options.share === "own" ? i % this.#options.groups : 0;
  }

  /** Milliseconds from a write's acknowledgement to its arrival, in ascending order. */
  #latency(first, acknowledged) {
    const times = new Float64Array(this.#samples);
    let count = 0;
    for (let i = 0; i < this.#samples; i++) {
      const at = acknowledged[sampleNumbers[i] - first];
      if (at !== undefined) times[count++] = sampleTimes[i] - at;
    }
    const sorted = times.subarray(0, count).sort();
    const at = (part) =>
      count === 0 ? NaN : sorted[Math.min(count - 1, Math.floor(count * part))];
    return { count, p50: at(0.5), p99: at(0.99), max: at(1) };
  }

  #open(i, isResuming) {
    const { kind, port, addresses } = this.#options;
    const address = 1 + (this.#opened++ % addresses);
    const options = {
      port,
      path: this.#path(i, isResuming),
      ...(kind === "jetbucket" && { protocol: "jetbucket.v1" }),
      ...(addresses > 1 && { localAddress: `127.0.0.${address}` }),
    };
    const handler = kind === "nats" ? new NatsHandler(this, i) : new FrameHandler(this, i);
    const socket = new RawWebSocket(options, handler);
    handler.socket = socket;
    this.#sockets[i] = socket;
  }

  #path(i, isResuming) {
    const { kind, bucket, filters, include, groups } = this.#options;
    if (kind !== "jetbucket") return "/";
    const query = new URLSearchParams({ include });
    for (const filter of filters) query.append("key", filter.replace("{}", pad(i % groups, 4)));
    if (isResuming) query.set("since", this.#positionOf(i));
    return `/api/v1/kv/buckets/${bucket}/watch?${query}`;
  }

  /** Where a watcher stands: the position it was told, moved on by the updates that it has got since. */
  #positionOf(i) {
    const position = this.#positions[i];
    const [epoch, told, ...rest] = position.split("-");
    const revision = Math.max(parseInt(told, 36), this.#last[i] + this.#revisionOffset);
    return [epoch, revision.toString(36), ...rest].join("-");
  }

  get bucket() {
    return this.#options.bucket;
  }

  // Called by the handlers:

  onReady(i, position) {
    this.#isSnapshot[i] = 0;
    if (position !== undefined) this.#positions[i] = position;
    if (!Number.isNaN(this.#readyAt[i])) return;
    this.#readyAt[i] = clock();
    this.#onProgress?.();
  }

  onEnd(i, reason) {
    this.#readyAt[i] = NaN;
    this.#failure ??= `socket ${i}: ${reason}`;
    this.#onProgress?.();
  }

  onReset(i, reason) {
    this.#resets[reason] = (this.#resets[reason] ?? 0) + 1;
    this.#wasReset[i] = 1;
    this.#isSnapshot[i] = 1;
    this.#last[i] = 0;
    this.#state.fill(0, i * this.#keysEach, (i + 1) * this.#keysEach);
  }

  onStale() {
    this.#stale += 1;
  }

  /** To be called when bytes have come: what they bring has come then. */
  onArrival() {
    this.#now = clock();
  }

  /** An update, as JSON or within other bytes. */
  onUpdate(i, bytes, start, end) {
    let at = start + this.#numberOffset;
    if (
      bytes[at + 2] !== NUMBER_MARK[2] ||
      bytes[at] !== NUMBER_MARK[0] ||
      bytes[at + 1] !== NUMBER_MARK[1] ||
      bytes[at + 3] !== NUMBER_MARK[3] ||
      bytes[at + 4] !== NUMBER_MARK[4]
    ) {
      at = bytes.indexOf(NUMBER_MARK, start);
      // Another value, of a key that no watcher is asked about.
      if (at < 0 || at >= end) return;
      this.#numberOffset = at - start;
    }
    const n = numberAt(bytes, at + 4);
    if (end - start > this.#usualLength) this.#onUnusual(i, bytes, start, end);
    if (--this.#untilCheck === 0) this.#check(n, bytes.subarray(start, end));
    const index = (n - 1) % this.#keys.count;
    const { groups } = this.#options;
    const place =
      i * this.#keysEach + (this.#isDivided ? (index - (index % groups)) / groups : index);
    this.#frames += 1;
    if (n <= this.#last[i] && this.#isSnapshot[i] === 0) {
      // What was written before this measurement began may still be coming.
      if (n > this.#base) this.#duplicates += 1;
      return;
    }
    if (n > this.#last[i]) this.#last[i] = n;
    this.#state[place] = n;
    this.#received[i] += 1;
    if (--this.#untilSample > 0) return;
    this.#untilSample = this.#sampleEvery;
    if (this.#samples === SAMPLES) return;
    sampleNumbers[this.#samples] = n;
    sampleTimes[this.#samples++] = this.#now;
  }

  /** A frame that is longer than others says more: perhaps that frames before it were replaced. */
  #onUnusual(i, bytes, start, end) {
    const at = bytes.subarray(start, end).lastIndexOf(CONFLATED);
    if (at < 0) this.#usualLength = end - start;
    else this.#conflated[i] += parseInt(bytes.latin1Slice(start + at + CONFLATED.length, end), 10);
  }

  #check(n, bytes) {
    this.#untilCheck = SPOT_CHECK;
    if (this.#options.kind === "nats") return;
    const { key, value, revision } = JSON.parse(bytes.toString());
    if (key !== this.#keys.of(n) || value.n !== 1_000_000_000 + n) {
      this.#failure ??= `update ${n} is not what was written: ${bytes.toString()}`;
    }
    this.#revisionOffset = revision - n;
  }
}

/** Reads jetbucket's frames, and those of the baselines, which have the same form. */
class FrameHandler {
  constructor(crowd, i) {
    this.crowd = crowd;
    this.i = i;
  }

  onOpen() {
    // A frame of the server's says when it is ready.
  }

  onMessage(bytes, start, end) {
    this.crowd.onArrival();
    // {"type":"kv_update"
    if (bytes[start + 12] === 0x75) this.crowd.onUpdate(this.i, bytes, start, end);
    else this.#onOther(JSON.parse(bytes.utf8Slice(start, end)));
  }

  #onOther({ type, position, reason, code }) {
    if (type === "kv_ready") this.crowd.onReady(this.i, position);
    else if (type === "kv_reset") this.crowd.onReset(this.i, reason);
    else if (type === "kv_stale") this.crowd.onStale();
    else if (type === "error") this.crowd.onEnd(this.i, code);
  }

  onEnd(reason) {
    this.crowd.onEnd(this.i, reason);
  }
}

/** A bare subscription of NATS's own protocol, which knows neither snapshots nor what is missing. */
class NatsHandler {
  #carry = Buffer.alloc(0);
  /** Where the line of a message usually ends. */
  #lineLength = 0;

  constructor(crowd, i) {
    this.crowd = crowd;
    this.i = i;
  }

  onOpen() {
    const options = { verbose: false, pedantic: false, lang: "bench", version: "0", headers: true };
    this.socket.send(
      `CONNECT ${JSON.stringify(options)}\r\nSUB $KV.APP_${this.crowd.bucket}.> 1\r\nPING\r\n`,
    );
  }

  onMessage(bytes, start, end) {
    this.crowd.onArrival();
    if (this.#carry.length === 0) {
      this.#keep(bytes, this.#operations(bytes, start, end), end);
      return;
    }
    const joined = Buffer.concat([this.#carry, bytes.subarray(start, end)]);
    this.#keep(joined, this.#operations(joined, 0, joined.length), joined.length);
  }

  #keep(bytes, start, end) {
    this.#carry = start === end ? empty : Buffer.from(bytes.subarray(start, end));
  }

  /** Whole operations; returns where the first one begins that is not. */
  #operations(bytes, start, end) {
    let at = start;
    for (;;) {
      let line = at + this.#lineLength;
      if (line + 2 > end || bytes[line] !== CR || bytes[at] !== 0x48 /* HMSG */) {
        line = bytes.indexOf(CR, at);
        if (line < 0 || line + 2 > end) return at;
        if (bytes[at] === 0x48) this.#lineLength = line - at;
      }
      if (bytes[at] !== 0x48) {
        this.#onOther(bytes.latin1Slice(at, line));
        at = line + 2;
        continue;
      }
      let size = 0;
      for (let i = line - 1, unit = 1; bytes[i] !== 0x20; i--, unit *= 10) {
        size += (bytes[i] - 48) * unit;
      }
      const next = line + 2 + size + 2;
      if (next > end) return at;
      this.crowd.onUpdate(this.i, bytes, line + 2, next - 2);
      at = next;
    }
  }

  #onOther(line) {
    if (line === "PONG") this.crowd.onReady(this.i);
    else if (line === "PING") this.socket.send("PONG\r\n");
    else if (line.startsWith("-ERR")) this.crowd.onEnd(this.i, line);
  }

  onEnd(reason) {
    this.crowd.onEnd(this.i, reason);
  }
}

const CR = 0x0d;
const empty = Buffer.alloc(0);
