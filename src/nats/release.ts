import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";

import { keepInCache, withWorkFolder } from "./cache.ts";
import { downloadFile, downloadText } from "./download.ts";
import { errorCode } from "./errors.ts";
import type { Fetcher } from "./fetcher.ts";

const execute = promisify(execFile);

/** The official release that is fetched. */
export const RELEASE_VERSION = "2.14.5";
const RELEASE_SITE = "https://github.com/nats-io/nats-server/releases/download";
const EXTRACT_TIMEOUT_MS = 60_000;

/** SHA-256 of archives, as the official container build states them. */
const PINNED_SUMS: Readonly<Record<string, string>> = {
  "nats-server-v2.14.5-linux-amd64.tar.gz":
    "5e3b603d47c447bda1f77f9ac16dbf91c90aac4ff3681f8fbbc7201e4ed99355",
  "nats-server-v2.14.5-linux-arm64.tar.gz":
    "673a98d3faa79dde3f9ebf16d6dfac36a5f694e7ad2015e4954dd7939c85cd4c",
  "nats-server-v2.14.5-linux-arm7.tar.gz":
    "c8796b63a8603fdebabd63146ac3d3997c29a2829fdd2af6db320f4a287f2e71",
};

const SYSTEMS: Readonly<Record<string, string>> = {
  "linux-x64": "linux-amd64.tar.gz",
  "linux-arm64": "linux-arm64.tar.gz",
  "linux-arm": "linux-arm7.tar.gz",
  "darwin-x64": "darwin-amd64.tar.gz",
  "darwin-arm64": "darwin-arm64.tar.gz",
  "win32-x64": "windows-amd64.zip",
};

/** Fetches the official release archive, checked by its SHA-256. */
export const fetchRelease: Fetcher = releaseFetcher();

/** A fetcher of releases from another site, with other sums: for tests. */
export function releaseFetcher(
  site: string = RELEASE_SITE,
  pinned: Readonly<Record<string, string>> = PINNED_SUMS,
): Fetcher {
  return {
    source: "release",
    place: `release ${RELEASE_VERSION}`,
    async fetch({ cache, onProgress }) {
      const archive = archiveName(process.platform, process.arch);
      if (archive === undefined) {
        throw new Error(`there is none for ${process.platform} on ${process.arch}`);
      }
      const base = `${site}/v${RELEASE_VERSION}`;
      onProgress(`Fetching nats-server ${RELEASE_VERSION} (${base}/${archive})`);
      return withWorkFolder(cache, async (folder) => {
        const file = join(folder, archive);
        await downloadFile(`${base}/${archive}`, file);
        const expected =
          pinned[archive] ?? sumFor(archive, await downloadText(`${base}/SHA256SUMS`));
        const actual = await sha256(file);
        if (actual !== expected) {
          throw new Error(
            `${archive} is not what it should be: SHA-256 ${actual}, not ${expected}`,
          );
        }
        return keepInCache(cache, await extract(file, join(folder, "content")));
      });
    },
  };
}

/** The name of the release's archive for a system; undefined when there is none. */
export function archiveName(platform: string, arch: string): string | undefined {
  const system = SYSTEMS[`${platform}-${arch}`];
  return system === undefined ? undefined : `nats-server-v${RELEASE_VERSION}-${system}`;
}

/**
 * The sum of one file in the text of a SHA256SUMS file.
 *
 * @throws Error when it is not listed
 */
export function sumFor(name: string, sums: string): string {
  for (const line of sums.split("\n")) {
    const [, sum, file] = /^([0-9a-fA-F]{64})\s+\*?(?:\.\/)?(\S+)\s*$/.exec(line) ?? [];
    if (file === name && sum !== undefined) return sum.toLowerCase();
  }
  throw new Error(`SHA256SUMS does not list ${name}`);
}

async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

async function extract(archive: string, folder: string): Promise<string> {
  await mkdir(folder);
  const tools: [string, string[]][] = [["tar", ["-xof", archive, "-C", folder]]];
  // The tar of Windows reads zip archives, that of other systems may not.
  if (archive.endsWith(".zip")) tools.push(["unzip", ["-q", archive, "-d", folder]]);
  const failures: string[] = [];
  for (const [tool, parameters] of tools) {
    try {
      await execute(tool, parameters, { timeout: EXTRACT_TIMEOUT_MS, windowsHide: true });
      return await findProgram(folder);
    } catch (error) {
      failures.push(errorCode(error) === "ENOENT" ? `no ${tool} here` : String(error));
    }
  }
  throw new Error(`the archive cannot be extracted: ${failures.join("; ")}`);
}

async function findProgram(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const program = entries.find(
    (entry) => entry.isFile() && /^nats-server(\.exe)?$/.test(entry.name),
  );
  if (program === undefined) throw new Error("there is no nats-server in it");
  return join(program.parentPath, program.name);
}
