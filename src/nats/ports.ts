import { readFile, readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

import { errorCode } from "./errors.ts";

/** What a server wrote into its ports file. */
export type ServerPorts = { pid: number; port: number };

/** Whether a server could listen on this address now. Only "address in use" counts as taken. */
export function isPortFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", (error) => resolve(errorCode(error) !== "EADDRINUSE"));
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/**
 * Reads the ports file that nats-server writes into its `ports_file_dir` once it listens.
 * Undefined as long as there is none, or only a part of one.
 */
export async function readPortsFile(folder: string): Promise<ServerPorts | undefined> {
  const names = await readdir(folder);
  const name = names.find((candidate) => candidate.endsWith(".ports"));
  const pid = /_(\d+)\.ports$/.exec(name ?? "")?.[1];
  if (name === undefined || pid === undefined) return undefined;
  const text = await readFile(join(folder, name), "utf8").catch(() => "");
  const port = parsePorts(text);
  return port === undefined ? undefined : { pid: Number(pid), port };
}

/** The client port in the text of a ports file. */
export function parsePorts(text: string): number | undefined {
  let content: { nats?: string[] };
  try {
    content = JSON.parse(text) as { nats?: string[] };
  } catch {
    // The server does not write it in one step.
    return undefined;
  }
  const port = /:(\d+)$/.exec(content.nats?.[0] ?? "")?.[1];
  return port === undefined ? undefined : Number(port);
}
