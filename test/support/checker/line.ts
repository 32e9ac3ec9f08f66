/** A TCP connection to somewhere that can be broken, held up, or looked into. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Line {
  readonly port: number;
  /** Breaks all connections; new ones are taken. */
  cut(): void;
  /** Lets nothing through, in either direction, until {@link Line.release}; what was sent meanwhile arrives then. */
  stall(): void;
  release(): void;
  close(): void;
}

/** Changes what goes through one connection. Each gets bytes and returns those that go on. */
export interface Tap {
  up?: (bytes: Buffer) => Buffer;
  down?: (bytes: Buffer) => Buffer;
}

/**
 * Listens on a free port of this machine and passes everything on.
 *
 * @param tap makes what looks into a new connection
 */
export async function lineTo(port: number, tap?: () => Tap): Promise<Line> {
  const ends = new Set<[Socket, Socket]>();
  let isStalled = false;
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    const pair: [Socket, Socket] = [near, far];
    ends.add(pair);
    const { up, down } = tap?.() ?? {};
    for (const [from, to, change] of [
      [near, far, up],
      [far, near, down],
    ] as const) {
      from.setNoDelay(true);
      from.on("error", () => undefined);
      from.on("data", (bytes: Buffer) => {
        const passed = change === undefined ? bytes : change(bytes);
        if (passed.length === 0 || to.destroyed || to.write(passed)) return;
        from.pause();
        to.once("drain", () => {
          if (!isStalled) from.resume();
        });
      });
      from.on("close", () => {
        ends.delete(pair);
        to.destroy();
      });
      if (isStalled) from.pause();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const each = (act: (socket: Socket) => void): void => {
    for (const pair of [...ends]) for (const socket of pair) act(socket);
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut: () => each((socket) => socket.destroy()),
    stall: () => {
      isStalled = true;
      each((socket) => socket.pause());
    },
    release: () => {
      isStalled = false;
      each((socket) => socket.resume());
    },
    close: () => {
      server.close();
      each((socket) => socket.destroy());
    },
  };
}
