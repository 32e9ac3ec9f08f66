import { fork } from "node:child_process";
import { once } from "node:events";
import { basename } from "node:path";

/** How long a child may take to be ready or to answer, and to end once it was asked to, in milliseconds. */
const PATIENCE = 20_000;
const END = 5_000;

/**
 * Runs a module in a process of its own and waits for its first message, which says that it is ready. The child ends
 * when the channel to it closes (see {@link endWithParent}), so that it does not outlive this process either.
 *
 * @param {import("./lifetime.js").Lifetime} lifetime
 * @param {URL} module
 * @param {{ env?: Record<string, string>, execArgv?: string[], isDisposable?: boolean }} options its environment has
 *   nothing else in it; what is disposable is killed at its end, for one that may be too busy to end by itself
 */
export async function startModule(
  lifetime,
  module,
  { env = {}, execArgv = [], isDisposable = false } = {},
) {
  const { PATH = "", HOME = "" } = process.env;
  const child = fork(module, {
    execArgv,
    env: { PATH, HOME, NODE_ENV: "production", ...env },
    // Typed arrays travel as they are.
    serialization: "advanced",
  });
  const exited = once(child, "exit");
  let isWanted = true;
  lifetime.own(async () => {
    isWanted = false;
    if (isDisposable) child.kill("SIGKILL");
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill("SIGKILL"), END);
    await exited;
    clearTimeout(timer);
  });
  const next = (patience = PATIENCE) =>
    Promise.race([
      once(child, "message", { signal: AbortSignal.timeout(patience) }).then(
        ([message]) => message,
      ),
      exited.then(([code, signal]) => {
        // Its end was asked for: whoever waits is about to end as well.
        if (!isWanted) return new Promise(() => undefined);
        throw new Error(`${module.pathname} ended (${signal ?? `exit code ${code}`})`);
      }),
    ]);
  const ready = await next();
  /** Sends a message and resolves with the answer. One after the other. */
  const ask = (message, patience) => {
    const answer = next(patience);
    child.send(message);
    return answer;
  };
  return {
    pid: child.pid,
    /** Its first message. */
    ready,
    ask,
    /** Has the child call one of the functions that it answers with (see {@link answerCalls}). */
    async call(name, options = {}, patience = undefined) {
      const { result, failed } = await ask({ call: name, options }, patience);
      if (failed !== undefined) throw new Error(`${basename(module.pathname)}, ${name}: ${failed}`);
      return result;
    },
  };
}

/** In a child: tells the parent that it is ready, and what the parent has to know. */
export function announce(message = {}) {
  // The parent may have been stopped meanwhile.
  if (process.connected) process.send(message);
}

/** In a child: answers the parent's calls with functions, by their names. */
export function answerCalls(functions) {
  process.on("message", async ({ call, options }) => {
    let answer;
    try {
      answer = { result: await functions[call](options) };
    } catch (error) {
      answer = { failed: error.message };
    }
    if (process.connected) process.send(answer);
  });
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
