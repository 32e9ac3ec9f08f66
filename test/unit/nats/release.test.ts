import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { beforeEach, describe, expect, onTestFinished, test } from "vitest";

import { archiveName, RELEASE_VERSION, releaseFetcher, sumFor } from "../../../src/nats/release.ts";

test.each([
  ["linux", "x64", `nats-server-v${RELEASE_VERSION}-linux-amd64.tar.gz`],
  ["darwin", "arm64", `nats-server-v${RELEASE_VERSION}-darwin-arm64.tar.gz`],
  ["win32", "x64", `nats-server-v${RELEASE_VERSION}-windows-amd64.zip`],
  ["sunos", "x64", undefined],
])("names the archive for %s on %s", (platform, arch, name) => {
  expect(archiveName(platform, arch)).toBe(name);
});

test("finds a file's sum in SHA256SUMS", () => {
  const sums = `${"a".repeat(64)}  one.zip\n${"B".repeat(64)} *two.tar.gz\n`;
  expect(sumFor("one.zip", sums)).toBe("a".repeat(64));
  expect(sumFor("two.tar.gz", sums)).toBe("b".repeat(64));
  expect(() => sumFor("three.zip", sums)).toThrow("does not list three.zip");
});

const archive = archiveName(process.platform, process.arch);

describe.skipIf(archive === undefined || process.platform === "win32")("fetching", () => {
  let folder: string;
  let content: Buffer;
  let sum: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "jetbucket-release-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const inner = join(folder, `nats-server-v${RELEASE_VERSION}`);
    await mkdir(inner);
    const script = `#!/bin/sh\necho "nats-server: v${RELEASE_VERSION}"\n`;
    await writeFile(join(inner, "nats-server"), script, { mode: 0o755 });
    await writeFile(join(inner, "README.md"), "hello");
    const file = join(folder, "made.tar.gz");
    await promisify(execFile)("tar", ["-czf", file, "-C", folder, inner.split("/").at(-1)!]);
    content = await readFile(file);
    sum = createHash("sha256").update(content).digest("hex");
  });

  /** A release site on this machine that, like the real one, redirects to its storage. */
  async function serveRelease(sums: string): Promise<string> {
    const server = createServer((request, response) => {
      const path = request.url ?? "";
      if (path.endsWith("SHA256SUMS")) response.end(sums);
      else if (path === "/storage") response.end(content);
      else if (path === `/v${RELEASE_VERSION}/${archive}`) {
        response.writeHead(302, { location: "/storage" }).end();
      } else response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  function context() {
    return { cache: join(folder, "cache"), env: {}, onProgress: () => undefined };
  }

  test("keeps a program whose archive has the sum of SHA256SUMS", async () => {
    const site = await serveRelease(`${sum}  ${archive}\n`);
    const found = await releaseFetcher(site, {}).fetch(context());
    expect(found.version).toBe(RELEASE_VERSION);
    expect(await readdir(context().cache)).toEqual([found.path.split("/").at(-1)]);
  });

  test("prefers the pinned sum", async () => {
    const site = await serveRelease("");
    const found = await releaseFetcher(site, { [archive!]: sum }).fetch(context());
    expect(found.version).toBe(RELEASE_VERSION);
  });

  test("keeps nothing of an archive with another sum", async () => {
    const site = await serveRelease(`${"0".repeat(64)}  ${archive}\n`);
    await expect(releaseFetcher(site, {}).fetch(context())).rejects.toThrow(
      `SHA-256 ${sum}, not 0`,
    );
    expect(await readdir(context().cache)).toEqual([]);
  });

  test("lets several do it at once", async () => {
    const site = await serveRelease(`${sum}  ${archive}\n`);
    const fetcher = releaseFetcher(site, {});
    const found = await Promise.all([1, 2, 3, 4].map(() => fetcher.fetch(context())));
    expect(new Set(found.map(({ path }) => path)).size).toBe(1);
    expect(await readdir(context().cache)).toHaveLength(1);
  });

  test("says what the site answered", async () => {
    const site = await serveRelease("");
    await expect(releaseFetcher(`${site}/gone`, {}).fetch(context())).rejects.toThrow(
      "answered 404",
    );
  });

  test("says that the site is not reached", async () => {
    // Port 9 is the discard service, which no machine offers any more.
    await expect(releaseFetcher("http://127.0.0.1:9", {}).fetch(context())).rejects.toThrow(
      "127.0.0.1:9 not reached (ECONNREFUSED)",
    );
  });
});
