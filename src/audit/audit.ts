import { setTimeout as delay } from "node:timers/promises";
import type { AuditPage, AuditQuery, AuditRecord } from "../protocol/audit.ts";
import type { RecordLog } from "../store/record-log.ts";
import { readPage } from "./pages.ts";

export interface AuditOptions {
  /** Records that may wait to be stored; more are dropped, and counted. Default: 8192. */
  queue?: number;
  /** Called when records cannot be stored, once until they can be again. */
  onProblem?: (error: unknown) => void;
}

/** How long records wait for others, in milliseconds. */
const GATHER = 100;
/** How long it takes until what could not be stored is tried again, in milliseconds. */
const RETRY = 500;
/** What is stored in one piece, at most: records, and bytes. */
const PIECE_RECORDS = 500;
const PIECE_BYTES = 128 * 1024;
/** How long what waits may hold up a shutdown, in milliseconds. */
const FLUSH = 1_500;

/**
 * Keeps who did what. To record something costs a push; records are stored behind, many in a piece. While they cannot be, a
 * bounded number waits, and the rest is counted instead.
 *
 * @example
 * const audit = new Audit(new RecordLog(connection, "SYS_audit", limits));
 * audit.record({ time, principal, action: "key.put", bucket: "carts", key: "user.42", outcome: "ok", status: 200 });
 */
export class Audit {
  readonly #log: RecordLog;
  readonly #max: number;
  readonly #onProblem: (error: unknown) => void;
  readonly #run = crypto.randomUUID();
  #queue: AuditRecord[] = [];
  /**
   * Refusals that wait, by what they have in common: whoever is refused again and again has one record for it meanwhile, and does not
   * fill the queue for others.
   */
  readonly #refusals = new Map<string, AuditRecord>();
  #pieces = 0;
  #dropped = 0;
  /** Those of them of which no record tells yet. */
  #untold = 0;
  #storing: Promise<void> | undefined;
  #isClosed = false;

  constructor(log: RecordLog, { queue = 8_192, onProblem = () => undefined }: AuditOptions = {}) {
    this.#log = log;
    this.#max = queue;
    this.#onProblem = onProblem;
  }

  /** Records that were dropped because too many waited. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Takes a record. Never fails, and never waits. */
  record(record: AuditRecord): void {
    const repeated = record.outcome === "refused" ? sameness(record) : undefined;
    const earlier = repeated === undefined ? undefined : this.#refusals.get(repeated);
    if (earlier !== undefined) {
      earlier.times = (earlier.times ?? 1) + 1;
      return;
    }
    if (this.#queue.length >= this.#max || this.#isClosed) {
      this.#dropped += 1;
      this.#untold += 1;
      return;
    }
    if (repeated !== undefined) this.#refusals.set(repeated, record);
    this.#queue.push(record);
    this.#storing ??= this.#store();
  }

  /** Records, newest first. @throws KvError `store_unavailable` */
  read(query: AuditQuery): Promise<AuditPage> {
    return readPage(this.#log, query);
  }

  /** Stores what waits, if that does not take too long. Records that come later are dropped. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#storing === undefined) return;
    await Promise.race([this.#storing, delay(FLUSH, undefined, { ref: false })]);
    this.#queue = [];
  }

  async #store(): Promise<void> {
    await delay(GATHER, undefined, { ref: false });
    let hasFailed = false;
    while (this.#queue.length > 0 || this.#untold > 0) {
      const untold = this.#untold;
      const waiting = this.#queue.length;
      const records = untold === 0 ? this.#queue : [...this.#queue, lost(untold)];
      this.#refusals.clear();
      const { payload, count } = pieceOf(records);
      try {
        await this.#log.append(payload, `${this.#run}-${this.#pieces}`);
        hasFailed = false;
      } catch (error) {
        if (!hasFailed) this.#onProblem(error);
        hasFailed = true;
        if (this.#isClosed) break;
        await delay(RETRY, undefined, { ref: false });
        continue;
      }
      this.#pieces += 1;
      if (count > waiting) this.#untold -= untold;
      this.#queue.splice(0, Math.min(count, waiting));
    }
    this.#storing = undefined;
  }
}

function sameness({ principal, action, bucket, code, address }: AuditRecord): string {
  // What strangers ask for is their own text: it must not make records that push out those of others.
  if (principal.kind === "nobody") return JSON.stringify([code, address]);
  return JSON.stringify([principal.id, action, bucket, code, address]);
}

/** As many records as fit into a piece, one a line. */
function pieceOf(records: readonly AuditRecord[]): { payload: Uint8Array; count: number } {
  const lines: string[] = [];
  let length = 0;
  for (const record of records) {
    const line = JSON.stringify(record);
    if (lines.length >= PIECE_RECORDS || (length > 0 && length + line.length > PIECE_BYTES)) break;
    lines.push(line);
    length += line.length;
  }
  return { payload: Buffer.from(lines.join("\n")), count: lines.length };
}

/** Tells of records that there is no room for. */
function lost(count: number): AuditRecord {
  return {
    time: new Date().toISOString(),
    principal: { kind: "gateway", id: "gateway" },
    action: "audit.dropped",
    count,
    outcome: "failed",
    status: 0,
  };
}
