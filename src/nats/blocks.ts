import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** What a record of a message block is: a message that was stored, or that one was removed. */
export interface BlockRecord {
  readonly sequence: number;
  readonly isRemoval: boolean;
  /** Subject of the message; empty for a removal. Made when asked for: there can be millions. */
  subject(): string;
}

const HEADER = 22;
const CHECKSUM = 8;
const WITH_HEADERS = 0x8000_0000;
/** Bits of a sequence, in its upper half: the record was erased; it tells of a removal. */
const ERASED = 0x8000_0000;
const REMOVAL = 0x4000_0000;

/**
 * Reads the message blocks of a stream's folder, in the order of writing. A block begins with its first record; each one is its
 * length, sequence, time, the length of its subject, the subject, the message, and a checksum, in little endian.
 *
 * @param folder `msgs` in the folder of a stream that no server works on, neither compressed nor encrypted
 */
export async function* readBlocks(folder: string): AsyncGenerator<BlockRecord> {
  const names = await readdir(folder);
  const numbers = names
    .filter((name) => /^\d+\.blk$/.test(name))
    .map((name) => Number.parseInt(name, 10))
    .sort((a, b) => a - b);
  for (const number of numbers) yield* recordsOf(await readFile(join(folder, `${number}.blk`)));
}

/** The records of a block, up to one that was not written to its end. */
export function* recordsOf(block: Buffer): Generator<BlockRecord> {
  for (let at = 0; at + HEADER + CHECKSUM <= block.length;) {
    const start = at;
    const length = (block.readUInt32LE(at) & ~WITH_HEADERS) >>> 0;
    const upper = block.readUInt32LE(at + 8);
    const subjectLength = block.readUInt16LE(at + 20);
    if (length < HEADER + subjectLength + CHECKSUM || at + length > block.length) return;
    at += length;
    if ((upper & ERASED) !== 0) continue;
    yield {
      sequence: (upper & (REMOVAL - 1)) * 2 ** 32 + block.readUInt32LE(start + 4),
      isRemoval: (upper & REMOVAL) !== 0,
      subject: () => block.toString("utf8", start + HEADER, start + HEADER + subjectLength),
    };
  }
}
