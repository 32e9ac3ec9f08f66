import { spawn, type ChildProcess } from "node:child_process";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { onTestFinished } from "vitest";

const SOURCES = fileURLToPath(new URL("../../../src/nats/", import.meta.url));

/** A Node process of its own, as a gateway is one, that a test may kill. */
export type ScriptProcess = {
  readonly pid: number;
  /** The first line that the script printed, as JSON. */
  readonly said: unknown;
  /** Sends a signal to the process, or with `group` to everything a terminal would send it to. */
  signal(signal: NodeJS.Signals, options?: { group: boolean }): void;
  /** Kills it as nothing can prevent, and waits for its end. */
  kill(): Promise<void>;
};

/**
 * Runs a script that may use what `exports` names from modules of src/nats, until the test ends.
 * Resolves when it has printed a line.
 *
 * @param exports for instance `{ startNatsServer: "embedded.ts" }`
 */
export async function runScript(
  exports: Readonly<Record<string, string>>,
  script: string,
): Promise<ScriptProcess> {
  const bundle = join(tmpdir(), `jetbucket-script-${crypto.randomUUID()}.mjs`);
  onTestFinished(() => rm(bundle, { force: true }));
  const imports = Object.entries(exports).map(
    ([name, file]) => `import { ${name} } from ${JSON.stringify(SOURCES + file)};`,
  );
  await build({
    stdin: { contents: `${imports.join("\n")}\n${script}`, resolveDir: SOURCES },
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: bundle,
    logLevel: "silent",
  });
  // Detached makes it the leader of a process group, as a shell does with what it runs.
  const child = spawn(process.execPath, [bundle], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  onTestFinished(kill);
  return { pid: child.pid!, said: JSON.parse(await firstLine(child)), signal, kill };

  function signal(name: NodeJS.Signals, { group } = { group: false }): void {
    process.kill(group ? -child.pid! : child.pid!, name);
  }
}

async function firstLine(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) return line;
  throw new Error("the script ended without printing a line");
}
