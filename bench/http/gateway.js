// jetbucket itself, from the built package.
import pino from "pino";
import { createServer } from "../../dist/server.js";
import { readSettings } from "../../dist/settings.js";
import { endWithParent } from "../support/module-process.js";
import { heapAfterCollection } from "../support/heap.js";

const settings = readSettings(["--port", "0", "--log-level", "silent"], process.env);
const gateway = await createServer(settings, pino({ level: "silent" }));
endWithParent(() => gateway.close());
process.on("message", async (message) => {
  if (message === "heap") process.send(await heapAfterCollection());
});
process.send({ port: Number(new URL(gateway.url).port) });
