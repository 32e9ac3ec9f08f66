import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { findNatsServer } from "../../dist/nats/binary.js";
import { startNatsServer } from "../../dist/nats/embedded.js";

/**
 * A nats-server with an empty store, as `npm start` would run it.
 *
 * @param {string} syncInterval "always", or a time such as "2m"
 * @param {string} extraConfig more lines for its configuration
 * @param {number} [cores] that it uses at most; as with `npm start` unless told
 * @returns `{ url, pid, version, monitoring, websocket }`; the last one where the configuration asks for it
 */
export async function startNats(lifetime, folder, syncInterval, extraConfig = "", cores) {
  const { path: binary } = await findNatsServer({ onProgress: console.error });
  const dataDir = join(folder, "jetbucket");
  const server = await startNatsServer({
    binary,
    dataDir,
    port: 0,
    syncInterval,
    ...(cores !== undefined && { cores }),
    extraConfig: `http: "127.0.0.1:-1"\n${extraConfig}`,
  });
  lifetime.own(() => server.stop());
  const { url, pid, version } = server;
  const { monitoring, websocket } = portsIn(join(dataDir, "nats", "ports"));
  return { url, pid, version, monitoring: monitoring[0], websocket: websocket?.[0] };
}

/** The server chooses its ports and writes them down. */
function portsIn(folder) {
  const name = readdirSync(folder).find((each) => each.endsWith(".ports"));
  return JSON.parse(readFileSync(join(folder, name), "utf8"));
}

/** The version of the nats-server that will be used; fetches it if there is none. */
export async function natsVersion() {
  return (await findNatsServer({ onProgress: console.error })).version;
}
