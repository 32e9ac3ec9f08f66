import { fork } from "node:child_process";
import { once } from "node:events";

/** How long a child may take to be ready, and to end once it was asked to, in milliseconds. */
const START = 20_000;
const END = 5_000;

/**
 * Runs a module in a process of its own and waits for its first message, which says that it is ready. The child ends
 * when the channel to it closes (see {@link endWithParent}), so that it does not outlive this process either.
 *
 * @param {import("./lifetime.js").Lifetime} lifetime
 * @param {URL} module
 * @param {{ env?: Record<string, string>, execArgv?: string[] }} options its environment has nothing else in it
 */
export async function startModule(lifetime, module, { env = {}, execArgv = [] } = {}) {
  const { PATH = "", HOME = "" } = process.env;
  const child = fork(module, {
    execArgv,
    env: { PATH, HOME, NODE_ENV: "production", ...env },
  });
  const exited = once(child, "exit");
  let isWanted = true;
  lifetime.own(async () => {
    isWanted = false;
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill("SIGKILL"), END);
    await exited;
    clearTimeout(timer);
  });
  const next = () =>
    Promise.race([
      once(child, "message", { signal: AbortSignal.timeout(START) }).then(([message]) => message),
      exited.then(([code, signal]) => {
        // Its end was asked for: whoever waits is about to end as well.
        if (!isWanted) return new Promise(() => undefined);
        throw new Error(`${module.pathname} ended (${signal ?? `exit code ${code}`})`);
      }),
    ]);
  const ready = await next();
  return {
    pid: child.pid,
    /** Its first message. */
    ready,
    /** Sends a message and resolves with the answer. */
    ask(message) {
      const answer = next();
      child.send(message);
      return answer;
    },
  };
}

/**
 * In a child: ends it, in order, when its parent closes the channel or is gone. Ctrl-C reaches the children of a
 * terminal, too, and is left to the parent.
 */
export function endWithParent(close = () => undefined) {
  process.on("SIGINT", () => undefined);
  process.once("disconnect", async () => {
    await close();
    process.exit(0);
  });
}
