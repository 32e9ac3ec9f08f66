// The second baseline: one watch for the bucket, and every update sent to each socket in turn.
import { jetstream } from "@nats-io/jetstream";
import { Kvm, KvWatchInclude } from "@nats-io/kv";
import { connect } from "nats";
import { WebSocketServer } from "ws";
import { memoryAfterCollection } from "../support/heap.js";
import { announce, answerCalls, endWithParent } from "../support/module-process.js";

const nats = await connect({ servers: process.env.NATS_URL });
const kv = await new Kvm(jetstream(nats)).open("APP_bench", { allow_direct: true });
const watch = await kv.watch({ include: KvWatchInclude.UpdatesOnly });

const server = new WebSocketServer({ port: 0, host: "127.0.0.1", backlog: 4096 });
server.on("connection", (socket) => {
  socket.on("error", () => undefined);
  socket.send(JSON.stringify({ type: "kv_ready" }));
});

endWithParent();
answerCalls({ memory: memoryAfterCollection });
server.on("listening", () => announce({ port: server.address().port }));

for await (const entry of watch) {
  const text = JSON.stringify({
    type: "kv_update",
    bucket: "bench",
    key: entry.key,
    value: entry.json(),
    operation: entry.operation === "PUT" ? "put" : "delete",
    revision: entry.revision,
    created_at: entry.created.toISOString(),
  });
  for (const socket of server.clients) socket.send(text);
}
