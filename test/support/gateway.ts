import { onTestFinished } from "vitest";
import pino from "pino";
import { createServer, type GatewayServer } from "../../src/server.ts";
import { readSettings } from "../../src/settings.ts";
import { startTestNats, type TestNats } from "./nats.ts";

export interface TestGateway extends GatewayServer {
  /** Base of the key-value API, for instance `http://localhost:41234/api/v1/kv`. */
  api: string;
  nats: GatewayServer["nats"];
  /** The NATS server below it. */
  server: TestNats;
}

/**
 * Starts a gateway in this process, on a free port, in front of a real nats-server: one of its own, or a given one.
 * Inside a test it is closed with the test; elsewhere close it by hand.
 */
export async function startGateway(
  server?: TestNats,
  flags: readonly string[] = [],
): Promise<TestGateway> {
  const nats = server ?? (await startTestNats());
  const settings = readSettings(
    ["--port", "0", "--nats-url", nats.url, "--log-level", "silent", ...flags],
    {},
  );
  const gateway = await createServer(settings, pino({ level: settings.logLevel }));
  try {
    onTestFinished(() => gateway.close());
  } catch {
    // Started outside a test: whoever started it closes it.
  }
  return { ...gateway, api: `${gateway.url}/api/v1/kv`, server: nats };
}

export interface Answer {
  status: number;
  headers: Headers;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests read answers of every form
  body: any;
}

/** Sends a request and reads a JSON answer. */
export async function call(
  method: string,
  url: string,
  body?: BodyInit | null,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.startsWith("application/json") ?? false;
  return {
    status: response.status,
    headers: response.headers,
    body: isJson && text !== "" ? JSON.parse(text) : text,
  };
}

/** Sends JSON. */
export function callJson(
  method: string,
  url: string,
  value: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return call(method, url, JSON.stringify(value), {
    "Content-Type": "application/json",
    ...headers,
  });
}
