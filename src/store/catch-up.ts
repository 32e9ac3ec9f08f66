import { KvError } from "../protocol/errors.ts";
import type { JetStream } from "./jetstream.ts";
import { openScan, type Scan, type ScannedMessage } from "./scan.ts";

/** Attempts to look at a stream while nobody writes to it. */
const ATTEMPTS = 3;

/**
 * All messages of a stream behind a sequence, when none of them has been removed: then who has seen everything up to the
 * sequence has seen everything at the end of this.
 *
 * As many messages have to be there as sequences were given out. Where others write all the time the two numbers are of
 * different moments; then nothing is known to be missing, and the reading itself shows it, because sequences have no gaps.
 *
 * @returns batches of messages, or undefined when some are known to be missing. They throw KvError `revision_not_found` when
 * one turns out to be missing later, or is removed while they are read.
 */
export async function messagesAfter(
  js: JetStream,
  stream: string,
  sequence: number,
): Promise<AsyncGenerator<ScannedMessage[], void, void> | undefined> {
  let before = await js.streamInfo(stream);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    // No filter: what is not a key's has a sequence, too.
    const scan = await openScan(js, { stream, filters: [], deliver: { after: sequence } }, before);
    const after = await js.streamInfo(stream);
    const isProven = scan.pending === after.state.last_seq - sequence;
    const isDisproven =
      scan.pending < before.state.last_seq - sequence ||
      (!isProven && before.state.last_seq === after.state.last_seq);
    if (isProven || (!isDisproven && attempt === ATTEMPTS)) return withoutGaps(scan, sequence);
    await scan.close();
    if (isDisproven) return undefined;
    before = after;
  }
  return undefined;
}

async function* withoutGaps(
  { batches, end }: Scan,
  sequence: number,
): AsyncGenerator<ScannedMessage[], void, void> {
  let expected = sequence + 1;
  for await (const batch of batches) {
    for (const { delivery } of batch) {
      if (delivery.streamSequence !== expected) throw missing(expected);
      expected += 1;
    }
    yield batch;
  }
  if (expected <= end) throw missing(expected);
}

function missing(revision: number): KvError {
  return new KvError("revision_not_found", `revision ${revision} is not stored any more`);
}
