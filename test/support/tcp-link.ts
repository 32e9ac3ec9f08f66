import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** A way to a server that a test can break, beside other ways that stay whole. */
export interface TcpLink {
  /** Port of its near end. */
  port: number;
  /** Breaks all connections, and lets no new ones through. */
  cut(): void;
  /** Connections stay, but nothing comes through any more. */
  pause(): void;
  /** Ends {@link cut} and {@link pause}. */
  heal(): void;
}

/** Opens a link to a port of this machine. It is closed with the test. */
export async function startLink(target: number): Promise<TcpLink> {
  const sockets = new Set<Socket>();
  let isCut = false;
  let isPaused = false;
  const server = createServer((near) => {
    if (isCut) {
      near.destroy();
      return;
    }
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      if (isPaused) from.pause();
      from.on("data", (data) => {
        if (to.write(data)) return;
        from.pause();
        to.once("drain", () => {
          if (!isPaused) from.resume();
        });
      });
      from.on("error", () => undefined);
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const destroyAll = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  onTestFinished(() => {
    destroyAll();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    cut() {
      isCut = true;
      destroyAll();
    },
    pause() {
      isPaused = true;
      for (const socket of sockets) socket.pause();
    },
    heal() {
      isCut = false;
      isPaused = false;
      for (const socket of sockets) socket.resume();
    },
  };
}
