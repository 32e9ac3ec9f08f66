#!/usr/bin/env node
// `npm start`: builds what has to be built, then runs the gateway in this process.
import { buildIfNeeded } from "./build.js";

await buildIfNeeded();
await import("../dist/cli/main.js");
