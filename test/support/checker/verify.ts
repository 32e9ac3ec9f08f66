/** Compares what clients were sent with what was written. */
import type { Attempts } from "./attempts.ts";
import type { Client, Connection, Place } from "./client.ts";
import type { Trouble } from "./faults.ts";
import type { Seen, SeenChange } from "./frames.ts";
import { coversKey } from "./keys.ts";
import type { Life, LogBatch, LogEntry } from "./log.ts";
import { parsed } from "./position.ts";
import { Replica } from "./replica.ts";

export interface Violation {
  client: string;
  /** Which of its connections, from 0. */
  connection: number;
  /** Which of the promises was broken. */
  kind: string;
  what: string;
}

/** How often something happened, so that it can be seen that it was tried. */
export type Counts = Map<string, number>;

export interface Evidence {
  clients: readonly Client[];
  lives: readonly Life[];
  attempts: Attempts;
  troubles: readonly Trouble[];
  /** The bucket that clients are in when everything has come to rest. */
  finalLives: ReadonlyMap<string, Life>;
}

/**
 * How quickly a revision has to be overwritten for a feed to miss it without anything being wrong, in milliseconds: it is read
 * from the stream, and what is not there any more cannot be read.
 */
const QUICKLY = 1_500;
/** How late an expiry may be, in milliseconds. */
const EXPIRY = 300;
/** How soon a bucket's deletion has to be noticed, in milliseconds; the second one when other things go wrong, too. */
const AT_ONCE = 3_000;
const LATER = 20_000;

/** What was live on the way from a gateway to any of its clients: its feed has seen it. */
type Delivered = Map<string, Set<number>>;

export function verify(evidence: Evidence): { violations: Violation[]; counts: Counts } {
  const violations: Violation[] = [];
  const counts: Counts = new Map();
  const delivered: Delivered = new Map();
  // Twice: what one client got says what another one should have got.
  for (const isDraft of [true, false]) {
    violations.length = 0;
    counts.clear();
    for (const client of evidence.clients) {
      const check = new ClientCheck(client, evidence, delivered, counts, isDraft, (violation) =>
        violations.push(violation),
      );
      check.run();
    }
  }
  for (const { bucket, key, revision, digest } of evidence.attempts.lost(evidence.lives)) {
    violations.push({
      client: "writers",
      connection: 0,
      kind: "lost write",
      what: `${bucket}: ${key} was acknowledged with revision ${revision} (${digest}), and is not there`,
    });
  }
  counts.set(
    "unrecorded",
    evidence.lives.reduce((sum, life) => sum + life.unknown.length, 0),
  );
  return { violations, counts };
}

/** A part of a connection in one life of the bucket: all of it, or from one reset to the next. */
interface Segment {
  start: "fresh" | "resume" | "reset" | "plain";
  frames: { frame: Seen; index: number }[];
  reset: (Seen & { type: "reset" }) | undefined;
  isLast: boolean;
}

class ClientCheck {
  readonly #client: Client;
  readonly #evidence: Evidence;
  readonly #delivered: Delivered;
  readonly #counts: Counts;
  readonly #isDraft: boolean;
  readonly #report: (violation: Violation) => void;
  readonly #covers: (key: string) => boolean;
  /** Copies of the replica at places from which later connections go on. */
  readonly #kept = new Map<string, Replica>();
  readonly #wanted = new Set<string>();
  #number = 0;
  #replica: Replica;

  constructor(
    client: Client,
    evidence: Evidence,
    delivered: Delivered,
    counts: Counts,
    isDraft: boolean,
    report: (violation: Violation) => void,
  ) {
    this.#client = client;
    this.#evidence = evidence;
    this.#delivered = delivered;
    this.#counts = counts;
    this.#isDraft = isDraft;
    this.#report = report;
    this.#covers = coversKey(client.plan.watch.filters);
    this.#replica = new Replica(this.#isPlain ? "plain" : "building");
    for (const { from } of client.connections)
      if (from !== undefined) this.#wanted.add(nameOf(from));
  }

