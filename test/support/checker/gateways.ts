/** The gateways of a checker run, in this process or as processes of their own, each with a line to NATS that can break. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import pino from "pino";
import { createServer } from "../../../src/server.ts";
import { readSettings } from "../../../src/settings.ts";
import { lineTo, type Line, type Tap } from "./line.ts";

interface Running {
  url: string;
  /** Shuts it down in order. */
  close(): Promise<void>;
  /** Ends it at once. */
  kill(): Promise<void>;
}

/** A place where a gateway runs, or another one after it. */
export class GatewaySlot {
  /** The same number means the same gateway: after it has ended another one begins with a new one. */
  incarnation: number;
  readonly line: Line;
  readonly #start: (natsUrl: string) => Promise<Running>;
  readonly #number: () => number;
  readonly #tap: (() => Tap) | undefined;
  #running: Running | undefined;
  #front: Line | undefined;

  private constructor(
    line: Line,
    start: (natsUrl: string) => Promise<Running>,
    number: () => number,
    tap: (() => Tap) | undefined,
  ) {
    this.line = line;
    this.#start = start;
    this.#number = number;
    this.#tap = tap;
    this.incarnation = number();
  }

  /** @param tap looks into connections between clients and the gateway */
  static async open(
    natsPort: number,
    asProcess: boolean,
    number: () => number,
    tap?: () => Tap,
  ): Promise<GatewaySlot> {
    const line = await lineTo(natsPort);
    const slot = new GatewaySlot(line, asProcess ? startProcess : startHere, number, tap);
    await slot.start();
    return slot;
  }

  /** Base of the key-value API for writers; undefined when no gateway runs here. */
  get api(): string | undefined {
    return this.#running === undefined ? undefined : `${this.#running.url}/api/v1/kv`;
  }

  /** The same for watchers. */
  get watchApi(): string | undefined {
    if (this.#running === undefined || this.#front === undefined) return this.api;
    return `http://127.0.0.1:${this.#front.port}/api/v1/kv`;
  }

  async start(): Promise<void> {
    const running = await this.#start(`nats://127.0.0.1:${this.line.port}`);
    if (this.#tap !== undefined)
      this.#front = await lineTo(Number(new URL(running.url).port), this.#tap);
    this.incarnation = this.#number();
    this.#running = running;
  }

  async stop(how: "close" | "kill"): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.[how]();
    this.#front?.close();
    this.#front = undefined;
  }

  async end(): Promise<void> {
    await this.stop("kill");
    this.line.close();
  }
}

async function startHere(natsUrl: string): Promise<Running> {
  const settings = readSettings(
    ["--port", "0", "--nats-url", natsUrl, "--log-level", "silent"],
    {},
  );
  const gateway = await createServer(settings, pino({ level: "silent" }));
  return {
    url: gateway.url.replace("localhost", "127.0.0.1"),
    close: () => gateway.close(),
    kill: () => gateway.close(),
  };
}

const root = fileURLToPath(new URL("../../../", import.meta.url));
let program: Promise<string> | undefined;

/** The gateway as it is in `src` now, as one file. */
function programFile(): Promise<string> {
  program ??= (async () => {
    const folder = `${root}node_modules/.cache/jetbucket`;
    await mkdir(folder, { recursive: true });
    const file = `${folder}/gateway-${process.pid}.mjs`;
    await build({
      entryPoints: [`${root}src/cli/main.ts`],
      outfile: file,
      bundle: true,
      platform: "node",
      format: "esm",
      packages: "external",
    });
    return file;
  })();
  return program;
}

async function startProcess(natsUrl: string): Promise<Running> {
  const child: ChildProcess = spawn(process.execPath, [await programFile(), "serve"], {
    env: { ...process.env, PORT: "0", NATS_URL: natsUrl, JETBUCKET_LOG_LEVEL: "info" },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const endWithUs = (): void => void child.kill("SIGKILL");
  process.once("exit", endWithUs);
  const exited = once(child, "exit").then(() => void process.off("exit", endWithUs));
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout!.on("data", (chunk: Buffer) => {
      if (output.length < 100_000) output += chunk.toString();
      const ready = /"url":"([^"]+)".*"msg":"ready"/.exec(output);
      if (ready !== null) resolve(ready[1]!);
    });
    void exited.then(() => reject(new Error(`the gateway ended: ${output}`)));
  });
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await exited;
  };
  return {
    url: url.replace("localhost", "127.0.0.1"),
    close: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
  };
}
