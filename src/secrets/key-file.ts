/** Files of master keys: one key of 64 hex digits a line, the primary first; empty lines and lines that begin with `#` are skipped. */
import { createSecretKey, randomBytes, type KeyObject } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, link, open, readFile, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** Keys of a file, at least one. */
export type KeyList = [KeyObject, ...KeyObject[]];

const KEY = /^[0-9a-f]{64}$/i;

/**
 * Reads master keys from a file.
 *
 * @returns undefined when there is no such file
 * @throws Error that names the file and the line, never what stands there
 */
export async function readKeyFile(path: string): Promise<KeyList | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
  const keys: KeyObject[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const key = line.trim();
    if (key === "" || key.startsWith("#")) continue;
    if (!KEY.test(key)) {
      throw new Error(`${path}, line ${index + 1}: a master key is 64 hex digits`);
    }
    keys.push(createSecretKey(key, "hex"));
  }
  const [first, ...others] = keys;
  if (first === undefined) throw new Error(`${path} holds no master key`);
  return [first, ...others];
}

/** Whether others than its owner may read a file. */
export async function isExposed(path: string): Promise<boolean> {
  return process.platform !== "win32" && ((await stat(path)).mode & 0o077) !== 0;
}

/**
 * Makes a file with a new random master key, for its owner only. It appears whole or not at all, and never replaces another.
 *
 * @returns whether it was made; false when there is one already
 */
export async function createKeyFile(path: string): Promise<boolean> {
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  const file = await open(draft, "wx", 0o600);
  try {
    try {
      await file.writeFile(
        `# jetbucket's master key. Without it no secret can be read: keep a copy elsewhere.\n${randomBytes(32).toString("hex")}\n`,
      );
      await file.sync();
    } finally {
      await file.close();
    }
    // A rename would replace a file that came meanwhile; a link does not.
    await link(draft, path).catch((error: unknown) => {
      if (codeOf(error) === "EEXIST") throw error;
      // Not every file system has links.
      return copyFile(draft, path, constants.COPYFILE_EXCL);
    });
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
  await syncFolder(dirname(path));
  return true;
}

/**
 * Secrets would be lost with the name of the file, if it were not on the disk when the first of them is. Not every file system
 * can be asked for that.
 */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r").catch(() => undefined);
  await folder?.sync().catch(() => undefined);
  await folder?.close();
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
