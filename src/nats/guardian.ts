import { spawn, type ChildProcess } from "node:child_process";

/**
 * Becomes the server, leaving a small shell behind that waits at the other end of our pipe. The
 * kernel closes that pipe when we die, however we die; a line on it means that all is well.
 */
const SHELL_GUARDIAN = `
exec 3<&0 </dev/null
(
  if read -r _ <&3; then exit 0; fi
  kill -TERM $$ 2>/dev/null
  kill -CONT $$ 2>/dev/null
  for _ in 1 2 3; do
    sleep 1
    kill -0 $$ 2>/dev/null || exit 0
  done
  kill -KILL $$ 2>/dev/null
) &
exec "$@" 3<&-
`;

/** The same where there is no shell: a parent of the server instead of a child. */
const NODE_GUARDIAN = `
const { spawn } = require("node:child_process");
const [program, ...parameters] = process.argv.slice(1);
const server = spawn(program, parameters, { stdio: ["ignore", "inherit", "inherit"], windowsHide: true });
let released = false;
server.on("error", (error) => { console.error(error.message); process.exit(127); });
server.on("exit", (code) => process.exit(code ?? 1));
process.stdin.on("data", () => { released = true; });
process.stdin.on("error", () => {});
process.stdin.on("close", () => {
  if (released) return;
  server.kill("SIGTERM");
  setTimeout(() => server.kill("SIGKILL"), 3000).unref();
});
process.stdin.resume();
`;

/** What keeps a server from outliving us: a shell, or a small Node process where there is none. */
export type GuardianKind = "shell" | "node";

/** The kind of guardian for this operating system. */
export const DEFAULT_GUARDIAN: GuardianKind = process.platform === "win32" ? "node" : "shell";

/**
 * Starts a program that ends when this process ends, even by SIGKILL.
 *
 * It runs in a session of its own, so that Ctrl-C in our terminal does not reach it: it is for us
 * to stop it, after everything that needs it. With the "shell" guardian the returned child is the
 * program itself; with "node" it is the program's parent, which passes on its exit code.
 *
 * @param output a file descriptor that gets the program's standard output and error
 * @param env variables that it has beside ours
 */
export function spawnGuarded(
  program: string,
  parameters: readonly string[],
  output: number,
  env: NodeJS.ProcessEnv = {},
  kind: GuardianKind = DEFAULT_GUARDIAN,
): ChildProcess {
  const [guardian, script] =
    kind === "shell"
      ? ["/bin/sh", ["-c", SHELL_GUARDIAN, "jetbucket-guardian"]]
      : [process.execPath, ["-e", NODE_GUARDIAN, "--"]];
  const child = spawn(guardian, [...script, program, ...parameters], {
    detached: true,
    windowsHide: true,
    stdio: ["pipe", output, output],
    env: { ...withoutOurs(process.env), ...env },
  });
  // The other end may be gone by the time we say goodbye.
  child.stdin?.on("error", () => undefined);
  child.once("exit", () => child.stdin?.end("\n"));
  return child;
}

/** Ends a program of `spawnGuarded()` whose process id may not be known, by force. */
export function abandon(child: ChildProcess, kind: GuardianKind = DEFAULT_GUARDIAN): void {
  // Killing the Node guardian would leave its program behind.
  if (kind === "node") child.stdin?.destroy();
  else child.kill("SIGKILL");
}

/** The environment without our own settings: among them are keys, which another program has no business with. */
function withoutOurs(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("JETBUCKET_")));
}