  get #isPlain(): boolean {
    return this.#client.plan.transport === "plain";
  }

  run(): void {
    for (const [number, connection] of this.#client.connections.entries()) {
      this.#number = number;
      this.#checkConnection(connection);
    }
    if (this.#isDraft) return;
    this.#checkEnd();
  }

  #fail(kind: string, what: string): void {
    this.#report({ client: this.#client.plan.name, connection: this.#number, kind, what });
  }

  #count(what: string, by = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + by);
  }

  #keep(frames: number): void {
    const place = nameOf({ connection: this.#number, frames });
    if (this.#wanted.has(place)) this.#kept.set(place, this.#replica.copy());
  }

  // ---- connections

  #checkConnection(connection: Connection): void {
    const { since, from, frames, resume } = connection;
    if (resume === "fresh" || since === undefined) {
      this.#replica = new Replica(this.#isPlain ? "plain" : "building");
    } else {
      const before = from === undefined ? undefined : this.#kept.get(nameOf(from));
      this.#replica = before?.copy() ?? new Replica("building");
      this.#replica.resume(since);
    }
    this.#count(`connections ${resume}`);
    this.#checkEnding(connection);
    this.#keep(0);
    let previous: Life | undefined;
    const seen = this.#segments(connection);
    for (const segment of seen) {
      const life = this.#lifeOf(segment, connection);
      if (life === undefined) {
        if (segment.frames.some(({ frame }) => frame.type === "changes"))
          this.#fail(
            "ghost",
            `frames of no bucket that ever was: ${describe(segment.frames[0]!.frame)}`,
          );
        for (const { index } of segment.frames) this.#keep(index + 1);
        continue;
      }
      this.#checkReset(segment, connection, life, previous);
      new SegmentCheck(segment, connection, life, this.#tools()).run();
      // That the gateway has lost touch says nothing of where the watch goes on.
      if (segment.frames.some(({ frame }) => frame.type !== "stale" && frame.type !== "error"))
        previous = life;
    }
    this.#count("frames", frames.length);
    this.#keep(frames.length);
  }

  #tools(): Tools {
    return {
      replica: this.#replica,
      client: this.#client,
      evidence: this.#evidence,
      covers: this.#covers,
      isPlain: this.#isPlain,
      isDraft: this.#isDraft,
      delivered: (gateway, life) => {
        const name = `${gateway} ${life.bucket} ${life.epoch}`;
        let revisions = this.#delivered.get(name);
        if (revisions === undefined) this.#delivered.set(name, (revisions = new Set()));
        return revisions;
      },
      fail: (kind, what) => this.#fail(kind, what),
      count: (what, by) => this.#count(what, by),
      keep: (frames) => this.#keep(frames),
    };
  }

  #segments({ frames, since }: Connection): Segment[] {
    const segments: Segment[] = [];
    let segment: Segment = {
      start: this.#isPlain ? "plain" : since === undefined ? "fresh" : "resume",
      frames: [],
      reset: undefined,
      isLast: false,
    };
    for (const [index, frame] of frames.entries()) {
      if (frame.type === "reset") {
        if (segment.frames.length > 0 || segment.reset !== undefined) segments.push(segment);
        segment = { start: "reset", frames: [], reset: frame, isLast: false };
      }
      segment.frames.push({ frame, index });
    }
    segment.isLast = true;
    segments.push(segment);
    return segments;
  }

  /** Which life of the bucket a segment is about. */
  #lifeOf(segment: Segment, { since }: Connection): Life | undefined {
    const lives = this.#evidence.lives.filter(
      ({ bucket }) => bucket === this.#client.plan.watch.bucket,
    );
    const ofEpoch = (epoch: number | undefined): Life | undefined =>
      lives.find((life) => life.epoch === epoch);
    for (const { frame } of segment.frames) {
      if (frame.type !== "ready") continue;
      const position = parsed(frame.position);
      const life = ofEpoch(position?.epoch);
      if (life === undefined)
        this.#fail("position", `kv_ready is at ${frame.position}, of a bucket that never was`);
      return life;
    }
    if (segment.start === "resume") return ofEpoch(parsed(since!)?.epoch);
    let best: { life: Life; score: number } | undefined;
    for (const life of lives) {
      let score = 0;
      for (const { frame } of segment.frames) {
        if (frame.type !== "changes") continue;
        for (const change of frame.changes) {
          const entry = life.at(change.revision);
          if (entry?.key === change.key && entry.at === change.at) score += 1;
        }
      }
      if (score > (best?.score ?? 0)) best = { life, score };
    }
    return best?.life;
  }

  /** Whether something was going wrong at a time. */
  #trouble(at: number, concerns: (trouble: Trouble) => boolean = () => true): boolean {
    return this.#evidence.troubles.some(
      (trouble) => trouble.from <= at && at <= trouble.to && concerns(trouble),
    );
  }

  #hasNoBucket(at: number): boolean {
    const { bucket } = this.#client.plan.watch;
    return this.#trouble(at, (trouble) => trouble.bucket === bucket);
  }

  #checkEnding({ refused, closed, wasPaused, started, frames }: Connection): void {
    if (refused !== undefined) {
      const { status, code, at } = refused;
      this.#count(`refused ${status}`);
      // Who shares a socket loses it when another one's connection is cut.
      const isShared = status === 0 && this.#client.plan.transport === "multiplexed";
      const isExpected =
        isShared ||
        (status === 404
          ? this.#hasNoBucket(at) || this.#hasNoBucket(started)
          : (status === 0 || status === 503) && (this.#trouble(at) || this.#trouble(started)));
      if (!isExpected)
        this.#fail("refusal", `refused with ${status} ${code}, and nothing was wrong`);
    }
    for (const frame of frames) {
      if (frame.type === "unknown") this.#fail("frame", `a frame of unknown type: ${frame.what}`);
      if (this.#isPlain && frame.type !== "changes" && frame.type !== "error")
        this.#fail("frame", `a plain watch got ${describe(frame)}`);
    }
    if (closed === undefined || closed.byUs) return;
    const { code, reason, at } = closed;
    this.#count(`closed ${code}`);
    const gatewayEnds = this.#trouble(
      at,
      ({ kind }) => kind === "gateway closed" || kind === "gateway killed",
    );
    const isExpected =
      code === 1001 || code === 1006
        ? gatewayEnds || (this.#client.plan.transport === "sse" && this.#trouble(at))
        : code === 1013
          ? wasPaused || this.#trouble(at)
          : code === 4404 && this.#hasNoBucket(at);
    // Who shares a socket loses it when another one's connection is cut.
    const isShared = this.#client.plan.transport === "multiplexed" && code === 1006;
    // With server-sent events the end of the stream is all that there is: an error frame says why.
    const last = frames.at(-1);
    const isTold =
      this.#client.plan.transport === "sse" &&
      last?.type === "error" &&
      this.#expectsError(last.code, at, wasPaused);
    if (!isExpected && !isShared && !isTold)
      this.#fail("close", `closed with ${code} ${JSON.stringify(reason)}, and nothing was wrong`);
  }

  #expectsError(code: string, at: number, wasPaused: boolean): boolean {
    if (code === "bucket_not_found") return this.#hasNoBucket(at);
    return this.#trouble(at) || wasPaused;
  }

  #checkReset(
    segment: Segment,
    connection: Connection,
    life: Life,
    previous: Life | undefined,
  ): void {
    const since = connection.since === undefined ? undefined : parsed(connection.since);
    const { reset } = segment;
    if (reset === undefined) {
      if (segment.start !== "resume" || since === undefined) return;
      if (!segment.frames.some(({ frame }) => frame.type === "ready" || frame.type === "changes"))
        return;
      this.#count("resumed");
      if (since.epoch !== life.epoch)
        this.#fail("resume", `went on as if the bucket were the same, at ${connection.since}`);
      if (connection.resume === "future" && since.revision > life.last)
        this.#fail("resume", `went on from revision ${since.revision} of the future`);
      if (
        connection.resume === "other filter" &&
        since.hash !== undefined &&
        this.#hashDiffers(since.hash)
      )
        this.#fail("resume", "went on with the position of another filter");
      return;
    }
    this.#count(`reset ${reset.reason}`);
    const isFirst = previous === undefined;
    const isRight = (): boolean => {
      switch (reset.reason) {
        case "epoch_changed":
          return isFirst ? since !== undefined && since.epoch !== life.epoch : previous !== life;
        case "filter_changed":
          return isFirst && since?.hash !== undefined && this.#hashDiffers(since.hash);
        case "future":
          return isFirst && connection.resume === "future";
        case "too_old":
          return (
            isFirst &&
            since !== undefined &&
            this.#isHistoryGone(life, since.revision, reset.arrived)
          );
        case "lagged":
          return connection.wasPaused;
        default:
          return false;
      }
    };
    if (!isRight())
      this.#fail(
        "reset",
        `reset with ${reset.reason} after ${connection.resume} ${connection.since}`,
      );
  }

  /** Whether the hash of a position is not the one of this watch. */
  #hashDiffers(hash: string): boolean {
    for (const { frames } of this.#client.connections)
      for (const frame of frames)
        if (frame.type === "ready") return parsed(frame.position)?.hash !== hash;
    return true;
  }

  /** Whether a revision after another one could not be read any more at a time. */
  #isHistoryGone(life: Life, after: number, at: number): boolean {
    for (let revision = after + 1; revision <= life.last; revision++) {
      const entry = life.at(revision);
      if (entry === undefined || life.goneAt(entry) <= at + EXPIRY) return true;
      if (entry.at > at) return false;
    }
    return false;
  }

  // ---- the end

  #checkEnd(): void {
    const { watch } = this.#client.plan;
    this.#number = this.#client.connections.length - 1;
    const difference = differenceAtEnd(this.#client, this.#evidence.finalLives.get(watch.bucket)!);
    const { include, filters, values } = watch;
    if (difference !== undefined)
      this.#fail("final state", `${difference} ${JSON.stringify({ include, filters, values })}`);
  }
}

