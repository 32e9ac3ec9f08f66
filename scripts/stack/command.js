/** Running programs. */
import { spawn } from "node:child_process";

/**
 * Runs a program to its end and resolves to what it printed on stdout. Its output is shown only in the error when it
 * fails. `timeout` is in milliseconds; an aborted `signal` ends it too.
 */
export function run(command, args, { timeout = 120_000, signal, ...options } = {}) {
  const line = [command, ...args].join(" ");
  return new Promise((resolve, reject) => {
    const deadline = AbortSignal.timeout(timeout);
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
      ...options,
    });
    let stdout = "";
    let all = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text;
      all += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => (all += text));
    let failure;
    child.on("error", (error) => (failure = error));
    child.on("close", (code, killedBy) => {
      if (failure === undefined && code === 0) resolve(stdout);
      else if (signal?.aborted) reject(signal.reason);
      else if (deadline.aborted)
        reject(new Error(`${line}: not done after ${timeout / 1000} s\n${all}`));
      else
        reject(
          new Error(`${line}: ${failure?.message ?? killedBy ?? `exit code ${code}`}\n${all}`),
        );
    });
  });
}

/** Whether a program runs and succeeds. */
export function succeeds(command, args, options) {
  return run(command, args, options).then(
    () => true,
    () => false,
  );
}
