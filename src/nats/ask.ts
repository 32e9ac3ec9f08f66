import { randomUUID } from "node:crypto";
import { connect } from "node:net";

/** What a server says about itself in its INFO line, as far as it is used here. */
export type ServerInfo = { version: string };

type InfoLine = ServerInfo & {
  jetstream?: boolean;
  auth_required?: boolean;
  tls_required?: boolean;
};

/** A request of NATS. */
export type Question = { readonly subject: string; readonly body: string };

const SILENCE_MS = 2000;

/**
 * Sends requests to a server over one connection. Speaks the few lines of the NATS protocol that this takes, so that starting a server
 * needs no client.
 *
 * @returns the server's INFO and the answers, in any order; no answers when the server wants a login or TLS; undefined when
 *   one of the requests gets no answer
 */
export function ask(
  host: string,
  port: number,
  questions: readonly Question[],
): Promise<{ info: ServerInfo; answers: string[] } | undefined> {
  return new Promise((resolve) => {
    const inbox = `_INBOX.${randomUUID()}`;
    const answers: string[] = [];
    let received = "";
    let info: InfoLine | undefined;
    const socket = connect({ host, port });
    const finish = (isDone: boolean): void => {
      socket.destroy();
      resolve(isDone && info !== undefined ? { info, answers } : undefined);
    };
    // One character is one byte.
    socket.setEncoding("latin1");
    socket.setTimeout(SILENCE_MS, () => finish(false));
    socket.on("error", () => finish(false));
    socket.on("close", () => finish(false));
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (info === undefined) {
        info = parseInfo(received);
        if (info === undefined) return;
        if (info.auth_required === true || info.tls_required === true) {
          finish(true);
          return;
        }
        received = "";
        socket.write(
          'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"launcher"}\r\n' +
            `SUB ${inbox} 1\r\n`,
        );
        for (const { subject, body } of questions)
          socket.write(`PUB ${subject} ${inbox} ${Buffer.byteLength(body)}\r\n${body}\r\n`);
        return;
      }
      received = takeAnswers(received, inbox, answers);
      // Nobody answers, or we were not understood.
      if (received.includes("-ERR") || received.includes(`HMSG ${inbox}`)) finish(false);
      else if (answers.length === questions.length) finish(true);
    });
  });
}

/** Takes the whole messages at the beginning of what came, and gives back the rest. */
function takeAnswers(received: string, inbox: string, answers: string[]): string {
  let rest = received;
  for (;;) {
    const line = /^(?:PING\r\n|PONG\r\n|\+OK\r\n|INFO [^\r]*\r\n)*MSG (\S+) 1 (\d+)\r\n/.exec(rest);
    if (line?.[1] !== inbox) return rest;
    const end = line[0].length + Number(line[2]);
    if (rest.length < end + 2) return rest;
    answers.push(Buffer.from(rest.slice(line[0].length, end), "latin1").toString());
    rest = rest.slice(end + 2);
  }
}

/** The INFO line at the start of what a server sent; undefined while it is not complete. */
export function parseInfo(text: string): InfoLine | undefined {
  const line = /^INFO (\{.*\})\s*\r\n/.exec(text)?.[1];
  return line === undefined
    ? undefined
    : (JSON.parse(Buffer.from(line, "latin1").toString()) as InfoLine);
}
