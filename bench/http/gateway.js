// jetbucket itself, from the built package.
import pino from "pino";
import { createServer } from "../../dist/server.js";
import { readSettings } from "../../dist/settings.js";

const settings = readSettings(["--port", "0", "--log-level", "silent"], process.env);
const gateway = await createServer(settings, pino({ level: "silent" }));
process.send?.({ port: Number(new URL(gateway.url).port) });
process.once("SIGINT", () => void gateway.close().then(() => process.exit(0)));
