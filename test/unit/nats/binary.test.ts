import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { beforeEach, describe, expect, onTestFinished, test } from "vitest";

import { findNatsServer, NatsServerNotFoundError } from "../../../src/nats/binary.ts";
import { cacheFolder, keepInCache, withWorkFolder } from "../../../src/nats/cache.ts";
import type { Fetcher } from "../../../src/nats/fetcher.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-binary-"));
  onTestFinished(() => rm(folder, { recursive: true }));
});

/** A program that claims to be some version of nats-server. */
async function fakeServer(path: string, version: string): Promise<string> {
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, `#!/bin/sh\necho "nats-server: v${version}"\n`);
  await chmod(path, 0o755);
  return path;
}

function environment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { PATH: join(folder, "bin"), JETBUCKET_CACHE_DIR: join(folder, "cache"), ...more };
}

async function putIntoCache(version: string): Promise<string> {
  const cache = cacheFolder(environment());
  return withWorkFolder(cache, async (work) => {
    const { path } = await keepInCache(cache, await fakeServer(join(work, "server"), version));
    return path;
  });
}

function failing(source: Fetcher["source"], calls: string[] = []): Fetcher {
  return {
    source,
    place: `the ${source}`,
    fetch: async () => {
      calls.push(source);
      throw new Error(`no ${source} today`);
    },
  };
}

async function failureOf(promise: Promise<unknown>): Promise<NatsServerNotFoundError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(NatsServerNotFoundError);
  return error as NatsServerNotFoundError;
}

describe.skipIf(process.platform === "win32")("findNatsServer", () => {
  test("takes NATS_SERVER_BIN before everything else", async () => {
    const path = await fakeServer(join(folder, "mine"), "2.12.0");
    await fakeServer(join(folder, "bin", "nats-server"), "2.15.1");
    expect(await findNatsServer({ env: environment({ NATS_SERVER_BIN: path }) })).toEqual({
      path,
      version: "2.12.0",
      source: "NATS_SERVER_BIN",
    });
  });

  test("does not look further when NATS_SERVER_BIN is missing", async () => {
    await fakeServer(join(folder, "bin", "nats-server"), "2.15.1");
    const missing = join(folder, "missing");
    const error = await failureOf(
      findNatsServer({ env: environment({ NATS_SERVER_BIN: missing }) }),
    );
    expect(error.message).toContain(`${missing} cannot be run (there is no such file)`);
    expect(error.attempts).toHaveLength(1);
  });

  test("does not look further when NATS_SERVER_BIN is too old or something else", async () => {
    const old = await fakeServer(join(folder, "old"), "2.9.10");
    const other = join(folder, "other");
    await writeFile(other, "#!/bin/sh\necho hello\n", { mode: 0o755 });
    const plain = join(folder, "plain");
    await writeFile(plain, "");
    for (const [path, reason] of [
      [old, "is 2.9.10, older than 2.12.0"],
      [other, "does not say which nats-server it is"],
      [plain, "cannot be run (it is not executable)"],
    ] as const) {
      const error = await failureOf(
        findNatsServer({ env: environment({ NATS_SERVER_BIN: path }) }),
      );
      expect(error.message).toContain(`${path} ${reason}`);
    }
  });

  test("takes the one on PATH, past one that is too old", async () => {
    await fakeServer(join(folder, "bin", "nats-server"), "2.9.10");
    const path = await fakeServer(join(folder, "more", "nats-server"), "2.14.5");
    const env = environment({ PATH: `${join(folder, "bin")}:${join(folder, "more")}` });
    expect(await findNatsServer({ env })).toEqual({ path, version: "2.14.5", source: "PATH" });
  });

  test("takes the newest one of the cache when PATH has none", async () => {
    await putIntoCache("2.12.3");
    const path = await putIntoCache("2.14.5");
    await putIntoCache("2.13.0");
    expect(await findNatsServer({ env: environment() }, [])).toEqual({
      path,
      version: "2.14.5",
      source: "cache",
    });
  });

  test("fetches, in order, when there is none yet", async () => {
    const calls: string[] = [];
    const working: Fetcher = {
      source: "debian",
      place: "the package",
      fetch: async () => ({ path: "/fetched", version: "2.15.1" }),
    };
    const found = await findNatsServer({ env: environment() }, [
      failing("release", calls),
      working,
      failing("debian", calls),
    ]);
    expect(found).toEqual({ path: "/fetched", version: "2.15.1", source: "debian" });
    expect(calls).toEqual(["release"]);
  });

  test("fetches nothing when it must stay offline", async () => {
    const calls: string[] = [];
    const error = await failureOf(
      findNatsServer({ env: environment({ JETBUCKET_OFFLINE: "1" }) }, [failing("release", calls)]),
    );
    expect(calls).toEqual([]);
    expect(error.message).toContain("the release: not tried, since JETBUCKET_OFFLINE is set");
  });

  test("says what was tried, why it failed and what to do", async () => {
    await fakeServer(join(folder, "bin", "nats-server"), "2.9.10");
    const error = await failureOf(
      findNatsServer({ env: environment() }, [failing("release"), failing("debian")]),
    );
    expect(error.attempts).toEqual([
      { place: "NATS_SERVER_BIN", reason: "not set" },
      {
        place: "PATH",
        reason: `${join(folder, "bin", "nats-server")} is 2.9.10, older than 2.12.0`,
      },
      { place: `cache folder ${join(folder, "cache", "v1")}`, reason: "has none" },
      { place: "the release", reason: "no release today" },
      { place: "the debian", reason: "no debian today" },
    ]);
    for (const advice of ["install nats-server", "NATS_SERVER_BIN", "NATS_URL"]) {
      expect(error.message).toContain(advice);
    }
  });
});

describe("cacheFolder", () => {
  test.each([
    ["linux", { HOME: "/home/x" }, "/home/x/.cache/jetbucket/v1"],
    ["linux", { HOME: "/home/x", XDG_CACHE_HOME: "/caches" }, "/caches/jetbucket/v1"],
    ["linux", { HOME: "/home/x", XDG_CACHE_HOME: "relative" }, "/home/x/.cache/jetbucket/v1"],
    ["darwin", { HOME: "/Users/x" }, "/Users/x/Library/Caches/jetbucket/v1"],
    ["linux", { HOME: "/home/x", JETBUCKET_CACHE_DIR: "/elsewhere" }, "/elsewhere/v1"],
  ] as const)("is, on %s with %j, %s", (platform, env, path) => {
    expect(cacheFolder(env, platform)).toBe(path);
  });

  test("is in the local application data on Windows", () => {
    expect(cacheFolder({ LOCALAPPDATA: "/local" }, "win32")).toBe("/local/jetbucket/Cache/v1");
  });
});
