/**
 * Random operations over HTTP, on one bucket, through one or more gateways, each compared with a model of the bucket. What
 * is random comes from a seed, so that a run can be repeated.
 */
import { inspect, isDeepStrictEqual } from "node:util";
import type { UpdateFrame } from "../../src/protocol/messages.ts";
import { call, type Answer } from "./gateway.ts";
import { covers, mergePatch, ModelBucket } from "./model.ts";
import type { Condition, Content, Expiry, Refusal, Revision } from "./model.ts";
import { Random } from "./model-random.ts";
import { openWatch, watchUrl, type WatchClient } from "./watch-client.ts";

export interface ModelRequest {
  /** Which gateway is asked. */
  gateway: number;
  method: string;
  /** Behind the bucket's address. */
  path: string;
  body?: string | Uint8Array<ArrayBuffer> | undefined;
  headers: Record<string, string>;
}

export type Send = (request: ModelRequest) => Promise<Answer>;

/** Something that stands between the run and the gateway and does harm, to prove that it is found. */
export interface Fault {
  wrap?: (send: Send, random: Random) => Send;
  /** What of a watch is let through. */
  updates?: (updates: UpdateFrame[]) => UpdateFrame[];
}

export interface RunOptions {
  /** Addresses of the gateways' APIs. */
  gateways: readonly string[];
  bucket: string;
  history: number;
  seed: number;
  operations: number;
  fault?: Fault;
}

/** How many operations of which kind a run has carried out. */
export type Tally = Map<string, number>;

/** The gateway did something that the model does not. */
export class Divergence extends Error {
  override readonly name = "Divergence";
}

const KEYS = [
  ...["a", "b", "A", "0", "long/er/path", "user.1", "user.2", "user.10", "user-x", "user", "x.y.z"],
  ...["ü ö", "日本.語", "😀", "=41", "=", "a=3D", " ", "  two ", "tab\there", "line\nbreak"],
  ...[
    ".",
    "..",
    "a..b",
    ".hidden",
    "end.",
    "../up",
    "*",
    ">",
    "user.*",
    "a*b",
    "$KV.x",
    "_jetbucket",
  ],
  ...["100%", "%41", "a?b=c&d#e", "a+b", "__proto__", "constructor", "k".repeat(512)],
] as const;
const FILTERS = [
  "user.*",
  "user.>",
  ">",
  "*",
  "*.*",
  "user-*",
  "us*",
  "*.1*",
  "x.*.z",
  "日本.*",
  "none.>",
];
const PREFIXES = ["user", "user.", "a", "", "=", ".", "日", "none"];
const HOUR = 3600;
/** How long to wait for what has to happen, in milliseconds. */
const PATIENCE = 15_000;
/** What is left of a short life must be this much for an operation that needs the key alive, in milliseconds. */
const MARGIN = 500;

const pathOf = (what: string, key: string): string => {
  const isAltered = key.split("/").some((segment) => segment === "." || segment === "..");
  const encoded = encodeURIComponent(key);
  return isAltered ? `/${what === "keys" ? "entry" : what}?key=${encoded}` : `/${what}/${encoded}`;
};

const withQuery = (path: string, query: URLSearchParams): string =>
  query.size === 0 ? path : `${path}${path.includes("?") ? "&" : "?"}${query.toString()}`;

const textOf = ({ value, encoding }: Content): string | Uint8Array<ArrayBuffer> => {
  if (encoding === "json") return JSON.stringify(value);
  return encoding === "text"
    ? (value as string)
    : new Uint8Array(Buffer.from(value as string, "base64"));
};

const TYPES = { json: "application/json", text: "text/plain", base64: "application/octet-stream" };

const isInside = (time: string | undefined, { from, to }: Expiry): boolean =>
  time !== undefined && Date.parse(time) >= from && Date.parse(time) <= to;

type Operation = { key: string } & (
  | ({ op: "put" | "create"; ttl: number | undefined } & Content)
  | ({ op: "update"; revision: number; ttl: number | undefined } & Content)
  | { op: "delete" | "purge"; revision?: number }
  | { op: "check"; revision: number }
);

interface Watched {
  client: WatchClient;
  filter: string;
}

