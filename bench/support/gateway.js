// jetbucket itself, from the built package.
import pino from "pino";
import { createServer } from "../../dist/server.js";
import { readSettings } from "../../dist/settings.js";
import { heapAfterCollection, memoryAfterCollection } from "./heap.js";
import { announce, answerCalls, endWithParent } from "./module-process.js";

const settings = readSettings(["--port", "0", "--log-level", "silent"], process.env);
const gateway = await createServer(settings, pino({ level: "silent" }));
endWithParent(() => gateway.close());
answerCalls({ heap: heapAfterCollection, memory: memoryAfterCollection });
announce({ port: Number(new URL(gateway.url).port) });