const nameOf = ({ connection, frames }: Place): string => `${connection}.${frames}`;

function describe(frame: Seen): string {
  return JSON.stringify(frame).slice(0, 300);
}

/** What a client still has to learn when nothing is written any more; undefined when it knows all. */
export function differenceAtEnd(client: Client, life: Life): string | undefined {
  const { replica, plan, current } = client;
  if (current === undefined) return "not connected";
  if (replica.phase !== "plain" && replica.phase !== "live") return `still ${replica.phase}`;
  if (replica.isStale) return "stale";
  const covers = coversKey(plan.watch.filters);
  const expected = life.stateAt(life.last, covers);
  if (plan.watch.include === "updates") {
    // Of what came before its time it knows nothing. A plain one is not told when that began.
    for (const [key, entry] of expected) {
      const isKnown = replica.state.has(key);
      if (
        replica.phase === "plain"
          ? !isKnown && entry.at <= (current.opened ?? 0)
          : entry.revision <= (replica.knowsAfter ?? 0)
      )
        expected.delete(key);
    }
  }
  // Whose time was over while nats-server was away may have left a marker that was gone before anybody could record it.
  return differenceOf(
    expected,
    replica.state,
    ({ expiresAt }) => (expiresAt ?? Infinity) <= Date.now(),
  );
}

