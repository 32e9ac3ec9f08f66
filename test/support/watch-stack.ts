import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pino from "pino";
import { onTestFinished } from "vitest";
import { openToAll } from "../../src/auth/authenticator.ts";
import { ConfigWatches } from "../../src/configs/watches.ts";
import { originPolicy } from "../../src/http/origins.ts";
import { WatchServer } from "../../src/http/watch.ts";
import { Buckets } from "../../src/store/buckets.ts";
import { StoreConnection } from "../../src/store/connection.ts";
import { Hub, type HubOptions } from "../../src/watch/hub.ts";
import type { TestNats } from "./nats.ts";
import { startLink, type TcpLink } from "./tcp-link.ts";

export interface WatchStack {
  /** Base of the key-value API, for watches only. */
  api: string;
  hub: Hub;
  /** The way to NATS, which can be broken for this stack alone. */
  link: TcpLink;
  /** Ends all watches as a shutdown does. */
  close(): Promise<void>;
}

/** The watch side of a gateway alone, with times that a test can wait for. It is closed with the test. */
export async function startWatchStack(
  nats: TestNats,
  options: HubOptions & { pingInterval?: number } = {},
): Promise<WatchStack> {
  const { pingInterval, ...hubOptions } = options;
  const link = await startLink(nats.port);
  const connection = await StoreConnection.open({ servers: [`127.0.0.1:${link.port}`] });
  const buckets = new Buckets(connection);
  const hub = new Hub(buckets, hubOptions);
  const configs = new ConfigWatches(buckets, hub);
  const watches = new WatchServer({
    hub,
    configs,
    log: pino({ level: "silent" }),
    origins: originPolicy([]),
    authenticator: openToAll,
    ...(pingInterval === undefined ? {} : { pingInterval }),
  });
  const http = createServer();
  watches.listen(http);
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const close = async (): Promise<void> => {
    configs.close();
    await hub.close();
    watches.goAway();
    watches.close();
    http.close();
    await buckets.close();
    await connection.close();
  };
  let closing: Promise<void> | undefined;
  const closeOnce = (): Promise<void> => (closing ??= close());
  onTestFinished(closeOnce);
  const { port } = http.address() as AddressInfo;
  return { api: `http://127.0.0.1:${port}/api/v1/kv`, hub, link, close: closeOnce };
}
