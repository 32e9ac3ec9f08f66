/**
 * Reads what is stored for watches that begin: the snapshot, or the history.
 *
 * A reading is cut at the revision up to which the feed has brought everything when it begins. What is newer is left out, since the
 * ring has it, in order, and whole transactions at that. What is older and goes while it is read is in the ring, too: as the change
 * that removed it. So the two fit together without a gap or a duplicate, however long the reading takes.
 *
 * Watches that wait at the same time share readings. One whose socket does not keep up with the others goes on in a second lane,
 * behind what it was sent.
 */
import { everyKey, type KeyPattern } from "../protocol/keys.ts";
import type { StoredEntry } from "../store/bucket.ts";
import type { Feed } from "../store/feed.ts";
import type { Audience } from "./audience.ts";
import { FilterIndex } from "./filters.ts";
import { Moment, type Origin } from "./moment.ts";
import type { Ring } from "./ring.ts";
import { Sequence } from "./turn.ts";
import type { Watcher } from "./watcher.ts";

/** How far the reading for a watch has come. */
export interface Reading {
  /** Only what is not newer than this revision is sent. */
  readonly cut: number;
  /** Number of the first change in the ring that was not there then. */
  readonly from: number;
  /** Everything up to this revision was sent. */
  readonly sent: number;
}

/** For whom is read. */
export interface ReadingHost {
  readonly feed: Feed;
  readonly ring: Ring;
  readonly origin: Origin;
  /** A watch has got everything, and goes on with the ring. */
  onRead(watcher: Watcher, reading: Reading): void;
  /** The ring does not reach back to where the reading began any more. */
  onBehind(watcher: Watcher): void;
  onFailed(watcher: Watcher, error: unknown): void;
}

/** How patiently sockets are waited for, and where those go that are slower. */
interface Lane {
  readonly patience: number;
  readonly waiting: Set<Watcher>;
  running: number;
  isArmed: boolean;
}

/** Readings at the same time in a lane. */
const READINGS = 4;
/** Bytes after which a reading looks whether the sockets keep up. */
const CHUNK = 256 * 1024;
/** How long a socket may hold up a reading before it has to go on in the slow lane, in milliseconds. */
const QUICK_PATIENCE = 100;
/** And how long there. Less than the time for which JetStream keeps the consumer of a reading that nobody goes on with. */
const PATIENCE = 5_000;
/** As many small readings cost about as much as one of this many keys more for each of them. */
const KEYS_PER_READING = 400;
/** Single keys that are read at once. */
const SINGLE_KEYS = 256;

/** Watches of an audience that are at the same place of a reading. */
class Cohort {
  readonly audience: Audience;
  readonly reading: Reading;
  readonly members = new Set<Watcher>();
  sequence = Sequence.empty();

  constructor(audience: Audience, reading: Reading) {
    this.audience = audience;
    this.reading = reading;
  }

  flush(): void {
    const { bytes, entries, length } = this.sequence;
    if (length === 0) return;
    this.sequence = Sequence.empty();
    for (const member of this.members) member.write(bytes, entries);
  }
}

export class Readings {
  readonly #host: ReadingHost;
  readonly #quick: Lane = lane(QUICK_PATIENCE);
  readonly #slow: Lane = lane(PATIENCE);
  /** Keys that the last reading of everything has met. */
  #keys: number | undefined;

  constructor(host: ReadingHost) {
    this.#host = host;
  }

  /** Has what is stored read for a watch, from the beginning. */
  begin(watcher: Watcher): void {
    watcher.reading = undefined;
    this.#queue(watcher, this.#quick);
  }

  /** The same for one that was too slow before. */
  beginSlowly(watcher: Watcher): void {
    watcher.reading = undefined;
    this.#queue(watcher, this.#slow);
  }

