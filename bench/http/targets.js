import { atLeast, atMost } from "../support/targets.js";

/**
 * What jetbucket has to reach, as ratios to what is measured beside it in the same run wherever there is something, so
 * that they hold on any machine.
 */
export const targets = {
  "get-64": atLeast(3, "x", "GET, 64 connections: times the obvious gateway"),
  "get-64-static": atLeast(0.6, "x", "GET, 64 connections: times static Hono"),
  "get-1": atLeast(1.15, "x", "GET, one connection: times the obvious gateway"),
  "get-tail": atMost(1, "x", "GET, 64 connections: p99 over the obvious gateway's p50"),
  "put-64": atLeast(3.2, "x", "PUT, 64 connections: times the obvious gateway"),
  "put-1": atLeast(1.15, "x", "PUT, one connection: times the obvious gateway"),
  "put-tail": atMost(1, "x", "PUT, 64 connections: p99 over the obvious gateway's p50"),
  "synced-64-etcd": atLeast(1.1, "x", "Synced PUT, 64 connections: times etcd's JSON gateway"),
  "synced-64": atLeast(2.5, "x", "Synced PUT, 64 connections: times the obvious gateway"),
  "page-100k": atMost(5, "ms", "A page of 100 keys out of 100,000, p50"),
  "page-1m": atMost(2, "x", "The same out of 1,000,000: times the page out of 100,000"),
  "warm-100k": atMost(1000, "ms", "First listing of an idle bucket of 100,000 keys"),
  "index-memory": atMost(200, "bytes", "Index memory per key, beyond the key's own bytes"),
  "list-all": atMost(1, "x", "All 100,000 keys, idle bucket: time over that of kv.keys()"),
  "list-all-warm": atMost(1, "x", "All 100,000 keys, warm index: time over that of kv.keys()"),
  batch: atLeast(15, "x", "Batch get of 100 keys: times 100 GETs one after the other"),
  memory: atMost(1.1, "x", "Heap under load: the highest over that at the beginning"),
};

export { result } from "../support/targets.js";
