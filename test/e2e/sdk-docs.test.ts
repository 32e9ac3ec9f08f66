/** Runs the examples of docs/sdk.md as they stand, and compares what they print with what the page says. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { transform } from "esbuild";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { call, callJson, startGateway, type TestGateway } from "../support/gateway.ts";

const root = join(import.meta.dirname, "../..");
const ADDRESS = "http://localhost:9123";

interface Section {
  title: string;
  language: string;
  code: string;
}

/** The code under each heading, its blocks as one program. */
async function readSections(): Promise<Section[]> {
  const page = await readFile(join(root, "docs/sdk.md"), "utf8");
  return page.split(/^## /m).flatMap((section) => {
    const blocks = [...section.matchAll(/^```(ts|js)\n(.*?)^```$/gms)];
    const code = blocks.map((block) => block[2]).join("\n");
    const title = section.slice(0, section.indexOf("\n"));
    return code === "" ? [] : [{ title, language: blocks[0]![1]!, code }];
  });
}

/** What a program is said to print: `// → a → b` is a line `a` and a line `b`. */
function promised(code: string): string[] {
  return [...code.matchAll(/\/\/ (?:.*: )?→ (.*)$/gm)].flatMap((match) => match[1]!.split(" → "));
}

const sections = await readSections();
const start = sections.find(({ title }) => title === "Start")!.code;
/** What the page only says happens later has to wait until the watch is up to date, and has told what it was to tell. */
const later = `while (watcher.state !== "live") await new Promise((resolve) => setTimeout(resolve, 10));
await new Promise((resolve) => setTimeout(resolve, 300));`;
/** What all sections after the first begin with: imports and an empty bucket. */
const setup = start.slice(0, start.indexOf("\n\nawait bucket.put"));

let gateway: TestGateway;

beforeAll(async () => {
  gateway = await startGateway();
});
afterAll(() => gateway.close());
beforeEach(async () => {
  await call("DELETE", `${gateway.api}/buckets/settings`);
});

async function run(code: string): Promise<string> {
  const child = spawn(process.execPath, ["--input-type=module", "-"], { cwd: root });
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.end(code.replaceAll(ADDRESS, gateway.url));
  await once(child, "close");
  return output;
}

test.each(sections.filter(({ language }) => language === "ts"))(
  "the examples under $title print what the page says",
  async ({ title, code }) => {
    const program = (title === "Start" ? code : `${setup}\n${code}`).replaceAll("// later", later);
    const output = await run((await transform(program, { loader: "ts" })).code);
    const lines = output.split("\n").filter((line) => line !== "");
    // What callbacks print is promised where they are written, not where they are called.
    expect(lines.toSorted()).toEqual(promised(code).toSorted());
  },
);

test.each(sections.filter(({ language }) => language === "js"))(
  "the examples under $title do so with the browser's build",
  async ({ code }) => {
    await callJson("POST", `${gateway.api}/buckets`, { name: "settings" });
    const browser = `import { WebSocket } from "ws"; globalThis.WebSocket = WebSocket;`;
    const local = code.replace(`${ADDRESS}/sdk/browser.js`, "jetbucket/browser");
    const output = await run(`${browser}\n${local}\n${later}\nwatcher.stop();`);
    expect(output.trimEnd().split("\n")).toEqual(promised(code));
  },
);
