import { statSync } from "node:fs";
import { open, stat } from "node:fs/promises";

const FOLLOW_MS = 500;
const MAX_READ = 256 * 1024;

/** The last lines of a file, at most `bytes` of it; empty when there is no such file. */
export async function tailOf(file: string, bytes = 4096): Promise<string> {
  try {
    const { size } = await stat(file);
    const from = Math.max(0, size - bytes);
    const text = await readPart(file, from, size);
    return (from > 0 ? text.slice(text.indexOf("\n") + 1) : text).trimEnd();
  } catch {
    return "";
  }
}

/**
 * Calls `onLine` for each line that is appended to a file from now on; copes with its rotation
 * and with its not existing yet.
 *
 * @returns stops following, after a last look at the file
 */
export function followLines(file: string, onLine: (line: string) => void): () => Promise<void> {
  const before = statSync(file, { throwIfNoEntry: false });
  let offset = before?.size ?? 0;
  let inode = before?.ino;
  let rest = "";
  let running: Promise<void> | undefined;

  async function look(): Promise<void> {
    const found = await stat(file).catch(() => undefined);
    if (found === undefined) return;
    // Rotation renames the file and starts a new one.
    if (found.ino !== inode || found.size < offset) {
      inode = found.ino;
      offset = 0;
      rest = "";
    }
    if (found.size === offset) return;
    const from = Math.max(offset, found.size - MAX_READ);
    const lines = (rest + (await readPart(file, from, found.size))).split("\n");
    offset = found.size;
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }

  function lookOnce(): Promise<void> {
    running ??= look()
      .catch(() => undefined)
      .finally(() => (running = undefined));
    return running;
  }

  const timer = setInterval(() => void lookOnce(), FOLLOW_MS);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await running;
    await lookOnce();
  };
}

async function readPart(file: string, from: number, to: number): Promise<string> {
  const handle = await open(file, "r");
  try {
    const buffer = Buffer.alloc(to - from);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, from);
    return buffer.toString("utf8", 0, bytesRead);
  } finally {
    await handle.close();
  }
}
