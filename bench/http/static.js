// The ceiling: Hono on the same server, answering from memory with a body of the same size.
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { endWithParent } from "../support/module-process.js";

const body = JSON.stringify({
  key: "key-500",
  value: { text: "x".repeat(245) },
  encoding: "json",
  revision: 123456,
  created_at: "2026-11-21T11:27:15.871Z",
  operation: "put",
});
const app = new Hono();
app.get("/api/v1/kv/buckets/bench/keys/:key", (c) =>
  c.body(body, 200, { "Content-Type": "application/json" }),
);

endWithParent();
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => process.send({ port }));
