import { execFile } from "node:child_process";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import {
  debianEntries,
  parseDeb822,
  parseOneLine,
  renderForSuite,
  type SourceEntry,
} from "./apt-sources.ts";
import { keepInCache, withWorkFolder } from "./cache.ts";
import { errorCode } from "./errors.ts";
import type { Fetcher } from "./fetcher.ts";

const execute = promisify(execFile);

const APT_FOLDER = "/etc/apt";
const PACKAGE = "nats-server";
/** Debian's next release by its name, and by its role once it has another name. */
const SUITES = ["forky", "testing"];
const APT_TIMEOUT_MS = 120_000;

/**
 * Fetches the package of Debian's next release, for networks that have a Debian mirror but not
 * the release site. apt checks the signatures as always, but works in folders of its own: neither
 * the system's packages nor its package lists are touched, and no rights are needed.
 */
export const fetchFromDebian: Fetcher = {
  source: "debian",
  place: `Debian's ${PACKAGE} package`,
  async fetch({ cache, env, onProgress }) {
    const entries = await readDebianSources();
    if (entries.length === 0) throw new Error("apt has no source for Debian here");
    onProgress(`Fetching nats-server from Debian's next release (${SUITES.join(" or ")})`);
    const failures: string[] = [];
    for (const suite of SUITES) {
      for (const entry of entries) {
        try {
          return await withWorkFolder(cache, async (folder) => {
            const program = await fetchPackage(folder, entry, suite, env);
            return keepInCache(cache, program);
          });
        } catch (error) {
          failures.push(`${suite}: ${describe(error)}`);
        }
      }
    }
    throw new Error(failures.join("; "));
  },
};

/**
 * The sources of this machine that lead to Debian's main archive, best first; none where apt is
 * not in use.
 *
 * @param folder apt's configuration folder
 */
export async function readDebianSources(folder: string = APT_FOLDER): Promise<SourceEntry[]> {
  const parts = await readdir(join(folder, "sources.list.d")).catch(() => []);
  const files = ["sources.list", ...parts.sort().map((name) => join("sources.list.d", name))];
  const entries: SourceEntry[] = [];
  for (const file of files) {
    const parse = file.endsWith(".sources")
      ? parseDeb822
      : file.endsWith(".list")
        ? parseOneLine
        : undefined;
    if (parse === undefined) continue;
    entries.push(...parse(await readFile(join(folder, file), "utf8").catch(() => "")));
  }
  return debianEntries(entries);
}

/** Downloads the package of a Debian suite into a folder, unpacks it there, and returns the program's path. */
export async function fetchPackage(
  folder: string,
  entry: SourceEntry,
  suite: string,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const [lists, archives, content] = ["lists", "archives", "content"].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(join(archives, "archives", "partial"), { recursive: true });
  const sources = join(folder, "debian.sources");
  await writeFile(sources, renderForSuite(entry, suite));

  const options = [
    `Dir::Etc::sourcelist=${sources}`,
    "Dir::Etc::sourceparts=/dev/null",
    // Pins and a default release of the system would hide the package.
    "Dir::Etc::preferences=/dev/null",
    "Dir::Etc::preferencesparts=/dev/null",
    `APT::Default-Release=${suite}`,
    `Dir::State::Lists=${lists}`,
    `Dir::Cache=${archives}`,
    // The user that apt otherwise downloads as cannot write into our folders.
    "APT::Sandbox::User=root",
    "Acquire::Languages=none",
    "Acquire::Retries=1",
    "Acquire::http::Timeout=15",
    "Acquire::https::Timeout=15",
  ].flatMap((option) => ["-o", option]);
  const run = (tool: string, parameters: string[]) =>
    execute(tool, parameters, {
      cwd: folder,
      timeout: APT_TIMEOUT_MS,
      env: { ...env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
    });

  await run("apt-get", [...options, "update"]);
  await run("apt-get", [...options, "download", PACKAGE]);
  const archive = (await readdir(folder)).find((name) => name.endsWith(".deb"));
  if (archive === undefined) throw new Error("apt-get downloaded nothing");
  await run("dpkg", ["-x", join(folder, archive), content]);
  return join(content, "usr", "sbin", "nats-server");
}

function describe(error: unknown): string {
  if (errorCode(error) === "ENOENT") return "there is no apt-get or dpkg";
  const output =
    error instanceof Error && "stderr" in error && typeof error.stderr === "string"
      ? error.stderr
      : String(error);
  const lines = output.split("\n").filter((line) => /^[EW]: /.test(line));
  return (lines[0] ?? output.trim().split("\n").at(-1) ?? "").slice(0, 300);
}
