// The first baseline: what one writes first. Each socket has a watch, and so a consumer, of its own.
import { jetstream } from "@nats-io/jetstream";
import { Kvm, KvWatchInclude } from "@nats-io/kv";
import { connect } from "nats";
import { WebSocketServer } from "ws";
import { memoryAfterCollection } from "../support/heap.js";
import { announce, answerCalls, endWithParent } from "../support/module-process.js";

const nats = await connect({ servers: process.env.NATS_URL });
const kv = await new Kvm(jetstream(nats)).open("APP_bench", { allow_direct: true });

const server = new WebSocketServer({ port: 0, host: "127.0.0.1", backlog: 4096 });
server.on("connection", async (socket) => {
  const watch = await kv.watch({ include: KvWatchInclude.UpdatesOnly });
  socket.on("close", () => watch.stop());
  socket.on("error", () => undefined);
  socket.send(JSON.stringify({ type: "kv_ready" }));
  for await (const entry of watch) {
    socket.send(
      JSON.stringify({
        type: "kv_update",
        bucket: "bench",
        key: entry.key,
        value: entry.json(),
        operation: entry.operation === "PUT" ? "put" : "delete",
        revision: entry.revision,
        created_at: entry.created.toISOString(),
      }),
    );
  }
});

endWithParent();
answerCalls({ memory: memoryAfterCollection });
server.on("listening", () => announce({ port: server.address().port }));