function differenceOf(
  expected: ReadonlyMap<string, LogEntry>,
  actual: ReadonlyMap<string, SeenChange>,
  forgives: (entry: LogEntry) => boolean = () => false,
): string | undefined {
  for (const [key, entry] of expected) {
    const known = actual.get(key);
    if (known === undefined && forgives(entry)) continue;
    if (known?.revision !== entry.revision)
      return `${key} is at revision ${entry.revision}, the client has ${known === undefined ? "nothing" : `revision ${known.revision}`}`;
  }
  for (const [key, { revision }] of actual)
    if (!expected.has(key))
      return `${key} is not there, the client has revision ${revision}: a ghost`;
  return undefined;
}

interface Tools {
  replica: Replica;
  client: Client;
  evidence: Evidence;
  covers: (key: string) => boolean;
  isPlain: boolean;
  isDraft: boolean;
  delivered: (gateway: number, life: Life) => Set<number>;
  fail: (kind: string, what: string) => void;
  count: (what: string, by?: number) => void;
  keep: (frames: number) => void;
}

class SegmentCheck {
  readonly #segment: Segment;
  readonly #connection: Connection;
  readonly #life: Life;
  readonly #tools: Tools;
  readonly #received = new Set<number>();
  /** Where each frame with changes ends, and how many conflated ones were told by then. */
  readonly #told: { revision: number; conflated: number }[] = [];
  #last = 0;
  /** Behind this revision everything has to have come; undefined before that begins. */
  #exactAfter: number | undefined;
  #reached = 0;
  #conflated = 0;
  #conflatedEarly = 0;