  #queue(watcher: Watcher, lane: Lane): void {
    if (watcher.isClosed) return;
    lane.waiting.add(watcher);
    this.#arm(lane);
  }

  /** Who comes in the same turn of the event loop is read for together. */
  #arm(lane: Lane): void {
    if (lane.isArmed || lane.running >= READINGS) return;
    lane.isArmed = true;
    setImmediate(() => {
      lane.isArmed = false;
      void this.#run(lane);
    });
  }

  async #run(lane: Lane): Promise<void> {
    lane.running += 1;
    for (let group = await this.#next(lane); group.size > 0; group = await this.#next(lane)) {
      // There may be others that want to have something else read: that can go on beside this.
      if (lane.waiting.size > 0) this.#arm(lane);
      try {
        await this.#read(group, lane);
      } catch (error) {
        for (const watcher of group) if (!watcher.isClosed) this.#host.onFailed(watcher, error);
      }
    }
    lane.running -= 1;
  }

  /** Takes those who wait for the same reading. */
  async #next(lane: Lane): Promise<Set<Watcher>> {
    for (const watcher of lane.waiting) if (watcher.isClosed) lane.waiting.delete(watcher);
    const [first] = lane.waiting;
    if (first === undefined) return new Set();
    const { wantsHistory } = first.audience;
    const alike = [...lane.waiting].filter(
      ({ audience }) => audience.wantsHistory === wantsHistory,
    );
    const group = (await this.#pays(alike)) ? alike : sameFilters(alike, first);
    const taken = new Set<Watcher>();
    for (const watcher of group) if (lane.waiting.delete(watcher)) taken.add(watcher);
    return taken;
  }

  /** Whether it is cheaper to read everything than what each of some watches wants. */
  async #pays(watchers: readonly Watcher[]): Promise<boolean> {
    const readings = new Set(watchers.map(({ audience }) => audience.filters)).size;
    if (readings < 2) return false;
    // Single keys are found one by one, so that reading them together costs nothing more.
    const single = watchers.flatMap(({ audience }) => audience.patterns);
    if (single.length <= SINGLE_KEYS && single.every(isSingleKey)) return true;
    const worth = readings * KEYS_PER_READING;
    if (this.#keys === undefined && this.#host.feed.position > worth) {
      this.#keys = await this.#host.feed.keys().then(
        (index) => index?.size ?? Infinity,
        () => undefined,
      );
    }
    return (this.#keys ?? this.#host.feed.position) <= worth;
  }

  async #read(group: Set<Watcher>, lane: Lane): Promise<void> {
    const { feed, ring } = this.#host;
    const fresh: Reading = { cut: feed.position, from: ring.end, sent: 0 };
    const cohorts = new Map<string, Cohort>();
    for (const watcher of group) {
      const reading = (watcher.reading ??= fresh);
      if (!ring.reachesBack(reading.from)) {
        group.delete(watcher);
        this.#host.onBehind(watcher);
        continue;
      }
      const key = `${reading.cut} ${reading.from} ${reading.sent} ${watcher.audience.key}`;
      const cohort = cohorts.get(key) ?? new Cohort(watcher.audience, reading);
      cohorts.set(key, cohort);
      cohort.members.add(watcher);
    }
    if (group.size === 0) return;
    const reached = await this.#pass(new Run([...cohorts.values()], group, lane.patience));
    if (group.size === 0) return;
    // What was read is there: then it is also to be there once the watch says that it is complete.
    await feed.reach(reached).catch(() => undefined);
    await feed.verify();
    for (const watcher of group) {
      if (!watcher.isClosed && watcher.reading !== undefined)
        this.#host.onRead(watcher, watcher.reading);
    }
  }

  /** Reads once through, and sends it. @returns the last revision that was met */
  async #pass(run: Run): Promise<number> {
    const { feed, origin } = this.#host;
    const { wantsHistory } = run;
    let reached = 0;
    let count = 0;
    await this.#pace(run, 0);
    if (run.group.size === 0) return reached;
    const batches = feed.bucket.read(run.patterns, wantsHistory ? "all" : "last", {
      headersOnly: !run.wantsValues,
    });
    for await (const batch of batches) {
      if (run.group.size === 0) return reached;
      for (const stored of batch) {
        const { entry } = stored;
        reached = Math.max(reached, entry.revision);
        if (!wantsHistory && entry.operation === "delete") continue;
        count += 1;
        if (run.take(stored, origin) >= CHUNK) await this.#pace(run, entry.revision);
      }
      await this.#pace(run, reached);
    }
    if (run.patterns[0] === everyKey && !wantsHistory) this.#keys = count;
    return reached;
  }

  /** Sends what was read so far, and waits until all keep up. Who does not for long goes on by itself. */
  async #pace(run: Run, sent: number): Promise<void> {
    run.flush();
    for (const watcher of run.group) if (watcher.isClosed) run.leave(watcher);
    const late = [...run.group].filter((watcher) => !watcher.isClear);
    if (late.length === 0) return;
    await Promise.all(late.map((watcher) => watcher.clear(run.patience)));
    for (const watcher of late) {
      if (watcher.isClear && !watcher.isClosed) continue;
      run.leave(watcher, sent);
      watcher.whenClear(() => this.#queue(watcher, this.#slow));
    }
  }
}

