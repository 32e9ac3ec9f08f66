import type { Change, FeedEvent } from "../../../src/store/feed.ts";
import { encodeKey } from "../../../src/protocol/keys.ts";
import { dialectOf, type Dialect } from "../../../src/watch/frames.ts";
import { Moment, type Origin } from "../../../src/watch/moment.ts";

export const extended: Dialect = dialectOf("extended", true, undefined);
export const plain: Dialect = dialectOf("plain", true, undefined);
export const events: Dialect = dialectOf("sse", true, undefined);

export const origin: Origin = { bucketName: "b", position: (revision) => `p${revision}` };

/** A put of text. */
export function put(
  key: string,
  value: string | Uint8Array = "v",
  more: Partial<Change> = {},
): Change {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return {
    suffix: encodeKey(key),
    key,
    revision: 7,
    createdAt: "2026-01-02T03:04:05.678Z",
    operation: "put",
    value: bytes,
    valueType: "text",
    contentType: undefined,
    expiresAt: undefined,
    firstCreatedAt: undefined,
    description: undefined,
    label: undefined,
    size: bytes.length,
    ...more,
  };
}

/** A moment in which some changes happened at once. */
export function momentOf(...changes: Change[]): Moment {
  const event: FeedEvent = { changes, revision: changes.at(-1)!.revision };
  return new Moment(origin, event, true);
}

/** A put at a revision. */
export function momentAt(revision: number, key = `key.${revision}`): Moment {
  return momentOf(put(key, "v", { revision }));
}

/** A delete that was found out late. */
export function lateMoment(revision: number, lostAt: number, key = "late"): Moment {
  const change = put(key, "", { revision, operation: "delete", reason: "delete", isLate: true });
  return new Moment(origin, { changes: [change], revision }, false, lostAt);
}
