import { findNatsServer } from "../../src/nats/binary.ts";

/**
 * vitest's global setup: finds (or fetches) a nats-server once for all test processes, which
 * inherit NATS_SERVER_BIN.
 */
export default async function setup(): Promise<void> {
  const { path } = await findNatsServer({ onProgress: (line) => console.log(line) });
  process.env.NATS_SERVER_BIN = path;
}
