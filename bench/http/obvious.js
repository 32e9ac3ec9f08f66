// The baseline: what one writes first. Hono, the NATS project's own KV client, one request to the store for each request.
import { serve } from "@hono/node-server";
import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Hono } from "hono";
import { connect } from "nats";
import { endWithParent } from "../support/module-process.js";

const nats = await connect({ servers: process.env.NATS_URL });
const kv = await new Kvm(jetstream(nats)).open("APP_bench", { allow_direct: true });

const app = new Hono();
app.get("/api/v1/kv/buckets/bench/keys/:key", async (c) => {
  const entry = await kv.get(c.req.param("key"));
  if (entry === null || entry.operation !== "PUT") return c.json({ error: "not found" }, 404);
  return c.json({
    key: entry.key,
    value: entry.json(),
    revision: entry.revision,
    created_at: entry.created.toISOString(),
    operation: "put",
  });
});
app.put("/api/v1/kv/buckets/bench/keys/:key", async (c) => {
  const body = await c.req.text();
  JSON.parse(body);
  return c.json({ revision: await kv.put(c.req.param("key"), body) });
});

endWithParent();
serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) => process.send({ port }));