/** A reading that is under way. */
class Run {
  readonly group: Set<Watcher>;
  readonly patience: number;
  readonly wantsHistory: boolean;
  readonly wantsValues: boolean;
  readonly patterns: readonly KeyPattern[];
  readonly #cohorts: readonly Cohort[];
  /** Who wants which keys, where not all want the same. */
  readonly #index: FilterIndex<Cohort> | undefined;
  /** Bytes of what one of them gets next, at most. */
  #length = 0;

  constructor(cohorts: readonly Cohort[], group: Set<Watcher>, patience: number) {
    this.#cohorts = cohorts;
    this.group = group;
    this.patience = patience;
    const [first] = cohorts as [Cohort];
    this.wantsHistory = first.audience.wantsHistory;
    this.wantsValues = cohorts.some(({ audience }) => audience.dialect.values);
    const filters = first.audience.filters;
    if (cohorts.every(({ audience }) => audience.filters === filters)) {
      this.patterns = first.audience.patterns;
      return;
    }
    this.#index = new FilterIndex();
    for (const cohort of cohorts) this.#index.add(cohort, cohort.audience.patterns);
    const patterns = cohorts.flatMap(({ audience }) => audience.patterns);
    this.patterns =
      patterns.every(isSingleKey) && patterns.length <= SINGLE_KEYS ? patterns : [everyKey];
  }

  /** Takes an entry for those who want it. @returns bytes of what one of them gets next, at most */
  take({ suffix, entry }: StoredEntry, origin: Origin): number {
    const { revision } = entry;
    const moment = new Moment(origin, { changes: [{ ...entry, suffix }], revision }, false);
    const push = (cohort: Cohort): void => {
      const { cut, sent } = cohort.reading;
      if (revision > cut || revision <= sent) return;
      for (const frame of moment.frames(cohort.audience.dialect))
        cohort.sequence = cohort.sequence.with(frame);
      this.#length = Math.max(this.#length, cohort.sequence.length);
    };
    if (this.#index === undefined) this.#cohorts.forEach(push);
    else this.#index.forEachMatch(suffix, push);
    return this.#length;
  }

  flush(): void {
    for (const cohort of this.#cohorts) cohort.flush();
    this.#length = 0;
  }

  /**
   * Goes on without a watch.
   *
   * @param sent the revision up to which it was sent everything, when it is to go on later
   */
  leave(watcher: Watcher, sent?: number): void {
    this.group.delete(watcher);
    for (const { members } of this.#cohorts) members.delete(watcher);
    const { reading } = watcher;
    if (sent !== undefined && reading !== undefined && sent > reading.sent)
      watcher.reading = { ...reading, sent };
  }
}

function lane(patience: number): Lane {
  return { patience, waiting: new Set(), running: 0, isArmed: false };
}

function sameFilters(watchers: readonly Watcher[], { audience }: Watcher): Watcher[] {
  return watchers.filter((watcher) => watcher.audience.filters === audience.filters);
}

function isSingleKey({ exact, subject }: KeyPattern): boolean {
  return exact && !/[*>]/.test(subject);
}