  constructor(segment: Segment, connection: Connection, life: Life, tools: Tools) {
    this.#segment = segment;
    this.#connection = connection;
    this.#life = life;
    this.#tools = tools;
  }

  run(): void {
    const { start, frames } = this.#segment;
    const { replica, keep, client } = this.#tools;
    if (start === "resume") {
      this.#exactAfter = parsed(this.#connection.since!)!.revision;
      this.#last = this.#reached = this.#exactAfter;
    }
    for (const { frame, index } of frames) {
      this.#conflated += frame.conflated;
      if (this.#exactAfter === undefined) this.#conflatedEarly += frame.conflated;
      if (frame.type === "changes") this.#checkChanges(frame);
      else if (frame.type === "bookmark") this.#checkMark(frame.position, "kv_bookmark");
      const wasBuilding = replica.phase === "building";
      replica.take(frame, client.plan);
      if (frame.type === "ready") this.#checkReady(frame, wasBuilding);
      keep(index + 1);
    }
    this.#checkGaps();
    this.#checkDeletionNoticed();
  }

  #fail(kind: string, what: string): void {
    const { since, resume, gateway, opened, closed } = this.#connection;
    const lived = (closed?.at ?? Date.now()) - (opened ?? 0);
    const { bucket, include, values, filters } = this.#tools.client.plan.watch;
    this.#tools.fail(
      kind,
      `${what} [${bucket} history ${this.#life.history}, ${include}${values ? "" : " without values"}, ` +
        `filters ${JSON.stringify(filters)}, ${this.#segment.start}, ${resume} ${since ?? ""}, gateway ${gateway}, open for ${lived} ms]`,
    );
  }

  // ---- single frames

  #checkChanges(frame: Seen & { type: "changes" }): void {
    const { replica, isPlain, count } = this.#tools;
    const { changes, isTransaction } = frame;
    if (isTransaction) {
      count("transactions");
      if (isPlain) this.#fail("frame", "a plain watch got a transaction");
      if (changes.length < 2)
        this.#fail("transaction", `of ${changes.length} changes: ${describe(frame)}`);
    }
    for (const change of changes) {
      count("changes");
      this.#checkOrder(change, frame);
      this.#checkTruth(change, frame.arrived);
    }
    if (!isPlain && replica.phase !== "building") this.#checkWhole(frame);
    const isReal = changes.filter(({ isInferred }) => !isInferred);
    if (isReal.length === 0) return;
    this.#reached = Math.max(this.#reached, this.#last);
    this.#told.push({ revision: this.#last, conflated: this.#conflated });
    if (replica.phase === "live" || replica.phase === "resuming") {
      const { delivered } = this.#tools;
      // What comes after the ready mark went through the feed of the gateway.
      if (replica.phase === "live")
        for (const { revision } of isReal)
          delivered(this.#connection.gateway, this.#life).add(revision);
    }
  }

  #checkOrder(change: SeenChange, frame: Seen): void {
    if (change.isInferred) return;
    if (change.revision === this.#last || this.#received.has(change.revision))
      this.#fail("duplicate", `revision ${change.revision} came again: ${describe(frame)}`);
    else if (change.revision < this.#last)
      this.#fail(
        "order",
        `revision ${change.revision} came after ${this.#last}: ${describe(frame)}`,
      );
    this.#last = Math.max(this.#last, change.revision);
    this.#received.add(change.revision);
  }

  #checkTruth(change: SeenChange, arrived: number): void {
    const { client, covers, count } = this.#tools;
    const { watch } = client.plan;
    const { key, revision, operation } = change;
    const told = JSON.stringify(change);
    if (!covers(key)) this.#fail("filter", `${key} is not watched: ${told}`);
    if (change.isInferred) {
      count("inferred");
      const latest = this.#life.latest(key, revision);
      if (operation !== "delete") this.#fail("ghost", `an inferred ${operation}: ${told}`);
      else if (latest?.operation === "put" && (latest.expiresAt ?? Infinity) > arrived + EXPIRY)
        this.#fail("false delete", `${key} is there, at revision ${latest.revision}: ${told}`);
      return;
    }
    let entry = this.#life.at(revision);
    if (entry === undefined) {
      entry = this.#learn(change, arrived);
      if (entry === undefined) {
        this.#fail("ghost", `nobody wrote this: ${told}`);
        return;
      }
    }
    const expected = JSON.stringify(entry, [
      "revision",
      "key",
      "operation",
      "reason",
      "digest",
      "size",
      "at",
    ]);
    if (entry.key !== key || entry.operation !== operation || entry.reason !== change.reason)
      this.#fail("ghost", `${told} is not what was written: ${expected}`);
    else if (entry.at !== change.at)
      this.#fail("ghost", `at another time than ${expected}: ${told}`);
    else if (operation === "put" && watch.values && entry.digest !== change.digest)
      this.#fail("value", `${told} has another value than ${expected}`);
    else if (operation === "put" && !watch.values && change.size !== entry.size)
      this.#fail("value", `${told} has another size than ${expected}`);
    if ((!watch.values || operation === "delete") && change.digest !== undefined)
      this.#fail("value", `has a value: ${told}`);
    if (entry.at > arrived + 50) this.#fail("ghost", `came before it was written: ${told}`);
  }

  /** Takes a frame for the truth where the log has a hole, when somebody can have written it. */
  #learn(change: SeenChange, arrived: number): LogEntry | undefined {
    const { evidence, client, count } = this.#tools;
    const { key, revision, digest } = change;
    if (revision > this.#life.last) return undefined;
    const operation = change.operation === "put" ? "put" : "delete";
    const isExplained =
      change.reason === "expired" ||
      (operation === "put" && !client.plan.watch.values) ||
      evidence.attempts.explains({ key, operation, digest }, this.#life.bucket, arrived);
    if (!isExplained) return undefined;
    count("learned");
    const entry: LogEntry = {
      revision,
      key,
      operation,
      reason: change.reason as LogEntry["reason"],
      digest,
      size: change.size ?? 0,
      at: change.at,
      expiresAt: undefined,
      rollsUp: change.reason === "purge" || change.reason === "expired",
      isMarker: change.reason === "expired",
      batchId: undefined,
      isLearned: true,
    };
    this.#life.add(entry);
    return entry;
  }

  /** A transaction comes whole, so far as it is watched and still there. */
  #checkWhole(frame: Seen & { type: "changes" }): void {
    const entries = frame.changes.map(({ revision }) => this.#life.at(revision));
    if (entries.some((entry) => entry?.isLearned === true)) return;
    const batches = new Set<LogBatch | undefined>(entries.map((entry) => entry?.batch));
    if (frame.isTransaction && (batches.size !== 1 || batches.has(undefined))) {
      this.#fail("transaction", `of changes that were not made together: ${describe(frame)}`);
      return;
    }
    const [batch] = batches;
    if (batch === undefined || frame.changes.some(({ isInferred }) => isInferred)) return;
    if (
      frame.isTransaction &&
      frame.revision !== batch.last &&
      !this.#isCutOff(batch, frame.revision)
    )
      this.#fail("transaction", `ends at ${batch.last}, the frame says ${frame.revision}`);
    // The position moves to its end: what belongs to it does not come any more.
    if (frame.isTransaction) this.#reached = Math.max(this.#reached, frame.revision);
    const revisions = new Set(frame.changes.map(({ revision }) => revision));
    for (const entry of batch.entries) {
      if (revisions.has(entry.revision) || !this.#tools.covers(entry.key)) continue;
      if (this.#isExcused(entry)) continue;
      this.#fail(
        "transaction",
        `revisions ${[...revisions].join()} came without ${entry.revision} (${entry.key}), which was written with them`,
      );
      return;
    }
  }

  /** Whether the gateway may not have seen the end of a transaction, because it was overwritten at once. */
  #isCutOff(batch: LogBatch, revision: number): boolean {
    const lastSeen = batch.entries.findLast((entry) => entry.revision <= revision);
    const rest = batch.entries.filter((entry) => entry.revision > revision);
    return (
      lastSeen !== undefined &&
      revision <= batch.last &&
      rest.every((entry) => this.#isExcused(entry))
    );
  }

  // ---- marks

  #checkReady(frame: Seen & { type: "ready" }, wasBuilding: boolean): void {
    const { count, client, replica } = this.#tools;
    count("ready");
    const revision = this.#checkMark(frame.position, "kv_ready");
    if (revision === undefined) return;
    if (!Number.isSafeInteger(frame.count) || frame.count < 0)
      this.#fail("position", `kv_ready counts ${frame.count}`);
    const isUpdates = client.plan.watch.include === "updates" && this.#segment.start === "fresh";
    if (wasBuilding) this.#exactAfter = isUpdates ? replica.knowsAfter! : revision;
    const expected = this.#life.stateAt(revision, this.#tools.covers);
    const knowsAfter = replica.knowsAfter ?? 0;
    for (const [key, entry] of expected) if (entry.revision <= knowsAfter) expected.delete(key);
    const difference = differenceOf(
      expected,
      replica.state,
      (entry) => (entry.expiresAt ?? Infinity) <= frame.arrived + EXPIRY,
    );
    // Of an unknown revision nobody can say what it did to which key.
    if (difference !== undefined && !this.#isUnsure(revision))
      this.#fail("state", `at kv_ready ${frame.position} (revision ${revision}): ${difference}`);
    if (client.plan.watch.include === "history" && wasBuilding)
      this.#checkHistory(revision, frame.arrived);
  }

  #isUnsure(upTo: number): boolean {
    return this.#life.unknown.some((revision) => revision <= upTo);
  }

  /** Every stored revision has to be part of a history. */
  #checkHistory(upTo: number, arrived: number): void {
    for (const entry of this.#life.between(0, upTo)) {
      if (!this.#tools.covers(entry.key) || this.#received.has(entry.revision)) continue;
      if (this.#life.goneAt(entry) <= arrived + EXPIRY) continue;
      this.#fail("gap", `the history lacks revision ${entry.revision} of ${entry.key}`);
      return;
    }
  }

  #checkMark(position: string, what: string): number | undefined {
    const at = parsed(position);
    if (at?.epoch !== this.#life.epoch) {
      this.#fail(
        "position",
        `${what} is at ${position}, the bucket's epoch is ${this.#life.epoch}`,
      );
      return undefined;
    }
    const { revision } = at;
    if (revision > this.#life.last)
      this.#fail(
        "position",
        `${what} is at revision ${revision}, the bucket only came to ${this.#life.last}`,
      );
    if (revision < this.#reached)
      this.#fail("position", `${what} is at revision ${revision}, behind ${this.#reached}`);
    this.#last = Math.max(this.#last, revision);
    this.#reached = Math.max(this.#reached, revision);
    this.#told.push({ revision, conflated: this.#conflated });
    return revision;
  }

  // ---- what is missing

  #checkGaps(): void {
    const { isPlain, count, covers, evidence, client } = this.#tools;
    const { opened, closed } = this.#connection;
    const isAtEnd =
      this.#segment.isLast &&
      closed === undefined &&
      client.connections.at(-1) === this.#connection;
    const isFinal = isAtEnd && evidence.finalLives.get(this.#life.bucket) === this.#life;
    const upTo = isFinal ? this.#life.last : this.#reached;
    const missing: LogEntry[] = [];
    const from = isPlain ? 0 : this.#exactAfter;
    if (from === undefined) return;
    let excused = 0;
    for (const entry of this.#life.between(from, upTo)) {
      if (!covers(entry.key) || this.#received.has(entry.revision)) continue;
      // A plain watch is not told when its snapshot is complete: what is written once it is open comes.
      if (isPlain && entry.at <= (opened ?? Infinity)) continue;
      if (isPlain && this.#isEarly(entry)) continue;
      if (this.#isExcused(entry)) excused += 1;
      else missing.push(entry);
    }
    count("excused", excused);
    count("conflated", this.#conflated);
    if (missing.length === 0) return;
    for (const entry of missing) {
      const successor = this.#life.successor(entry);
      if (successor === undefined || successor.revision > upTo) {
        if (successor !== undefined && !isFinal) continue;
        this.#fail(
          "gap",
          `revision ${entry.revision} of ${entry.key}, written ${entry.at - (opened ?? 0)} ms after it opened, never came, nor a later one; came up to ${upTo}`,
        );
        return;
      }
    }
    if (isPlain) {
      // It is not told of what it missed either, so only what nobody can have overtaken is sure.
      if (this.#connection.wasPaused) return;
      const [entry] = missing;
      this.#fail(
        "gap",
        `revision ${entry!.revision} of ${entry!.key}, written ${entry!.at - (opened ?? 0)} ms after it opened, never came`,
      );
      return;
    }
    this.#checkConflated(missing);
  }

  /** Whether a plain watch can still have been catching up, and what it read did not have a revision any more. */
  #isEarly(entry: LogEntry): boolean {
    const { client, evidence } = this.#tools;
    const opened = this.#connection.opened ?? Infinity;
    const isEarly =
      entry.at <= opened + QUICKLY ||
      evidence.troubles.some(({ from, to }) => from <= entry.at && opened - QUICKLY <= to);
    if (!isEarly) return false;
    switch (client.plan.watch.include) {
      case "snapshot":
        return entry.operation === "delete" || this.#life.successor(entry) !== undefined;
      case "history":
        return this.#life.goneAt(entry) <= entry.at + QUICKLY;
      case "updates":
        return false;
    }
  }

  /** As many as are missing, a frame has to have told of. */
  #checkConflated(missing: readonly LogEntry[]): void {
    // A transaction is one frame.
    const units: { revision: number; entry: LogEntry }[] = [];
    const batches = new Set<LogBatch>();
    for (const entry of missing) {
      if (entry.batch !== undefined) {
        if (batches.has(entry.batch)) continue;
        batches.add(entry.batch);
      }
      units.push({ revision: entry.revision, entry });
    }
    let lacking = 0;
    let at = 0;
    for (const { revision, conflated } of [
      ...this.#told,
      { revision: Infinity, conflated: this.#conflated },
    ]) {
      while (at < units.length && units[at]!.revision < revision) {
        lacking += 1;
        at += 1;
      }
      if (lacking > conflated) {
        const { entry } = units[at - 1]!;
        this.#fail(
          "gap",
          `by revision ${revision} ${lacking} frames are missing and ${conflated} were told of; one is revision ${entry.revision} of ${entry.key}`,
        );
        return;
      }
    }
  }

  /** Whether the gateway's own feed can have missed an entry: overwritten at once, or while it was cut off. */
  #isExcused(entry: LogEntry): boolean {
    const { delivered, evidence } = this.#tools;
    if (delivered(this.#connection.gateway, this.#life).has(entry.revision)) return false;
    const gone = this.#life.goneAt(entry);
    if (gone === Infinity) return false;
    if (gone - entry.at <= QUICKLY) return true;
    return evidence.troubles.some(
      ({ from, to }) => from <= gone + QUICKLY && to >= entry.at - QUICKLY,
    );
  }

  /** Nobody goes on watching a bucket that is gone. */
  #checkDeletionNoticed(): void {
    const { evidence } = this.#tools;
    const { closed, started, refused } = this.#connection;
    const { to } = this.#life;
    if (refused !== undefined) return;
    if (to === Infinity || !this.#segment.isLast || started > to) return;
    const left = closed?.at ?? Infinity;
    const others = evidence.troubles.filter(
      (trouble) => trouble.from <= left && trouble.to >= to && trouble.bucket === undefined,
    );
    const patience = others.length > 0 || this.#connection.wasPaused ? LATER : AT_ONCE;
    if (left - to > patience)
      this.#fail("deletion", `still watching ${left - to} ms after the bucket was deleted`);
  }
}
