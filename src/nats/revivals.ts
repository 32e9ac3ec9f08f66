/**
 * Finds messages that a nats-server brings back to life when it starts after it was killed (nats-io/nats-server issue 8505; seen
 * with 2.14 and 2.15.1): of what a subject's limit pushed out, nothing is noted on disk. After a crash the limit is
 * applied anew, to what is left then. Where newer messages of the subject were purged or have expired meanwhile, older ones fit in
 * again: values that were overwritten long ago.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ask } from "./ask.ts";
import { readBlocks } from "./blocks.ts";

/** Old messages of a subject that have to be removed. */
export interface Revival {
  readonly stream: string;
  readonly subject: string;
  /** All that are older than this sequence number; undefined for all. */
  readonly below: number | undefined;
}

type StreamConfig = {
  name: string;
  max_msgs_per_subject?: number;
  compression?: string;
};

/**
 * Looks through the streams of the account that has no name, which is that of servers without accounts.
 *
 * @param storeDir JetStream's storage folder, which no server works on
 */
export async function findRevivals(storeDir: string): Promise<Revival[]> {
  const folder = join(storeDir, "jetstream", "$G", "streams");
  const revivals: Revival[] = [];
  for (const name of await entriesOf(folder)) {
    const stream = join(folder, name);
    const config = await configOf(stream);
    const limit = config?.max_msgs_per_subject ?? -1;
    if (config === undefined || limit < 1 || (config.compression ?? "none") !== "none") continue;
    for (const revival of await revivalsOf(join(stream, "msgs"), limit))
      revivals.push({ stream: config.name, ...revival });
  }
  return revivals;
}

/** Requests that are sent to the server in one go. */
const AT_ONCE = 500;

/**
 * Has a server remove them.
 *
 * @returns whether it could be done: not on one that wants a login
 */
export async function removeRevivals(
  host: string,
  port: number,
  revivals: readonly Revival[],
): Promise<boolean> {
  for (let i = 0; i < revivals.length; i += AT_ONCE) {
    const questions = revivals.slice(i, i + AT_ONCE).map(({ stream, subject, below }) => ({
      subject: `$JS.API.STREAM.PURGE.${stream}`,
      body: JSON.stringify({ filter: subject, seq: below }),
    }));
    const asked = await ask(host, port, questions);
    if (asked?.answers.length !== questions.length) return false;
    if (asked.answers.some((answer) => answer.includes('"error"'))) return false;
  }
  return true;
}

/** Those of one stream. It is read three times rather than kept in memory. */
async function revivalsOf(folder: string, limit: number): Promise<Omit<Revival, "stream">[]> {
  const removed = new Set<number>();
  for await (const { isRemoval, sequence } of readBlocks(folder))
    if (isRemoval) removed.add(sequence);
  // Where nothing was removed but by the limit, the limit removes it again.
  if (removed.size === 0) return [];
  const subjects = new Map<string, Subject>();
  const bySequence = new Map<number, Subject>();
  for await (const record of readBlocks(folder)) {
    if (record.isRemoval || !removed.has(record.sequence)) continue;
    const name = record.subject();
    const subject = subjects.get(name) ?? new Subject(limit);
    subjects.set(name, subject);
    bySequence.set(record.sequence, subject);
  }
  for await (const record of readBlocks(folder)) {
    const { sequence } = record;
    if (record.isRemoval) bySequence.get(sequence)?.remove(sequence);
    else subjects.get(record.subject())?.add(sequence);
  }
  return [...subjects]
    .filter(([, { pushedOut }]) => pushedOut)
    .map(([subject, { oldest }]) => ({ subject, below: oldest }));
}

/** What is there of a subject, as one write after the other changes it. */
class Subject {
  readonly #limit: number;
  readonly #there: number[] = [];
  /** Whether its limit has ever pushed anything out. */
  pushedOut = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get oldest(): number | undefined {
    return this.#there[0];
  }

  add(sequence: number): void {
    this.#there.push(sequence);
    if (this.#there.length <= this.#limit) return;
    this.#there.shift();
    this.pushedOut = true;
  }

  remove(sequence: number): void {
    const at = this.#there.indexOf(sequence);
    if (at >= 0) this.#there.splice(at, 1);
  }
}

async function configOf(stream: string): Promise<StreamConfig | undefined> {
  try {
    return JSON.parse(await readFile(join(stream, "meta.inf"), "utf8")) as StreamConfig;
  } catch {
    // It is encrypted, or being made or removed when the server ended.
    return undefined;
  }
}

async function entriesOf(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
