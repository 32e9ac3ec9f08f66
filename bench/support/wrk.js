/** The load generator: https://github.com/wg/wrk, run for a few seconds at a time. */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { isInstalled } from "./program.js";

/** @throws with what to do when wrk is missing */
export function checkWrk() {
  if (isInstalled("wrk")) return;
  throw new Error(
    "the load generator wrk is not installed: apt-get install wrk (or brew install wrk)",
  );
}

/**
 * Writes the script for a load: one of these requests after the other, at random. They are put together here, once, so
 * that the generator has nothing to do but to send them.
 *
 * @param {string} folder
 * @param {string} name
 * @param {{ method: string, path: string, headers?: Record<string, string>, body?: string }[]} requests ASCII only
 * @returns the script's path
 */
export function writeScript(folder, name, requests) {
  const file = join(folder, `${name}.lua`);
  writeFileSync(
    file,
    `local requests = {
${requests.map((request) => `  ${JSON.stringify(httpText(request))}`).join(",\n")}
}
request = function() return requests[math.random(#requests)] end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%d,"microseconds":%d,"failed":%d,"p50":%d,"p99":%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
`,
  );
  return file;
}

function httpText({ method, path, headers = {}, body = "" }) {
  const all = { Host: "127.0.0.1", ...headers };
  if (body !== "") all["Content-Length"] = String(body.length);
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body}`;
}

/**
 * Puts load on a server.
 *
 * @returns requests answered, requests per second, and the latency of half and of 99 % of them in milliseconds
 * @throws when a request failed: an error is answered fast, and proves nothing
 */
export async function wrk(lifetime, { port, script, connections, seconds }) {
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(
    "wrk",
    ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "10s", "-s", script, url],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const exited = new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
  await lifetime.within(async (running) => {
    running.own(() => child.kill());
    await exited;
  });
  const summary = output.split("\n").findLast((line) => line.startsWith("{"));
  if (summary === undefined) throw new Error(`wrk did not finish:\n${output}`);
  const { requests, microseconds, failed, p50, p99 } = JSON.parse(summary);
  if (failed > 0 || requests === 0) {
    throw new Error(`${script}: ${failed} of ${requests} requests failed:\n${output}`);
  }
  return { requests, rps: (requests / microseconds) * 1e6, p50: p50 / 1000, p99: p99 / 1000 };
}
