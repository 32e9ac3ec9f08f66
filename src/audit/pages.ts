/** Reads the audit from its end. */
import type { AuditPage, AuditQuery, AuditRecord } from "../protocol/audit.ts";
import type { LogPiece, RecordLog } from "../store/record-log.ts";

/** Records of a page, when none are asked for. */
const LIMIT = 100;
/** Pieces that are read at once. */
const AHEAD = 8;
/** Pieces that a page looks through at most: a rare record costs several pages, rather than one that takes for ever. */
const PIECES = 400;

/** Where a page ended: in a piece, before a line of it. */
interface Place {
  sequence: number;
  line: number;
}

export async function readPage(log: RecordLog, query: AuditQuery): Promise<AuditPage> {
  const { limit = LIMIT, cursor } = query;
  const entries: AuditRecord[] = [];
  const bounds = await log.bounds();
  if (bounds === undefined) return { entries };
  const since = query.since === undefined ? -Infinity : Date.parse(query.since);
  const until = query.until === undefined ? Infinity : Date.parse(query.until);
  const wants = matcherOf(query);
  let place = cursor === undefined ? undefined : placeOf(cursor);
  let sequence = Math.min(place?.sequence ?? Infinity, bounds.last);
  if (place === undefined && query.until !== undefined)
    sequence = await lastUntil(log, bounds, until);
  for (let read = 0; sequence >= bounds.first;) {
    if (read >= PIECES) return { entries, next_cursor: `${sequence}-999999` };
    const wanted = Math.min(AHEAD, sequence - bounds.first + 1);
    const pieces = await Promise.all(
      Array.from({ length: wanted }, (_, i) => log.get(sequence - i)),
    );
    read += wanted;
    sequence -= wanted;
    for (const piece of pieces) {
      if (piece === undefined) continue;
      const lines = linesOf(piece);
      const start = place?.sequence === piece.sequence ? place.line : lines.length;
      for (let line = Math.min(start, lines.length) - 1; line >= 0; line--) {
        const record = lines[line];
        if (record === undefined) continue;
        const time = Date.parse(record.time);
        if (time < since || time > until || !wants(record)) continue;
        if (entries.length === limit)
          return { entries, next_cursor: `${piece.sequence}-${line + 1}` };
        entries.push(record);
      }
      // A piece is stored after all that it tells of: those before it are older still.
      if (piece.time < since) return { entries };
    }
    place = undefined;
  }
  return { entries };
}

function placeOf(cursor: string): Place {
  const [sequence, line] = cursor.split("-").map(Number);
  return { sequence: sequence!, line: line! };
}

function matcherOf(query: AuditQuery): (record: AuditRecord) => boolean {
  const { principal, bucket, action, outcome } = query;
  const isPrefix = action?.endsWith("*") === true;
  const stem = isPrefix ? action.slice(0, -1) : action;
  return (record) =>
    (principal === undefined || record.principal.id === principal) &&
    (bucket === undefined || record.bucket === bucket) &&
    (stem === undefined || (isPrefix ? record.action.startsWith(stem) : record.action === stem)) &&
    (outcome === undefined || record.outcome === outcome);
}

/** The first piece that is stored later than a time, which still tells of what was before it; by halving. */
async function lastUntil(
  log: RecordLog,
  { first, last }: { first: number; last: number },
  time: number,
): Promise<number> {
  let [low, high] = [first, last];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const piece = await log.get(middle);
    if (piece !== undefined && piece.time > time + LATE) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** How much later than what it tells of a piece may be stored, in milliseconds: while NATS is away, records wait. */
const LATE = 600_000;

/** The records of a piece, by line. What somebody else may have put there is none. */
function linesOf({ payload }: LogPiece): (AuditRecord | undefined)[] {
  return Buffer.from(payload)
    .toString()
    .split("\n")
    .map((line) => {
      try {
        const record = JSON.parse(line) as Partial<AuditRecord> | null;
        const isOne = typeof record?.time === "string" && typeof record.action === "string";
        return isOne && record.principal !== undefined ? (record as AuditRecord) : undefined;
      } catch {
        return undefined;
      }
    });
}
