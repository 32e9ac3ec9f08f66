/** A TCP proxy before a server, whose cable can be pulled: browsers keep open WebSockets when they are set offline. */
import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import { onTestFinished } from "vitest";

export interface CutOff {
  /** The server's address, by way of the proxy. */
  url: string;
  /** Connections that are open. */
  readonly connections: number;
  /** Breaks every connection, and takes no new one. */
  cut(): void;
  mend(): void;
}

export async function startCutOff(target: string): Promise<CutOff> {
  const { port } = new URL(target);
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((near) => {
    if (isCut) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(Number(port), "127.0.0.1");
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.resetAndDestroy();
  };
  onTestFinished(() => {
    cut();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get connections() {
      return sockets.size / 2;
    },
    cut,
    mend: () => (isCut = false),
  };
}
