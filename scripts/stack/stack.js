/** The compose stack as an instance of its own: other project name, other port, nothing of the user's settings. */
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { run } from "./command.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** npm in the image gets everything anew. */
const BUILD_TIMEOUT = 300_000;

export class Stack {
  #engine;
  #project;
  #env;
  #signal;

  /** Where the gateway answers, for instance `http://127.0.0.1:40123`. */
  url;

  /** @param signal aborts whatever is under way, except `remove()` */
  static async create(engine, signal) {
    // Whoever has a mirror wants the build in the image to use it, too.
    const registry = await run("npm", ["config", "get", "registry"], { cwd: root, signal });
    return new Stack(engine, signal, await freePort(), registry.trim());
  }

  constructor(engine, signal, port, registry) {
    this.#engine = engine;
    this.#signal = signal;
    this.#project = `jetbucket-test-${process.pid}`;
    this.url = `http://127.0.0.1:${port}`;
    this.#env = {
      ...process.env,
      ...engine.env,
      npm_config_registry: registry,
      JETBUCKET_PORT: String(port),
      // A .env file beside docker-compose.yml is the user's.
      JETBUCKET_ALLOWED_ORIGINS: "",
      JETBUCKET_LOG_LEVEL: "info",
      NATS_USER: "",
      NATS_PASSWORD: "",
      // Old clients fold their tables into the width of a terminal.
      COLUMNS: "300",
    };
  }

  build() {
    return this.#compose(["build"], { timeout: BUILD_TIMEOUT });
  }

  up() {
    return this.#compose(["up", "-d"]);
  }

  /** Removes containers and network, keeps the volume. */
  down() {
    return this.#compose(["down"]);
  }

  /** Removes everything that this instance made. */
  remove() {
    const args = ["down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "5"];
    return this.#compose(args, { signal: undefined, detached: true });
  }

  stop(service) {
    return this.#compose(["stop", service]);
  }

  start(service) {
    return this.#compose(["start", service]);
  }

  /** Runs a shell command in a service's container and resolves to the lines that it printed. */
  async shell(service, command) {
    const output = await this.#compose(["exec", "-T", service, "sh", "-c", command]);
    return output.trim().split(/\r?\n/);
  }

  logs() {
    return this.#compose(["logs", "--no-color", "--tail", "40"], { signal: undefined });
  }

  async isHealthy(service) {
    return (await this.#state(service)).isHealthy;
  }

  /** The exit code of a service that was stopped. */
  async exitCode(service) {
    return (await this.#state(service)).exitCode;
  }

  /** What the client says. Version 1 has a table only, and the table of later ones is not the same with every engine. */
  async #state(service) {
    const { isVersion1 } = this.#engine;
    const format = isVersion1 ? [] : ["--format", "json"];
    const output = await this.#compose(["ps", "-a", ...format, service]);
    if (isVersion1) {
      const [, exitCode] = /\bExit (\d+)/.exec(output) ?? [];
      return { isHealthy: output.includes("(healthy)"), exitCode: Number(exitCode) };
    }
    // A list in some releases.
    const [{ Health, ExitCode }] = [JSON.parse(output)].flat();
    return { isHealthy: Health === "healthy", exitCode: ExitCode };
  }

  #compose(args, options) {
    const [command, ...first] = this.#engine.compose;
    return run(command, [...first, "-p", this.#project, ...args], {
      cwd: root,
      env: this.#env,
      signal: this.#signal,
      ...options,
    });
  }
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
