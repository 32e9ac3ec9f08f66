import { expect, test, vi } from "vitest";
import { everyKey } from "../../../src/protocol/keys.ts";
import { Audiences } from "../../../src/watch/audiences.ts";
import { HubResources } from "../../../src/watch/hub-resources.ts";
import type { WatchOptions, WatchSocket } from "../../../src/watch/watch.ts";
import { Watcher, type WatcherHost } from "../../../src/watch/watcher.ts";
import { momentAt } from "./entries.ts";

/** A bucket whose changes are pushed by hand. */
class TestBucket implements WatcherHost {
  readonly resources = new HubResources({});
  readonly feed = { position: 0 };
  readonly audiences = new Audiences(this);
  turns = 0;

  onTurn(): void {
    this.turns += 1;
  }

  leave(): void {
    // Nobody asks.
  }

  onOverflow(): void {
    // Sockets keep up.
  }

  change(): void {
    this.feed.position += 1;
    this.audiences.push(momentAt(this.feed.position));
  }
}

/** A live watch with the revisions that it has got, each write by itself. */
class Seen implements WatchSocket {
  readonly format = "extended";
  readonly backlog = 0;
  readonly writes: number[][] = [];
  readonly watcher: Watcher;

  constructor(bucket: TestBucket, options: Partial<WatchOptions> = {}) {
    const all = { patterns: [everyKey], include: "updates", values: true, ...options } as const;
    this.watcher = new Watcher(bucket, bucket.audiences.join(all, this.format), this);
    bucket.audiences.admit(this.watcher);
  }

  write(bytes: Buffer): void {
    const text = bytes.toString("latin1");
    this.writes.push(
      [...text.matchAll(/"revision":(\d+)/g)].map(([, revision]) => Number(revision)),
    );
  }

  end(): void {
    throw new Error("nobody ends it");
  }

  get revisions(): number[] {
    return this.writes.flat();
  }
}

const upTo = (last: number, after = 0): number[] =>
  Array.from({ length: last - after }, (_, i) => after + i + 1);

test("a watch that becomes live gets what happens from then on, whatever waits for others", async () => {
  const bucket = new TestBucket();
  const seen: { since: number; of: Seen }[] = [];
  for (let i = 0; i < 600; i++) {
    const options = i % 3 === 0 ? { values: false } : {};
    seen.push({ since: bucket.feed.position, of: new Seen(bucket, options) });
    if (i % 5 === 0) bucket.change();
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const last = bucket.feed.position;
  await vi.waitUntil(() => seen.at(-5)!.of.revisions.at(-1) === last);
  await vi.waitUntil(() => seen[0]!.of.revisions.at(-1) === last);
  for (const { since, of } of seen) expect(of.revisions).toEqual(upTo(last, since));
});

test("what happens in a turn comes as one write, to a part of the watches at a time", async () => {
  const bucket = new TestBucket();
  const seen = Array.from({ length: 600 }, () => new Seen(bucket));
  for (let i = 0; i < 10; i++) bucket.change();
  await vi.waitUntil(() => seen.every(({ writes }) => writes.length > 0));
  for (const { writes } of seen) expect(writes).toEqual([upTo(10)]);
  expect(bucket.turns).toBeGreaterThanOrEqual(4);
});

test("a watch that is not live any more gets nothing, and its place is given away", () => {
  const bucket = new TestBucket();
  const seen = Array.from({ length: 300 }, () => new Seen(bucket));
  bucket.change();
  for (const { watcher } of seen) bucket.audiences.dismiss(watcher);
  bucket.audiences.flush();
  expect(seen.flatMap(({ revisions }) => revisions)).toEqual([]);
  const others = Array.from({ length: 300 }, () => new Seen(bucket));
  bucket.change();
  bucket.audiences.flush();
  expect(bucket.turns).toBe(3);
  for (const { revisions } of others) expect(revisions).toEqual([2]);
});

test("a shard's position is what all of its watches have got", () => {
  const bucket = new TestBucket();
  const [first] = Array.from({ length: 129 }, () => new Seen(bucket));
  const { shard } = first!.watcher.members!;
  bucket.change();
  bucket.audiences.flush();
  bucket.change();
  bucket.change();
  expect(shard.position).toBe(1);
  shard.flush();
  expect(shard.position).toBe(3);
  // Nobody in it wants to hear of what is beyond its filters: then it has all of it.
  bucket.feed.position += 1;
  expect(shard.position).toBe(4);
});
