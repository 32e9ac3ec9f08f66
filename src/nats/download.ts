import { createWriteStream } from "node:fs";
import { get as getHttp, type IncomingMessage } from "node:http";
import { get as getHttps } from "node:https";
import { pipeline } from "node:stream/promises";

import { errorCode } from "./errors.ts";

const MAX_REDIRECTS = 5;
const CONNECT_TIMEOUT_MS = 5000;
const IDLE_TIMEOUT_MS = 30_000;

/**
 * Downloads to a file, following redirects.
 *
 * @throws Error when there is no connection within 5 seconds, nothing arrives for 30 seconds, or
 *   the answer is not 200
 */
export async function downloadFile(url: string, file: string): Promise<void> {
  await pipeline(await request(url), createWriteStream(file, { flags: "wx" }));
}

/** Downloads a text. For limits and errors see `downloadFile()`. */
export async function downloadText(url: string): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of await request(url)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

async function request(url: string): Promise<IncomingMessage> {
  let target = new URL(url);
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const response = await requestOnce(target);
    const { statusCode = 0, headers } = response;
    if (statusCode === 200) return response;
    response.destroy();
    if (statusCode < 300 || statusCode > 399 || headers.location === undefined) {
      throw new Error(`${target.href} answered ${statusCode}`);
    }
    const next = new URL(headers.location, target);
    if (target.protocol === "https:" && next.protocol !== "https:") {
      throw new Error(`${target.href} redirects to an unprotected address`);
    }
    target = next;
  }
  throw new Error(`${url} redirects too often`);
}

function requestOnce(url: URL): Promise<IncomingMessage> {
  const isSecure = url.protocol === "https:";
  return new Promise((resolve, reject) => {
    const outgoing = (isSecure ? getHttps : getHttp)(url, { agent: false }, resolve);
    const connecting = setTimeout(() => {
      outgoing.destroy(
        new Error(`no connection to ${url.host} within ${CONNECT_TIMEOUT_MS / 1000} s`),
      );
    }, CONNECT_TIMEOUT_MS);
    outgoing.on("socket", (socket) => {
      socket.once(isSecure ? "secureConnect" : "connect", () => clearTimeout(connecting));
    });
    outgoing.setTimeout(IDLE_TIMEOUT_MS, () => {
      outgoing.destroy(new Error(`${url.host} sent nothing for ${IDLE_TIMEOUT_MS / 1000} s`));
    });
    outgoing.once("error", (error) => {
      clearTimeout(connecting);
      const code = errorCode(error);
      reject(
        code === undefined
          ? error
          : new Error(`${url.host} not reached (${code})`, { cause: error }),
      );
    });
  });
}
