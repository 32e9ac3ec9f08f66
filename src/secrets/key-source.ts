import { join } from "node:path";
import { createKeyFile, isExposed, readKeyFile, type KeyList } from "./key-file.ts";
import { MasterKeys } from "./master-keys.ts";

/** Where master keys can come from. */
export interface KeySource {
  /** Keys as they were given; they win over a file. */
  keys?: KeyList | undefined;
  /** A file that has to be there. */
  file?: string | undefined;
  /** A folder in which a file is made when nothing is given. Without one there are no keys then. */
  folder?: string | undefined;
}

/** Tells the operator about key files. */
export interface KeyNews {
  /** A key was made: without this file no secret can be read. */
  onCreated(file: string, keyId: string): void;
  /** Others than its owner may read the file. */
  onExposed(file: string): void;
}

/** Name of the file that is made in a data folder. */
const FILE = "master.key";

/**
 * Finds the master keys.
 *
 * @returns undefined when there are none
 * @throws Error that says which file is missing or wrong
 */
export async function findMasterKeys(
  { keys, file, folder }: KeySource,
  news: KeyNews,
): Promise<MasterKeys | undefined> {
  if (keys !== undefined) return new MasterKeys(keys);
  if (file !== undefined) {
    const read = await readKeyFile(file);
    if (read === undefined) throw new Error(`there is no file of master keys at ${file}`);
    if (await isExposed(file)) news.onExposed(file);
    return new MasterKeys(read);
  }
  if (folder === undefined) return undefined;
  const own = join(folder, FILE);
  const isNew = (await readKeyFile(own)) === undefined && (await createKeyFile(own));
  const read = await readKeyFile(own);
  if (read === undefined) throw new Error(`the master key at ${own} has just disappeared`);
  const masters = new MasterKeys(read);
  if (isNew) news.onCreated(own, masters.primary.id);
  else if (await isExposed(own)) news.onExposed(own);
  return masters;
}
