/**
 * What the writer writes and the watchers look for: every update has a number, counted from 1 in each bucket, and is a
 * JSON value of 256 bytes that begins with it. The number also says which key it is of: the keys take turns.
 */

/** The number's digits, all of them always there, so that it is found without parsing. */
const OFFSET = 1_000_000_000;
const PREFIX = '{"n":';
const SIZE = 256;

/** Where the number stands: behind these bytes, ten digits. */
export const NUMBER_MARK = Buffer.from('"n":1');

const value = Buffer.from(
  `${PREFIX}${OFFSET},"text":"${"x".repeat(SIZE - `${PREFIX}${OFFSET},"text":""}`.length)}"}`,
);

/** The value of an update. */
export function valueOf(n) {
  const bytes = Buffer.from(value);
  bytes.latin1Write(String(OFFSET + n), PREFIX.length);
  return bytes;
}

/** The number whose ten digits begin at a place. */
export function numberAt(bytes, at) {
  let n = 0;
  // The first digit is the offset.
  for (let i = at + 1; i < at + 10; i++) n = n * 10 + bytes[i] - 48;
  return n;
}

/** Keys in groups: `g0007.k003` is the fourth key of the eighth group. Updates go from group to group. */
export class Keys {
  /**
   * @param {number} groups
   * @param {number} perGroup keys of each
   */
  constructor(groups, perGroup) {
    this.groups = groups;
    this.count = groups * perGroup;
  }

  /** The key of an update. */
  of(n) {
    const index = (n - 1) % this.count;
    const group = index % this.groups;
    return `g${pad(group, 4)}.k${pad((index - group) / this.groups, 3)}`;
  }

  /** The newest update of a key, of all up to a number; 0 when there is none. */
  newest(index, upTo) {
    const first = index + 1;
    return upTo < first ? 0 : upTo - ((upTo - first) % this.count);
  }
}

/** A number as text of a fixed length, as it stands in keys and filters. */
export function pad(number, digits) {
  return String(number).padStart(digits, "0");
}
