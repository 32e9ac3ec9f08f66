import { ask, type ServerInfo } from "./ask.ts";

/**
 * Asks a server, over one connection, whether its JetStream answers.
 *
 * @returns the server's INFO, or undefined when it is not ready (yet)
 */
export async function askJetStream(host: string, port: number): Promise<ServerInfo | undefined> {
  const asked = await ask(host, port, [{ subject: "$JS.API.INFO", body: "" }]);
  // Behind a login that only the configuration's author knows, INFO is all there is to see.
  const isReady = asked?.answers.every((answer) => !answer.includes('"error"'));
  return isReady === true ? asked?.info : undefined;
}
