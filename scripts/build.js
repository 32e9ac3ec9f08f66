/**
 * Builds dist/: every module by tsc, and the browser SDK as one file by esbuild.
 *
 * `node scripts/build.js` builds; other scripts use `buildIfNeeded()`. Any number of them may run at once: one
 * builds, the others wait for it.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
const stampFile = join(dist, ".stamp");
const lockFile = join(dist, ".build-lock");
const buildInfo = join(dist, ".tsbuildinfo");
const browserBundle = join(dist, "browser", "jetbucket.js");

/** What every page that uses the SDK has to load, at most: bytes, gzipped. */
export const BROWSER_BUNDLE_LIMIT = 10_700;

/** Builds unless dist/ is what the sources say. Resolves to whether there was something to do. */
export async function buildIfNeeded() {
  if (isCurrent()) return false;
  return withLock(async () => {
    // Somebody else may have built while this waited.
    if (isCurrent()) return false;
    await build();
    return true;
  });
}

async function build() {
  const hash = hashOfSources();
  rmSync(stampFile, { force: true });
  const [, size] = await Promise.all([compile(), bundle()]);
  prune();
  writeFileSync(stampFile, hash);
  return size;
}

function isCurrent() {
  return (
    existsSync(stampFile) &&
    readFileSync(stampFile, "utf8") === hashOfSources() &&
    missingOutputs().length === 0 &&
    existsSync(browserBundle)
  );
}

/** Contents, not times: a checkout or a copy touches files without changing them. */
function hashOfSources() {
  const hash = createHash("sha256");
  const sources = filesUnder("src").map((file) => join("src", file));
  for (const file of ["package.json", "tsconfig.json", "tsconfig.build.json", ...sources]) {
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update("\0");
  }
  return hash.update(readFileSync(fileURLToPath(import.meta.url))).digest("hex");
}

function filesUnder(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .map((file) => file.slice(join(root, folder).length + 1))
    .sort();
}

function modules() {
  return filesUnder("src").filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts"));
}

function missingOutputs() {
  return modules().filter((file) => !existsSync(join(dist, file.replace(/\.ts$/, ".js"))));
}

async function compile() {
  await tsc();
  // An incremental build believes that what it once wrote is still there.
  if (missingOutputs().length > 0) {
    rmSync(buildInfo, { force: true });
    await tsc();
  }
}

function tsc() {
  const bin = join(
    dirname(createRequire(import.meta.url).resolve("typescript/package.json")),
    "bin",
    "tsc",
  );
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, "-p", "tsconfig.build.json"], {
      cwd: root,
      stdio: "inherit",
    });
    child.on("error", reject);
    child.on("exit", (code) =>
      code === 0 ? resolve() : reject(new Error("build: tsc found errors, see above")),
    );
  });
}

/** Resolves to the size of the bundle in bytes, gzipped. */
async function bundle() {
  // Loaded here: who finds dist/ as it should be needs no compiler.
  const [esbuild, terser] = await Promise.all([import("esbuild"), import("terser")]);
  const { outputFiles } = await esbuild.build({
    absWorkingDir: root,
    entryPoints: ["src/sdk/browser.ts"],
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    minify: true,
    write: false,
  });
  // A second look saves four bytes of a hundred.
  const { code } = await terser.minify(outputFiles[0].text, {
    module: true,
    ecma: 2020,
    compress: { passes: 3 },
  });
  const size = gzipSync(code, { level: 9 }).length;
  if (size >= BROWSER_BUNDLE_LIMIT) {
    throw new Error(
      `build: the browser SDK has ${size} bytes gzipped, the limit is ${BROWSER_BUNDLE_LIMIT}`,
    );
  }
  mkdirSync(dirname(browserBundle), { recursive: true });
  // A gateway that runs may be serving the file right now.
  writeFileSync(`${browserBundle}.new`, code);
  renameSync(`${browserBundle}.new`, browserBundle);
  return size;
}

/** Removes what was made of modules that are gone. */
function prune() {
  const outputs = new Set(
    modules().flatMap((file) =>
      [".js", ".js.map", ".d.ts"].map((ending) => file.replace(/\.ts$/, ending)),
    ),
  );
  for (const file of filesUnder("dist")) {
    if (/\.(js|js\.map|d\.ts)$/.test(file) && !file.startsWith("browser") && !outputs.has(file)) {
      rmSync(join(dist, file));
    }
  }
}

async function withLock(work) {
  mkdirSync(dist, { recursive: true });
  while (!takeLock()) await sleep(100);
  try {
    return await work();
  } finally {
    rmSync(lockFile, { force: true });
  }
}

function takeLock() {
  try {
    writeFileSync(lockFile, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  const owner = lockOwner();
  if (owner !== undefined && !isAlive(owner)) {
    // Its owner was killed. Two that notice at once must not take the lock from each other: only one can move the file
    // away, and it puts it back when it was a new one.
    const moved = `${lockFile}.${process.pid}`;
    try {
      renameSync(lockFile, moved);
      if (Number(readFileSync(moved, "utf8")) === owner) rmSync(moved);
      else renameSync(moved, lockFile);
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
  }
  return false;
}

/** The process that holds the lock; undefined while that is being written, or when it has just been let go. */
function lockOwner() {
  try {
    const pid = Number(readFileSync(lockFile, "utf8"));
    return pid > 0 ? pid : undefined;
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code !== "ESRCH";
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const started = Date.now();
  try {
    const size = await withLock(build);
    console.log(
      `built dist/ in ${((Date.now() - started) / 1000).toFixed(1)} s; browser SDK: ${size} bytes gzipped`,
    );
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