class Run {
  readonly #options: RunOptions;
  readonly #random: Random;
  /** Apart, since how often is asked while waiting depends on time. */
  readonly #gateways: Random;
  readonly #model: ModelBucket;
  readonly #send: Send;
  readonly #tally: Tally = new Map();
  readonly #trace: string[] = [];
  #watches: Watched[] = [];
  #step = 0;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#gateways = new Random(options.seed + 2);
    this.#model = new ModelBucket(options.history);
    const { gateways, bucket, fault } = options;
    const send: Send = ({ gateway, method, path, body, headers }) =>
      call(method, `${gateways[gateway]!}/buckets/${bucket}${path}`, body, headers);
    this.#send = fault?.wrap?.(send, new Random(options.seed + 1)) ?? send;
  }

  async run(): Promise<Tally> {
    const operations: [number, string, () => Promise<void>][] = [
      [22, "put", () => this.#put()],
      [10, "delete", () => this.#delete()],
      [8, "increment", () => this.#increment()],
      [6, "merge patch", () => this.#patch()],
      [4, "touch", () => this.#touch()],
      [4, "restore", () => this.#restore()],
      [7, "batch", () => this.#batch()],
      [10, "transaction", () => this.#transaction()],
      [2, "race", () => this.#race()],
      [12, "get", () => this.#get(this.#key())],
      [5, "get at a revision", () => this.#getRevision()],
      [4, "get as of a revision", () => this.#getAsOf()],
      [6, "history", () => this.#history(this.#key())],
      [6, "list", () => this.#list()],
      [1, "list as of a revision", () => this.#listAsOf()],
      [2, "bucket info", () => this.#info()],
      [0.5, "compact", () => this.#compact()],
      [0.5, "watch", () => this.#watch()],
      [0.4, "state of the watches", () => this.#sameWatches()],
    ];
    const choices = operations.map(
      ([weight, name, carryOut]) => [weight, { name, carryOut }] as const,
    );
    const { operations: total } = this.#options;
    const lifetimes = Math.max(1, Math.round(total / 700));
    try {
      await this.#watch(">");
      for (; this.#step < total; this.#step++) {
        const { name, carryOut } =
          this.#step % Math.ceil(total / lifetimes) === Math.floor(total / lifetimes / 2)
            ? { name: "short lives", carryOut: () => this.#shortLives() }
            : this.#random.weighted(choices);
        this.#count(name);
        await carryOut();
      }
      await this.#everything();
    } finally {
      for (const { client } of this.#watches) client.socket.terminate();
    }
    return this.#tally;
  }

  #count(name: string): void {
    this.#tally.set(name, (this.#tally.get(name) ?? 0) + 1);
  }

  // ---- asking, and comparing

  async #request(
    method: string,
    path: string,
    body?: ModelRequest["body"],
    headers: Record<string, string> = {},
  ): Promise<Answer & { sent: number; back: number }> {
    const gateway = this.#gateways.int(0, this.#options.gateways.length - 1);
    const sent = Date.now();
    const answer = await this.#send({ gateway, method, path, body, headers });
    const back = Date.now();
    this.#trace.push(
      `#${this.#step} ${method} ${path} ${JSON.stringify(headers)} ${typeof body === "string" ? body.slice(0, 600) : ""} => ` +
        `${answer.status} ${JSON.stringify(answer.body).slice(0, 300)}`,
    );
    return { ...answer, sent, back };
  }

  #json(method: string, path: string, value: unknown, headers: Record<string, string> = {}) {
    return this.#request(method, path, JSON.stringify(value), {
      "Content-Type": "application/json",
      ...headers,
    });
  }

  #differs(what: string, expected: unknown, actual: unknown, key?: string): never {
    const { seed, history } = this.#options;
    const concerned =
      key === undefined
        ? this.#trace
        : this.#trace.filter(
            (line) =>
              line.includes(encodeURIComponent(key)) ||
              line.includes(JSON.stringify(key)) ||
              line.includes("/compact"),
          );
    const show = (value: unknown): string => inspect(value, { depth: 6, breakLength: Infinity });
    throw new Divergence(
      `${what}${key === undefined ? "" : ` (key ${JSON.stringify(key)})`}: the model says ${show(expected)}, ` +
        `the gateway ${show(actual)}\n` +
        `seed ${seed}, history ${history}, operation ${this.#step} of ${this.#options.operations}\n` +
        `model: ${key === undefined ? "" : show(this.#model.history(key))}\n` +
        concerned.slice(-15).join("\n"),
    );
  }

  #same(what: string, expected: unknown, actual: unknown, key?: string): void {
    if (!isDeepStrictEqual(expected, actual)) this.#differs(what, expected, actual, key);
  }

  #refused(answer: Answer, { code, current }: Refusal, key: string): void {
    const { status, body } = answer;
    this.#same(
      "refusal",
      [412, code, current],
      [status, body.code, body.details?.current_revision],
      key,
    );
  }

  /** A new revision is higher than all before it. */
  #newRevision(revision: unknown, key: string, before = this.#model.last): number {
    if (!Number.isSafeInteger(revision) || (revision as number) <= before)
      this.#differs("revision of a write", `more than ${before}`, revision, key);
    return revision as number;
  }

  /** Takes a write into the model, by its answer. */
  #wrote(answer: Answer, key: string, content: Content, expiry: Expiry | undefined): void {
    const { status, body, headers } = answer;
    this.#same("status", 200, status, key);
    const revision = this.#newRevision(body.revision, key);
    this.#same("ETag", `"${revision}"`, headers.get("ETag"), key);
    this.#endsAt(body.expires_at, expiry, key);
    this.#model.put(key, revision, content, expiry);
  }

  #endsAt(actual: string | undefined, expiry: Expiry | undefined, key: string): void {
    if (expiry === undefined) this.#same("expires_at", undefined, actual, key);
    else if (!isInside(actual, expiry)) this.#differs("expires_at", expiry, actual, key);
  }

  /** Whether an entry of the API is a revision of the model. */
  #sameEntry(entry: Answer["body"], revision: Revision, key: string): void {
    const { content, expiry } = revision;
    this.#same("key", key, entry.key, key);
    if (content === undefined) {
      this.#same("operation", "delete", entry.operation, key);
      if (revision.isOptional !== true) this.#same("reason", revision.reason, entry.reason, key);
    } else {
      this.#same("operation", "put", entry.operation, key);
      this.#same("value", content.value, entry.value, key);
      this.#same("encoding", content.encoding, entry.encoding, key);
      this.#same("description", content.description, entry.description, key);
      this.#endsAt(entry.expires_at, expiry, key);
    }
    if (revision.revision !== undefined)
      this.#same("revision", revision.revision, entry.revision, key);
    else if (revision.isOptional !== true) {
      revision.revision = entry.revision as number;
      this.#model.last = Math.max(this.#model.last, revision.revision);
    }
  }

  #lives(ttl: number, { sent, back }: { sent: number; back: number }): Expiry {
    return { from: sent + ttl * 1000 - 1, to: back + ttl * 1000 + 1 };
  }

  async #until(
    what: string,
    isTrue: () => boolean | Promise<boolean>,
    key?: string,
  ): Promise<void> {
    const deadline = Date.now() + PATIENCE;
    while (!(await isTrue())) {
      if (Date.now() > deadline) this.#differs(what, "soon", "not in time", key);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  // ---- choosing

  #key(): string {
    // A few keys are used much, so that things happen to them.
    return this.#random.chance(0.6)
      ? this.#random.pick(KEYS.slice(0, 12))
      : this.#random.pick(KEYS);
  }

  #content(): Content {
    const random = this.#random;
    const description = random.chance(0.1) ? random.pick(["plain", "ümlaut, 100%"]) : undefined;
    const n = random.int(0, 1000);
    if (random.chance(0.1)) return { value: `text ${n} ü`, encoding: "text", description };
    if (random.chance(0.1)) {
      const bytes = Buffer.from([0xff, n & 0xff, 0]);
      return { value: bytes.toString("base64"), encoding: "base64", description };
    }
    const value = random.pick<unknown>([
      ...[n, n, n, `string ${n}`, null, true, [n, { a: 1 }]],
      ...[{ n }, { n, deep: { x: n, y: null } }, { list: [n], ü: "ö" }],
    ]);
    return { value, encoding: "json", description };
  }

  #condition(key: string): Condition | undefined {
    const random = this.#random;
    if (random.chance(0.5)) return undefined;
    if (random.chance(0.3)) return { kind: random.pick(["absent", "present"]) };
    const latest = this.#model.latest(key);
    if (random.chance(0.6) && latest?.revision !== undefined && latest.isOptional !== true)
      return { kind: "revision", revision: latest.revision };
    return { kind: "revision", revision: this.#wrongRevision(key) };
  }

  /** A revision at which a key does not stand: an older one of its own, another key's, one yet to come, or 0. */
  #wrongRevision(key: string): number {
    const own = this.#model.latest(key)?.revision;
    const other = this.#random.pick([
      ...this.#model.past(key).filter(({ hasExpired }) => hasExpired !== true),
      ...this.#model.past(this.#key()),
      undefined,
    ]);
    const revision = this.#random.pick([0, this.#model.last + 1000, other?.revision ?? 0]);
    // The revision of a tombstone is not always known: then none of the key's own can be told to be wrong, but those before it.
    return revision === own ? this.#model.last + 1000 : revision;
  }

  #headersOf(condition: Condition | undefined): Record<string, string> {
    switch (condition?.kind) {
      case undefined:
        return {};
      case "absent":
        return { "If-None-Match": "*" };
      case "present":
        return { "If-Match": "*" };
      case "revision": {
        const { revision } = condition;
        return { "If-Match": this.#random.pick([`${revision}`, `"${revision}"`]) };
      }
    }
  }

  // ---- writing

  async #put(): Promise<void> {
    const key = this.#key();
    const content = this.#content();
    const condition = this.#condition(key);
    const ttl = this.#random.chance(0.1) ? HOUR : undefined;
    const returns = this.#random.chance(0.15)
      ? this.#random.pick(["previous", "latest"])
      : undefined;
    const query = new URLSearchParams();
    if (ttl !== undefined) query.set("ttl", "1h");
    if (content.description !== undefined) query.set("description", content.description);
    if (returns !== undefined) query.set("return", returns);
    const before = this.#model.live(key);
    const answer = await this.#request(
      "PUT",
      withQuery(pathOf("keys", key), query),
      textOf(content),
      {
        "Content-Type": TYPES[content.encoding],
        ...this.#headersOf(condition),
      },
    );
    const refusal = this.#model.check(key, condition);
    if (refusal !== undefined) {
      this.#refused(answer, refusal, key);
      return;
    }
    this.#wrote(answer, key, content, ttl === undefined ? undefined : this.#lives(ttl, answer));
    if (returns === "latest") this.#sameEntry(answer.body.latest, this.#model.live(key)!, key);
    if (returns === "previous") {
      if (before === undefined) this.#same("previous", null, answer.body.previous, key);
      else this.#sameEntry(answer.body.previous, before, key);
    }
  }

  async #delete(): Promise<void> {
    const key = this.#key();
    const condition = this.#condition(key);
    const purge = this.#random.chance(0.3);
    const query = new URLSearchParams(purge ? { purge: "true" } : {});
    const headers = this.#headersOf(condition);
    const answer = await this.#request(
      "DELETE",
      withQuery(pathOf("keys", key), query),
      undefined,
      headers,
    );
    const refusal = this.#model.check(key, condition);
    if (refusal !== undefined) {
      this.#refused(answer, refusal, key);
      return;
    }
    this.#same("status", 204, answer.status, key);
    const latest = this.#model.latest(key);
    // What is deleted already stays as it is, unless it is to be purged or a revision of it was named.
    const named = condition?.kind === "revision" && condition.revision !== 0;
    if (latest === undefined || (latest.content === undefined && !purge && !named)) return;
    this.#model.delete(key, undefined, purge, latest.isOptional !== true);
  }

  async #increment(): Promise<void> {
    const key = this.#key();
    const by = this.#random.pick([undefined, 1, 5, -3]);
    const initial = this.#random.pick([undefined, 100]);
    const ttl = this.#random.chance(0.1) ? HOUR : undefined;
    const before = this.#model.live(key);
    const answer = await this.#json("POST", pathOf("increment", key), { by, initial, ttl });
    const number = before === undefined ? (initial ?? 0) : before.content.value;
    if (
      before !== undefined &&
      (before.content.encoding !== "json" || !Number.isSafeInteger(number))
    ) {
      this.#same("refusal", [400, "invalid_request"], [answer.status, answer.body.code], key);
      return;
    }
    const value = (number as number) + (by ?? 1);
    this.#same("sum", value, answer.body.value, key);
    this.#updated(answer, key, value, ttl);
  }

  async #patch(): Promise<void> {
    const key = this.#key();
    const condition = this.#condition(key);
    const ttl = this.#random.chance(0.1) ? HOUR : undefined;
    const n = this.#random.int(0, 9);
    const change = this.#random.pick<unknown>([
      ...[
        { n },
        { n: null },
        { deep: { x: null, z: n } },
        { list: [n] },
        { fresh: { a: { b: null, c: n } } },
      ],
      ...[n, "text"],
    ]);
    const before = this.#model.live(key);
    const path = withQuery(
      pathOf("keys", key),
      new URLSearchParams(ttl === undefined ? {} : { ttl: "1h" }),
    );
    const answer = await this.#request("PATCH", path, JSON.stringify(change), {
      "Content-Type": "application/merge-patch+json",
      ...this.#headersOf(condition),
    });
    const refusal = this.#model.check(key, condition);
    if (refusal !== undefined) {
      this.#refused(answer, refusal, key);
      return;
    }
    if (before !== undefined && before.content.encoding !== "json") {
      this.#same("refusal", [400, "invalid_request"], [answer.status, answer.body.code], key);
      return;
    }
    const value = mergePatch(before?.content.value, change);
    this.#same("merged value", value, answer.body.value, key);
    this.#updated(answer, key, value, ttl);
  }

  /** A write of a new JSON value that keeps the rest of the entry, its end too unless there is a new one. */
  #updated(
    answer: Answer & { sent: number; back: number },
    key: string,
    value: unknown,
    ttl?: number,
  ): void {
    const before = this.#model.live(key);
    const content: Content = { value, encoding: "json", description: before?.content.description };
    this.#wrote(
      answer,
      key,
      content,
      ttl === undefined ? before?.expiry : this.#lives(ttl, answer),
    );
  }

  async #touch(): Promise<void> {
    const key = this.#key();
    const before = this.#model.live(key);
    const answer = await this.#json("POST", pathOf("touch", key), { ttl: "1h" });
    if (before === undefined) {
      this.#same("refusal", [404, "key_not_found"], [answer.status, answer.body.code], key);
      return;
    }
    this.#wrote(answer, key, before.content, this.#lives(HOUR, answer));
  }

  async #restore(): Promise<void> {
    const key = this.#key();
    const condition = this.#random.chance(0.3) ? this.#condition(key) : undefined;
    const own = this.#random.pick([...this.#model.history(key), undefined]);
    const revision = (own?.revision ?? this.#wrongRevision(key)) || 1;
    const answer = await this.#json(
      "POST",
      pathOf("restore", key),
      { revision },
      this.#headersOf(condition),
    );
    const stored = this.#stored(key, revision);
    if (stored?.content === undefined) {
      this.#sameAbsence(answer, stored, key);
      return;
    }
    const refusal = this.#model.check(key, condition);
    if (refusal !== undefined) this.#refused(answer, refusal, key);
    else this.#wrote(answer, key, stored.content, undefined);
  }

  #stored(key: string, revision: number): Revision | undefined {
    return this.#model.history(key).find((each) => each.revision === revision);
  }

  #sameAbsence({ status, body }: Answer, stored: Revision | undefined, key: string): void {
    this.#same("status", 404, status, key);
    // A revision that is not known can be the one of a tombstone.
    const unknown = this.#model.history(key).some(({ revision }) => revision === undefined);
    if (stored === undefined && unknown) return;
    this.#same(
      "code",
      stored === undefined ? "revision_not_found" : "key_not_found",
      body.code,
      key,
    );
  }

  async #batch(): Promise<void> {
    const keys = this.#random.some<string>(
      KEYS,
      this.#random.chance(0.15) ? 30 : this.#random.int(1, 8),
    );
    const by = this.#random.next();
    const [get, set, remove]: [string[], string[], string[]] = [[], [], []];
    for (const key of keys)
      this.#random
        .weighted([
          [1, get],
          [by * 4, set],
          [1, remove],
        ])
        .push(key);
    const items = set.map((key) => {
      const { value, encoding } = this.#content();
      const ttl = this.#random.chance(0.1) ? HOUR : undefined;
      return { key, value, encoding, ttl };
    });
    const answer = await this.#json("POST", "/batch", { get, set: items, delete: remove });
    this.#same("status", 200, answer.status);
    get.forEach((key, i) => this.#sameLive(answer.body.get[i], key));
    const before = this.#model.last;
    items.forEach(({ key, value, encoding, ttl }, i) => {
      const result = answer.body.set[i];
      this.#same("key", key, result.key);
      const revision = this.#newRevision(result.revision, key, before);
      const expiry = ttl === undefined ? undefined : this.#lives(ttl, answer);
      this.#endsAt(result.expires_at, expiry, key);
      this.#model.put(key, revision, { value, encoding }, expiry);
    });
    this.#same(
      "deletes",
      remove.map((key) => ({ key, existed: this.#model.live(key) !== undefined })),
      answer.body.delete,
    );
    for (const key of remove)
      if (this.#model.live(key) !== undefined) this.#model.delete(key, undefined, false);
  }

  async #transaction(): Promise<void> {
    const random = this.#random;
    const isGood = random.chance(0.7);
    const keys = random.some<string>(KEYS, random.chance(0.1) ? KEYS.length : random.int(1, 6));
    const operations = keys.map((key): Operation => {
      const { value, encoding } = this.#content();
      const op = random.pick(["put", "create", "update", "delete", "purge", "check"] as const);
      const ttl = random.chance(0.1) ? HOUR : undefined;
      const latest = this.#model.latest(key);
      const stands =
        latest?.content === undefined && random.chance(0.8) ? 0 : (latest?.revision ?? 0);
      const revision = isGood || random.chance(0.7) ? stands : this.#wrongRevision(key);
      switch (op) {
        case "put":
          return { op, key, value, encoding, ttl };
        case "create":
          return isGood && this.#model.live(key) !== undefined
            ? { op: "put" as const, key, value, encoding, ttl }
            : { op, key, value, encoding, ttl };
        case "update":
          return { op, key, value, encoding, ttl, revision };
        case "delete":
        case "purge":
          return { op, key, ...(random.chance(0.5) ? { revision } : {}) };
        case "check":
          return { op, key, revision };
      }
    });
    const answer = await this.#json("POST", "/transactions", { operations });
    for (const [index, operation] of operations.entries()) {
      const { op, key } = operation;
      const condition: Condition | undefined =
        op === "create"
          ? { kind: "absent" }
          : "revision" in operation
            ? { kind: "revision", revision: operation.revision }
            : undefined;
      const refusal = this.#model.check(key, condition);
      if (refusal === undefined) continue;
      this.#refused(answer, refusal, key);
      const { details } = answer.body;
      this.#same(
        "operation that failed",
        { index, op, key },
        { index: details.index, op: details.op, key: details.key },
      );
      return;
    }
    this.#same("status", 200, answer.status);
    const { revisions } = answer.body as { revisions: Record<string, number> };
    const writes = operations.filter(({ op }) => op !== "check");
    this.#same("written keys", writes.map(({ key }) => key).sort(), Object.keys(revisions).sort());
    let next: number | undefined;
    for (const operation of writes) {
      const { key } = operation;
      const revision = this.#newRevision(revisions[key], key);
      if (next !== undefined) this.#same("revision, one behind the other", next, revision, key);
      next = revision + 1;
      if (operation.op === "delete" || operation.op === "purge") {
        this.#model.delete(key, revision, operation.op === "purge");
      } else if ("value" in operation) {
        const { value, encoding, ttl } = operation;
        const expiry = ttl === undefined ? undefined : this.#lives(ttl, answer);
        this.#model.put(key, revision, { value, encoding }, expiry);
      }
    }
  }

  /** Several at once on one key, through all gateways: one wins, or all count. */
  async #race(): Promise<void> {
    const key = this.#key();
    const runners = Array.from({ length: this.#random.int(2, 6) }, (_, i) => i);
    const live = this.#model.live(key);
    if (live?.content.encoding === "json" && Number.isSafeInteger(live.content.value)) {
      const answers = await Promise.all(
        runners.map(() => this.#json("POST", pathOf("increment", key), {})),
      );
      answers.sort((a, b) => a.body.revision - b.body.revision);
      answers.forEach((answer, i) => {
        const value = (live.content.value as number) + 1 + i;
        this.#same("sum", value, answer.body.value, key);
        this.#updated(answer, key, value);
      });
      return;
    }
    const condition: Condition =
      live === undefined ? { kind: "absent" } : { kind: "revision", revision: live.revision! };
    const answers = await Promise.all(
      runners.map((i) => this.#json("PUT", pathOf("keys", key), { i }, this.#headersOf(condition))),
    );
    const winner = answers.findIndex(({ status }) => status === 200);
    this.#same("winners", 1, answers.filter(({ status }) => status === 200).length, key);
    this.#wrote(answers[winner]!, key, { value: { i: winner }, encoding: "json" }, undefined);
    const refusal = this.#model.check(key, condition)!;
    answers.forEach((answer, i) => {
      if (i !== winner) this.#refused(answer, refusal, key);
    });
  }

  async #compact(): Promise<void> {
    const answer = await this.#json("POST", "/compact", { older_than: 0 });
    const { least, most } = this.#model.compact();
    const { removed } = answer.body as { removed: number };
    if (!(removed >= least && removed <= most))
      this.#differs("removed keys", [least, most], answer.body);
  }

  // ---- lives of a second

  async #shortLives(): Promise<void> {
    const random = this.#random;
    for (const key of random.some<string>(KEYS, random.int(3, 6))) {
      await this.#giveShortLife(key);
      const { expiry } = this.#model.live(key)!;
      if (random.chance(0.5) && Date.now() < expiry!.from - MARGIN)
        await this.#changeShortLife(key, expiry!);
    }
    const isShort = ({ to }: Expiry): boolean => to < Date.now() + 2_000;
    const doomed = KEYS.filter((key) => {
      const expiry = this.#model.live(key)?.expiry;
      return expiry !== undefined && isShort(expiry);
    });
    const ends = KEYS.flatMap((key) =>
      this.#model.history(key).flatMap(({ expiry }) => expiry ?? []),
    );
    const end = Math.max(0, ...ends.filter(isShort).map(({ to }) => to));
    const alive = new Set<string>(doomed);
    await this.#until("the end of keys whose time is over", async () => {
      for (const key of alive) if (!(await this.#isAlive(key))) alive.delete(key);
      return alive.size === 0 && Date.now() > end;
    });
    for (const key of KEYS) this.#model.expire(key, ({ to }) => to < Date.now());
    const { body } = await this.#request("GET", "/keys");
    this.#same("keys", this.#model.keys(), body.keys);
    for (const key of doomed) await this.#history(key);
  }

  async #giveShortLife(key: string): Promise<void> {
    const { value, encoding } = this.#content();
    const live = this.#model.live(key);
    const isNumber = Number.isSafeInteger(live === undefined ? 0 : live.content.value);
    const ways = ["put", "batch", "transaction", ...(live === undefined ? ["create"] : ["touch"])];
    if (live === undefined || (live.content.encoding === "json" && isNumber))
      ways.push("increment");
    const way = this.#random.pick(ways);
    this.#count(`short life by ${way}`);
    switch (way) {
      case "touch": {
        const answer = await this.#json("POST", pathOf("touch", key), { ttl: 1 });
        this.#wrote(answer, key, live!.content, this.#lives(1, answer));
        return;
      }
      case "increment": {
        const answer = await this.#json("POST", pathOf("increment", key), { ttl: "1s" });
        this.#updated(answer, key, ((live?.content.value ?? 0) as number) + 1, 1);
        return;
      }
      case "batch":
      case "transaction": {
        const answer =
          way === "batch"
            ? await this.#json("POST", "/batch", { set: [{ key, value, encoding, ttl: 1 }] })
            : await this.#json("POST", "/transactions", {
                operations: [{ op: "put", key, value, encoding, ttl: "PT1S" }],
              });
        const revision =
          way === "batch" ? answer.body.set?.[0].revision : answer.body.revisions?.[key];
        this.#model.put(
          key,
          this.#newRevision(revision, key),
          { value, encoding },
          this.#lives(1, answer),
        );
        return;
      }
      default: {
        const path = withQuery(pathOf("keys", key), new URLSearchParams({ ttl: "1s" }));
        const answer = await this.#request("PUT", path, textOf({ value, encoding }), {
          "Content-Type": TYPES[encoding],
          ...(way === "create" ? { "If-None-Match": "*" } : {}),
        });
        this.#wrote(answer, key, { value, encoding }, this.#lives(1, answer));
      }
    }
  }

  /** Does something to a key that has not long to live. */
  async #changeShortLife(key: string, { from }: Expiry): Promise<void> {
    const way = this.#random.pick(["put", "touch", "delete", "increment"]);
    this.#count(`short life ended by ${way}`);
    const live = this.#model.live(key)!;
    const isNumber = live.content.encoding === "json" && Number.isSafeInteger(live.content.value);
    if (way === "touch") {
      const answer = await this.#json("POST", pathOf("touch", key), { ttl: HOUR });
      if (answer.back < from) this.#wrote(answer, key, live.content, this.#lives(HOUR, answer));
      else await this.#settle(key);
    } else if (way === "delete") {
      const answer = await this.#request("DELETE", pathOf("keys", key));
      if (answer.back < from) this.#model.delete(key, undefined, false);
      else await this.#settle(key);
    } else if (way === "increment" && isNumber) {
      // It counts on, and ends when it would have ended.
      const answer = await this.#json("POST", pathOf("increment", key), {});
      if (answer.back < from) this.#updated(answer, key, (live.content.value as number) + 1);
      else await this.#settle(key);
    } else {
      const content = this.#content();
      const query = new URLSearchParams(
        content.description === undefined ? {} : { description: content.description },
      );
      const answer = await this.#request(
        "PUT",
        withQuery(pathOf("keys", key), query),
        textOf(content),
        {
          "Content-Type": TYPES[content.encoding],
        },
      );
      this.#wrote(answer, key, content, undefined);
    }
  }

  /** Makes it certain what a key holds, when its time may have been over before an answer came. */
  async #settle(key: string): Promise<void> {
    const operations = [{ op: "purge", key }];
    const answer = await this.#json("POST", "/transactions", { operations });
    this.#model.delete(key, this.#newRevision(answer.body.revisions?.[key], key), true);
  }

  /** Whether a key that is about to expire can be read. It must be until it ends, and never after. */
  async #isAlive(key: string): Promise<boolean> {
    const live = this.#model.live(key)!;
    const answer = await this.#request("GET", pathOf("keys", key));
    if (answer.status === 200) {
      this.#sameEntry(answer.body, live, key);
      if (answer.sent > live.expiry!.to) this.#differs("a key whose time is over", 404, 200, key);
      return true;
    }
    this.#same("status", 404, answer.status, key);
    if (answer.back < live.expiry!.from)
      this.#differs("a key whose time is not over", 200, 404, key);
    return false;
  }

  // ---- reading

  #sameLive(entry: Answer["body"], key: string): void {
    const live = this.#model.live(key);
    if (live !== undefined) this.#sameEntry(entry, live, key);
    else this.#same("absence", "key_not_found", entry.code ?? entry.error?.code ?? entry, key);
  }

  async #get(key: string): Promise<void> {
    const how = this.#random.pick(["", "strong", "min"]);
    const query = new URLSearchParams(how === "strong" ? { consistency: how } : {});
    const headers: Record<string, string> =
      how === "min" ? { "Min-Revision": `${this.#model.last}` } : {};
    const answer = await this.#request(
      "GET",
      withQuery(pathOf("keys", key), query),
      undefined,
      headers,
    );
    const live = this.#model.live(key);
    this.#same("status", live === undefined ? 404 : 200, answer.status, key);
    if (live !== undefined)
      this.#same("ETag", `"${live.revision!}"`, answer.headers.get("ETag"), key);
    this.#sameLive(answer.body, key);
  }

  async #getRevision(): Promise<void> {
    const key = this.#key();
    const own = this.#random.pick([...this.#model.past(key), undefined]);
    const revision = own?.revision ?? this.#random.int(1, this.#model.last + 1);
    const path = withQuery(pathOf("keys", key), new URLSearchParams({ revision: `${revision}` }));
    const answer = await this.#request("GET", path);
    const stored = this.#stored(key, revision);
    if (stored?.content === undefined) this.#sameAbsence(answer, stored, key);
    else this.#sameEntry(answer.body, stored, key);
  }

  /** What a key may have held at a revision: one thing, or several where the place of a delete is not known. */
  #candidates(key: string, at: number): Revision[] {
    let candidates: Revision[] = [];
    for (const each of this.#model.past(key)) {
      if (each.revision === undefined) candidates.push(each);
      else if (each.revision <= at) candidates = [each];
      else break;
    }
    return candidates;
  }

  async #getAsOf(): Promise<void> {
    if (this.#model.last === 0) return;
    const key = this.#key();
    const at = this.#random.int(1, this.#model.last);
    const path = withQuery(pathOf("keys", key), new URLSearchParams({ as_of: `${at}` }));
    const answer = await this.#request("GET", path);
    const candidates = this.#candidates(key, at);
    if (answer.status === 200) {
      const found = candidates.find(({ revision }) => revision === answer.body.revision);
      if (found?.content === undefined)
        this.#differs(`value as of ${at}`, candidates, answer.body, key);
      else this.#sameEntry(answer.body, found, key);
      return;
    }
    this.#same("status", 404, answer.status, key);
    // As far as the history reaches it has to tell.
    const [only] = candidates;
    if (
      candidates.length === 1 &&
      only?.content !== undefined &&
      this.#model.history(key).includes(only)
    )
      this.#differs(`value as of ${at}`, only, answer.body, key);
  }

  async #history(key: string): Promise<void> {
    const answer = await this.#request("GET", pathOf("history", key));
    const entries = (answer.body.entries ?? []) as Answer["body"][];
    let stored = this.#model.history(key);
    // What may be gone is the oldest.
    if (stored[0]?.isOptional === true && entries.length < stored.length) stored = stored.slice(1);
    if (entries.length !== stored.length) this.#differs("history", stored, entries, key);
    stored.forEach((revision, i) => this.#sameEntry(entries[i], revision, key));
    this.#same("status", entries.length === 0 ? 404 : 200, answer.status, key);
    const revisions = entries.map(({ revision }) => revision as number);
    this.#same(
      "order of the history",
      revisions.toSorted((a, b) => a - b),
      revisions,
      key,
    );
  }

  async #list(): Promise<void> {
    const random = this.#random;
    const filter = random.chance(0.5) ? random.pick(FILTERS) : undefined;
    const prefix = random.chance(0.4) ? random.pick(PREFIXES) : undefined;
    const limit = random.chance(0.5) ? random.int(1, 12) : undefined;
    const values = random.chance(0.3);
    const query = new URLSearchParams();
    if (filter !== undefined) query.set("filter", filter);
    if (prefix !== undefined) query.set("prefix", prefix);
    if (limit !== undefined) query.set("limit", `${limit}`);
    if (values) query.set("values", "true");
    const keys: string[] = [];
    for (;;) {
      const { status, body } = await this.#request("GET", withQuery("/keys", query));
      this.#same("status", 200, status);
      keys.push(...(body.keys as string[]));
      this.#same("count", body.keys.length, body.count);
      if (limit !== undefined && body.next_cursor !== undefined)
        this.#same("page", limit, body.count);
      if (values) for (const entry of body.entries) this.#sameLive(entry, entry.key as string);
      if (body.next_cursor === undefined) break;
      query.set("cursor", body.next_cursor as string);
    }
    const expected = this.#model
      .keys()
      .filter(
        (key) => key.startsWith(prefix ?? "") && (filter === undefined || covers(filter, key)),
      );
    this.#same(`keys, ${query.toString()}`, expected, keys);
  }

  async #listAsOf(): Promise<void> {
    if (this.#model.last === 0) return;
    const at = this.#random.int(1, this.#model.last);
    const { status, body } = await this.#request("GET", `/keys?as_of=${at}`);
    this.#same("status", 200, status);
    const listed = new Set(body.keys as string[]);
    for (const key of KEYS) {
      const candidates = this.#candidates(key, at);
      const isLive = candidates.map(({ content }) => content !== undefined);
      if (listed.has(key) && !isLive.includes(true))
        this.#differs(`keys as of ${at}`, "absent", "listed", key);
      if (
        !listed.has(key) &&
        isLive.length > 0 &&
        !isLive.includes(false) &&
        body.complete === true
      )
        this.#differs(`keys as of ${at}`, "listed", "absent", key);
    }
  }

  async #info(): Promise<void> {
    const { body } = await this.#request("GET", "");
    this.#same("live keys", this.#model.keys().length, body.keys);
    const { least } = this.#model.values();
    if (body.values < least) this.#differs("revisions", `at least ${least}`, body);
  }

  /** What an expired key leaves, and what carries the checks of a transaction, goes by itself. */
  async #remains(): Promise<void> {
    const { most } = this.#model.values();
    await this.#until(`at most ${most} revisions`, async () => {
      const { body } = await this.#request("GET", "");
      return body.values <= most;
    });
  }

  // ---- watching

  async #watch(filter?: string): Promise<void> {
    const { gateways, bucket } = this.#options;
    const pattern = filter ?? this.#random.pick(["user.*", ">", "a", "日本.*", "*"]);
    const query = new URLSearchParams(pattern === ">" ? {} : { key: pattern }).toString();
    const client = await openWatch(watchUrl(this.#random.pick(gateways), bucket, query));
    this.#watches.push({ client, filter: pattern });
    if (this.#watches.length <= 4) return;
    const [, closed] = this.#watches;
    closed!.client.socket.terminate();
    this.#watches = this.#watches.filter((each) => each !== closed);
  }

  async #sameWatches(): Promise<void> {
    const { fault } = this.#options;
    const live = new Map(
      this.#model.keys().map((key) => [key, this.#model.live(key)!.content.value]),
    );
    for (const { client, filter } of this.#watches) {
      const expected = new Map([...live].filter(([key]) => covers(filter, key)));
      const updates = (): UpdateFrame[] => fault?.updates?.(client.changes) ?? client.changes;
      const state = (): Map<string, unknown> => {
        const seen = new Map<string, unknown>();
        for (const { key, operation, value } of updates()) {
          if (operation === "put") seen.set(key, value);
          else seen.delete(key);
        }
        return seen;
      };
      const deadline = Date.now() + (fault === undefined ? PATIENCE : 1_000);
      while (!isDeepStrictEqual(state(), expected) && Date.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 5));
      this.#same(`what a watcher of ${filter} has`, [...expected].sort(), [...state()].sort());
      const revisions = updates().map(({ revision }) => revision);
      const disorder = revisions.findIndex((revision, i) => i > 0 && revision <= revisions[i - 1]!);
      if (disorder !== -1)
        this.#differs(
          `order of a watch of ${filter}`,
          "ascending",
          updates().slice(disorder - 1, disorder + 1),
        );
    }
  }

  async #everything(): Promise<void> {
    const { body } = await this.#request("GET", "/keys");
    this.#same("keys in the end", this.#model.keys(), body.keys);
    for (const key of KEYS) {
      await this.#get(key);
      await this.#history(key);
    }
    await this.#info();
    await this.#sameWatches();
    await this.#remains();
  }
}

/**
 * Carries out random operations on an empty bucket and compares every answer with a model.
 *
 * @returns how often each kind of operation was carried out
 * @throws Divergence where the gateway does not do what the model does
 */
export function runModel(options: RunOptions): Promise<Tally> {
  return new Run(options).run();
}
