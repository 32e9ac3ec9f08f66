import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { transform } from "esbuild";
import { expect, onTestFinished, test } from "vitest";
import { call, startGateway } from "../support/gateway.ts";

const root = join(import.meta.dirname, "../..");

/** Runs TypeScript with Node, inside the package, so that it imports the built one by its name. */
async function runNode(file: string, env: Record<string, string>) {
  const { code } = await transform(await readFile(file, "utf8"), { loader: "ts" });
  const child = spawn(process.execPath, ["--input-type=module", "-"], {
    cwd: root,
    env: { ...process.env, ...env },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end(code);
  const [status] = (await once(child, "close")) as [number | null];
  return { status, stdout, stderr };
}

test("the model page's Node half runs as it stands", async () => {
  const { url, api } = await startGateway();
  const run = await runNode(join(import.meta.dirname, "seeds/node.ts"), { JETBUCKET_URL: url });
  expect(run).toEqual({ status: 0, stdout: "{ mode: 'dark' } 1\n", stderr: "" });
  expect((await call("GET", `${api}/buckets`)).body).toMatchObject({ count: 0 });
});
