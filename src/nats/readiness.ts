import { randomUUID } from "node:crypto";
import { connect } from "node:net";

/** What a server says about itself in its INFO line, as far as it is used here. */
export type ServerInfo = { version: string };

type InfoLine = ServerInfo & {
  jetstream?: boolean;
  auth_required?: boolean;
  tls_required?: boolean;
};

const ATTEMPT_MS = 2000;

/**
 * Asks a server, over one connection, whether its JetStream answers. Speaks the few lines of the
 * NATS protocol that this takes, so that starting a server needs no client.
 *
 * @returns the server's INFO, or undefined when it is not ready (yet)
 */
export function askJetStream(host: string, port: number): Promise<ServerInfo | undefined> {
  return new Promise((resolve) => {
    const inbox = `_INBOX.${randomUUID()}`;
    let received = "";
    let info: InfoLine | undefined;
    const socket = connect({ host, port });
    const finish = (result: ServerInfo | undefined): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setEncoding("utf8");
    socket.setTimeout(ATTEMPT_MS, () => finish(undefined));
    socket.on("error", () => finish(undefined));
    socket.on("close", () => finish(undefined));
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (info === undefined) {
        info = parseInfo(received);
        if (info === undefined) return;
        // Behind a login that only the configuration's author knows, INFO is all there is to see.
        if (info.auth_required === true || info.tls_required === true) {
          finish(info);
          return;
        }
        socket.write(
          'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"readiness"}\r\n' +
            `SUB ${inbox} 1\r\nPUB $JS.API.INFO ${inbox} 0\r\n\r\n`,
        );
        return;
      }
      if (received.includes("-ERR") || received.includes(`HMSG ${inbox}`)) finish(undefined);
      const answer = received.indexOf(`\r\nMSG ${inbox}`);
      if (answer < 0) return;
      const [, , body] = received.slice(answer).split("\r\n", 4);
      if (body === undefined || !received.endsWith("\r\n")) return;
      finish(body.includes('"error"') ? undefined : info);
    });
  });
}

/** The INFO line at the start of what a server sent; undefined while it is not complete. */
export function parseInfo(text: string): InfoLine | undefined {
  const line = /^INFO (\{.*\})\s*\r\n/.exec(text)?.[1];
  return line === undefined ? undefined : (JSON.parse(line) as InfoLine);
}
