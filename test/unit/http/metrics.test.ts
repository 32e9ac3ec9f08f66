import { describe, expect, test } from "vitest";
import { GatewayMetrics, type GatewayStats } from "../../../src/http/metrics.ts";

function statsOf(more: Partial<GatewayStats> = {}): GatewayStats {
  return {
    sockets: { bucket: 3, config: 0, multiplexed: 2, events: 1 },
    watches: 9,
    deliveries: 1_000,
    conflations: 20,
    resets: { epoch_changed: 0, too_old: 2, future: 0, filter_changed: 0, lagged: 5 },
    overflows: 4,
    auditDropped: 6,
    rateLimited: 7,
    outboxBytes: 4_096,
    ringBytes: 65_536,
    feeds: [
      { bucket: "a", lagEvents: 0, lagMs: 1 },
      { bucket: "b", lagEvents: 70, lagMs: 1_500 },
    ],
    ...more,
  };
}

async function linesOf(stats: GatewayStats): Promise<string[]> {
  return (await new GatewayMetrics(() => stats).text(true)).split("\n");
}

describe("the metrics", () => {
  test("have every figure, with its unit in the name", async () => {
    const lines = await linesOf(statsOf());
    expect(lines).toEqual(
      expect.arrayContaining([
        'jetbucket_sockets{kind="bucket"} 3',
        'jetbucket_sockets{kind="config"} 0',
        'jetbucket_sockets{kind="multiplexed"} 2',
        'jetbucket_sockets{kind="events"} 1',
        "jetbucket_watches 9",
        "jetbucket_deliveries_total 1000",
        "jetbucket_conflations_total 20",
        "jetbucket_outbox_overflows_total 4",
        "jetbucket_audit_dropped_total 6",
        "jetbucket_rate_limited_total 7",
        'jetbucket_resets_total{reason="too_old"} 2',
        'jetbucket_resets_total{reason="lagged"} 5',
        'jetbucket_resets_total{reason="future"} 0',
        "jetbucket_outbox_bytes 4096",
        "jetbucket_ring_bytes 65536",
        "jetbucket_feeds 2",
        'jetbucket_feed_lag_events{bucket="a"} 0',
        'jetbucket_feed_lag_events{bucket="b"} 70',
        'jetbucket_feed_lag_seconds{bucket="b"} 1.5',
        "jetbucket_feed_lag_events_max 70",
        "jetbucket_feed_lag_seconds_max 1.5",
      ]),
    );
  });

  test("say of each what it is, and of which type", async () => {
    const lines = await linesOf(statsOf());
    const names = new Set(
      lines.filter((line) => line.startsWith("jetbucket_")).map((line) => /^\w+/.exec(line)![0]),
    );
    expect(names.size).toBeGreaterThan(10);
    for (const name of names) {
      expect(lines.some((line) => line.startsWith(`# HELP ${name} `))).toBe(true);
      expect(lines).toContain(`# TYPE ${name} ${name.endsWith("_total") ? "counter" : "gauge"}`);
    }
  });

  test("have the process's own, too", async () => {
    const text = (await linesOf(statsOf())).join("\n");
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    expect(text).toMatch(/^nodejs_eventloop_lag_p99_seconds /m);
  });

  test("are what they are when they are asked for", async () => {
    let stats = statsOf();
    const metrics = new GatewayMetrics(() => stats);
    await metrics.text(true);
    stats = statsOf({ deliveries: 1_001, feeds: [], watches: 0 });
    const lines = (await metrics.text(true)).split("\n");
    expect(lines).toContain("jetbucket_deliveries_total 1001");
    expect(lines).toContain("jetbucket_watches 0");
    expect(lines).toContain("jetbucket_feed_lag_events_max 0");
    expect(lines.filter((line) => line.startsWith("jetbucket_feed_lag_events{"))).toEqual([]);
  });

  test("name a bounded number of buckets, those that are furthest behind", async () => {
    const feeds = Array.from({ length: 1_000 }, (_, i) => ({
      bucket: `bucket-${i}`,
      lagEvents: i % 500 === 0 ? 1_000 + i : 0,
      lagMs: i,
    }));
    const lines = await linesOf(statsOf({ feeds }));
    const named = lines.filter((line) => line.startsWith("jetbucket_feed_lag_events{"));
    expect(named).toHaveLength(50);
    expect(named.slice(0, 2)).toEqual([
      'jetbucket_feed_lag_events{bucket="bucket-500"} 1500',
      'jetbucket_feed_lag_events{bucket="bucket-0"} 1000',
    ]);
    expect(lines).toContain("jetbucket_feeds 1000");
  });
});
