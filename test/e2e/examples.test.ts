/** Runs every file of examples/ as its reader would, and compares what it prints with the comment at its end. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { transform } from "esbuild";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startGateway, type TestGateway } from "../support/gateway.ts";

const root = join(import.meta.dirname, "../..");
const examples = readdirSync(join(root, "examples")).filter((file) => file.endsWith(".ts"));

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await startGateway(undefined, ["--master-key", randomBytes(32).toString("hex")]);
});
afterAll(() => gateway.close());

/** What a file says that it prints: `/* Prints`, and the lines up to the end of the comment. */
function promised(code: string): string {
  return /^\/\* Prints\n(.*)\*\/\s*$/ms.exec(code)?.[1] ?? "a comment of what it prints";
}

async function run(code: string): Promise<{ exitCode: number | null; output: string }> {
  // Node 20 does not run TypeScript. From the standard input, so that imports are found as from a file of this folder.
  const child = spawn(process.execPath, ["--input-type=module", "-"], {
    cwd: root,
    env: { ...process.env, JETBUCKET_URL: gateway.url },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.end(code);
  const [exitCode] = (await once(child, "close")) as [number | null];
  return { exitCode, output };
}

test.each(examples)("examples/%s runs and prints what it says", async (file) => {
  const source = readFileSync(join(root, "examples", file), "utf8");
  const { code } = await transform(source, { loader: "ts" });
  expect(await run(code)).toEqual({ exitCode: 0, output: promised(source) });
});
