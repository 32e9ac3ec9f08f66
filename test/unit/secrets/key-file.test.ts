import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { createKeyFile, readKeyFile } from "../../../src/secrets/key-file.ts";
import { findMasterKeys } from "../../../src/secrets/key-source.ts";
import { readSettings } from "../../../src/settings.ts";

let folder: string;
let file: string;
const key = (digit: string): string => digit.repeat(64);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jetbucket-keys-"));
  file = join(folder, "master.key");
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
});

const news = () => ({ onCreated: vi.fn(), onExposed: vi.fn() });

describe("a key file", () => {
  test("is made for its owner only, holds one random key, and leaves nothing else behind", async () => {
    expect(await createKeyFile(file)).toBe(true);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readKeyFile(file)).toHaveLength(1);
    expect(await readdir(folder)).toEqual(["master.key"]);
    await createKeyFile(join(folder, "other"));
    const texts = [await readFile(file, "utf8"), await readFile(join(folder, "other"), "utf8")];
    const keys = texts.map((text) => /^[0-9a-f]{64}$/m.exec(text)![0]);
    expect(keys[0]).not.toBe(keys[1]);
  });

  test("is made once, however many try at the same time", async () => {
    const made = await Promise.all(Array.from({ length: 20 }, () => createKeyFile(file)));
    expect(made.filter(Boolean)).toHaveLength(1);
    expect(await readdir(folder)).toEqual(["master.key"]);
  });

  test("never replaces another", async () => {
    await writeFile(file, "something");
    expect(await createKeyFile(file)).toBe(false);
    expect(await readFile(file, "utf8")).toBe("something");
  });

  test("holds several keys, the primary first, with comments and empty lines between", async () => {
    await writeFile(file, `# new\n${key("a")}\r\n\n  # old\n ${key("B")} \n`);
    const keys = await readKeyFile(file);
    expect(keys?.map((each) => each.export().toString("hex"))).toEqual([key("a"), key("b")]);
  });

  test.each([
    ["no key", "# nothing\n", "holds no master key"],
    ["a short key", `${key("a")}\n${"a".repeat(63)}\n`, "line 2"],
  ])("with %s is refused, and what it holds is not repeated", async (_, text, message) => {
    await writeFile(file, text);
    const error = await readKeyFile(file).catch((thrown: unknown) => thrown as Error);
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).toContain(file);
    expect((error as Error).message).not.toContain("aaaa");
  });
});

describe("master keys are found", () => {
  test("where they were given, before any file", async () => {
    const keys = readSettings([], { JETBUCKET_MASTER_KEY: `${key("a")},${key("b")}` }).masterKeys;
    const masters = await findMasterKeys({ keys, folder }, news());
    const [first, second] = [...keys!];
    expect(masters?.primary.key.equals(first!)).toBe(true);
    expect(second).toBeDefined();
    expect(await readdir(folder)).toEqual([]);
  });

  test("in a file that was named, which has to be there", async () => {
    await expect(findMasterKeys({ file }, news())).rejects.toThrow(file);
    await writeFile(file, key("a"), { mode: 0o600 });
    expect((await findMasterKeys({ file }, news()))?.primary.id).toMatch(/^[0-9a-f]{8}$/);
  });

  test("in the data folder, where a file is made and named once", async () => {
    const told = news();
    const first = await findMasterKeys({ folder }, told);
    const second = await findMasterKeys({ folder }, told);
    expect(second?.primary.id).toBe(first?.primary.id);
    expect(told.onCreated.mock.calls).toEqual([[file, first?.primary.id]]);
    expect(told.onExposed).not.toHaveBeenCalled();
  });

  test("nowhere when nothing says where", async () => {
    expect(await findMasterKeys({}, news())).toBeUndefined();
  });

  test("with a warning when others may read the file", async () => {
    await createKeyFile(file);
    await chmod(file, 0o640);
    for (const source of [{ file }, { folder }]) {
      const told = news();
      await findMasterKeys(source, told);
      expect(told.onExposed).toHaveBeenCalledWith(file);
    }
  });
});

describe("the setting", () => {
  test.each([key("g"), "a".repeat(63), `${key("a")},x`, ","])(
    "refuses %j without repeating it",
    (value) => {
      const read = (): unknown => readSettings([], { JETBUCKET_MASTER_KEY: value });
      expect(read).toThrow(/^JETBUCKET_MASTER_KEY: (?!.*(?:aaa|ggg))/);
    },
  );

  test("refuses keys and a file of keys together", () => {
    const env = { JETBUCKET_MASTER_KEY: key("a"), JETBUCKET_MASTER_KEY_FILE: file };
    expect(() => readSettings([], env)).toThrow(/both/);
  });

  test("holds nothing that shows the key", () => {
    const settings = readSettings([], { JETBUCKET_MASTER_KEY: key("a") });
    expect(JSON.stringify(settings)).not.toContain("aaaa");
  });
});
