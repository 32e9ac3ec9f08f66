/** Finds something that runs compose files: Docker, or the stand-in for machines without it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { buildIfNeeded } from "../build.js";
import { run, succeeds } from "./command.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Optional: an engine of podman and home-made base images, kept beside the repository. */
const standInTool = join(root, "..", "shared", "tools", "compose-local");

/** Making the base images starts with installing podman. */
const IMAGES_TIMEOUT = 300_000;

/**
 * Resolves to `{ name, compose, isVersion1, env, close }`: the compose command as a list of words, whether it is of the
 * old Python line, what it needs in its environment, and what to call at the end. To `undefined` when this machine has no
 * engine.
 */
export async function findEngine({ signal, onProgress }) {
  for (const compose of [["docker", "compose"], ["docker-compose"]]) {
    const [command, ...args] = compose;
    // The clients are often installed without an engine; this asks the engine.
    const options = { cwd: root, timeout: 20_000, signal };
    if (await succeeds(command, [...args, "-p", "jetbucket-probe", "ps", "-q"], options)) {
      const close = async () => undefined;
      return { name: compose.join(" "), ...(await client(compose)), env: {}, close };
    }
  }
  signal.throwIfAborted();
  if (!existsSync(standInTool) || process.getuid?.() !== 0) return undefined;
  return startStandIn({ signal, onProgress });
}

async function client(compose) {
  const [command, ...args] = compose;
  const version = await run(command, [...args, "version", "--short"]);
  return { compose, isVersion1: /^v?1\./.test(version) };
}

async function startStandIn({ signal, onProgress }) {
  // A folder of its own, with the engine's socket in it: several may run at once.
  const folder = await mkdtemp(join(tmpdir(), "jetbucket-stack-"));
  const env = {
    ...process.env,
    COMPOSE_LOCAL_DIR: folder,
    DEBIAN_FRONTEND: "noninteractive",
  };
  let engine;
  const close = async () => {
    if (engine?.exitCode === null && engine.signalCode === null) {
      engine.stdin.end();
      await once(engine, "exit");
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await makeBaseImages({ env, signal, onProgress });
    await installInit({ env, signal });
    // The engine runs as long as the command that it is started for. This one says where the engine is and then lives
    // until its stdin ends, that is, until close() or the end of this process, however that comes. It leads a process
    // group of its own, since a Ctrl-C must not end the engine before everything has been taken down with it.
    const command = 'echo "$DOCKER_HOST"; exec cat >/dev/null';
    engine = spawn(standInTool, ["exec", "sh", "-c", command], {
      env,
      stdio: ["pipe", "pipe", "inherit"],
      detached: true,
    });
    const [host] = await Promise.race([
      once(createInterface(engine.stdout), "line", { signal }),
      once(engine, "exit").then(([code]) => {
        throw new Error(`${standInTool}: exit code ${code}`);
      }),
    ]);
    return {
      name: "podman with stand-in base images",
      ...(await client(["docker-compose"])),
      // Debian's client is from before BuildKit.
      env: { DOCKER_HOST: host, DOCKER_BUILDKIT: "0", COMPOSE_DOCKER_CLI_BUILD: "0" },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Makes the base images that the compose file and the Dockerfile name, unless an earlier run did. */
async function makeBaseImages({ env, signal, onProgress }) {
  const nats = await tagIn("docker-compose.yml", /image: nats:(\S+)/);
  const node = await tagIn("Dockerfile", /^FROM node:(\S+)$/m);
  const images = [`docker.io/library/nats:${nats}`, `docker.io/library/node:${node}`];
  const exist = await Promise.all(
    images.map((image) => succeeds("podman", ["image", "exists", image], { signal })),
  );
  if (exist.every(Boolean)) return;
  signal.throwIfAborted();
  onProgress("making the stand-in base images, which takes a minute or two, once");
  await buildIfNeeded();
  const { findNatsServer } = await import("../../dist/nats/binary.js");
  const { path } = await findNatsServer({ onProgress });
  await run(standInTool, ["images", path, nats, node], { env, signal, timeout: IMAGES_TIMEOUT });
}

/** What podman runs as process 1 for `init: true`. It is a package of its own. */
async function installInit({ env, signal }) {
  if (existsSync("/usr/libexec/podman/catatonit")) return;
  const options = { env, signal };
  await run("apt-get", ["install", "-y", "--no-install-recommends", "catatonit"], options);
}

async function tagIn(file, pattern) {
  const [, tag] = pattern.exec(await readFile(join(root, file), "utf8")) ?? [];
  if (tag === undefined) throw new Error(`${file}: nothing in it looks like ${pattern}`);
  return tag;
}
