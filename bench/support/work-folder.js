import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TMPFS = 0x01021994;

/** Makes a folder for the data of one run, removed when the lifetime ends. */
export function workFolder(lifetime, parent = tmpdir()) {
  const folder = mkdtempSync(join(parent, "jetbucket-bench-"));
  lifetime.own(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Whether a folder is kept in memory, where flushing to disk costs nothing. */
export function isInMemory(folder) {
  return statfsSync(folder).type === TMPFS;
}
